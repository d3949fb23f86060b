"""The gofer: the process that holds a container's written layer, from its creation to its removal.

It makes the overlay in a mount namespace of its own, gives it to the container's init, and stays. So
nothing is ever mounted on the host, the layer can be exported after the container's end, and it goes
with the last process that uses it, however these end. It lives beside the container, not in it: in
the user namespace, so that the layer is the container's, but in no other that init is in.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import select

from asyncrt import _csignal, _libc, _paths, _procid
from asyncrt.launch import (
    cgroup,
    frames,
    fuse,
    handover,
    inside,
    layer,
    namespaces,
    overlay,
    process,
)
from asyncrt.launch.failure import Failure, reported, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from asyncrt.launch.plan import LinuxPlan

_PIDS = "pid", "pid_for_children"  # pid_namespaces(7)


class Gofer:
    """A gofer on its way, as its container's init knows it.

    `above` is the end of its socket that the supervisor is to have, see asyncrt.launch.handover; when
    it closes the gofer ends.
    """

    __slots__ = (
        "_below",
        "_cgroups",
        "_format",
        "_locked",
        "_mount",
        "_ours",
        "_outside",
        "_plan",
        "_server",
        "_theirs",
        "_watched",
        "above",
        "identity",
    )

    def __init__(self, plan: LinuxPlan, cgroups: Sequence[str], *, outside: bool) -> None:
        """`outside`: it stays out of the container's user namespace, with the launcher's privilege.

        `cgroups` are those of its supervisor, where whoever forks it isn't in them.
        """
        self._plan = plan
        self._cgroups = cgroups
        self._outside = outside
        # With the lock of a kept layer, which ends with us as the use of the directory does; or -1.
        self._locked = plan["overlay"]["locked"]
        self.above, self._below = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._ours, self._theirs = _socket.socketpair()
        self.identity: dict[str, Any] | None = None  # once `tree` has returned
        self._watched = False  # by the container's root, who has power over what we execute
        self._server = -1  # a pidfd of who serves the overlay; -1: the kernel does
        self._mount = -1  # then the overlay itself, open, or that would end with the container
        self._format: layer.Format = ((), False)

    @property
    def fds(self) -> list[int]:
        """What the process that forks it has to keep open until then."""
        return [self._below.fileno(), self._theirs.fileno(), self._locked]

    @property
    def handed(self) -> tuple[int, int] | None:
        """Its pid and the socket to it, once `tree` has returned."""
        return None if self.identity is None else (self.identity["pid"], self.above.fileno())

    def fork(self, pid: int = 0) -> None:
        """Fork it, a child of our parent. Raises Failure.

        `pid` is the process whose new user namespace it joins, 0 if it is in the right one.
        """
        user = -1
        with step(overlay.WHAT, "gofer"):
            self._watched = not self._outside and not self._plan["new"] & namespaces.CLONE_NEWPID
            ours, theirs = (os.stat(f"/proc/self/ns/{each}") for each in _PIDS)
            if ours.st_ino != theirs.st_ino:
                # By its pid in there it would be taken for somebody else out here.
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), f"/proc/self/ns/{_PIDS[1]}")
            if pid:
                # Now, before that process lets nobody look at it.
                user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            doors = cgroup.Doors(self._cgroups)
            if doors.bear(namespaces.CLONE_PARENT) == 0:
                self._live(user, doors)

    def tree(self) -> int:
        """The overlay as a detached mount, in init. Raises Failure."""
        self._below.close()
        self._theirs.close()
        if self._locked >= 0:
            os.close(self._locked)
        try:
            said, fds = frames.receive_message(self._ours)
        except EOFError:
            raise reported(b"") from None
        self._ours.close()
        if "failed" in said:
            failed = said["failed"]
            raise Failure(failed["what"], failed["path"], failed["errno"])
        self.identity = said["gofer"]
        return fds[0]

    def _live(self, user: int, doors: cgroup.Doors) -> NoReturn:
        code = 1
        try:
            doors.enter()
            os.setsid()
            process.close_all_but((*self.fds, user))
            _libc.set_name(_paths.GOFER_COMM)
            who = _procid.facts(os.getpid())
            # Who is root in the container is so in our user namespace as well.
            _libc.set_undumpable()
            if user >= 0:
                namespaces.setns(user, namespaces.CLONE_NEWUSER)
            self._make({"gofer": who, "fds": 1})
            _csignal.signal(_csignal.SIGCHLD, _csignal.SIG_IGN)  # nobody waits for an export
            _csignal.signal(_csignal.SIGPIPE, _csignal.SIG_IGN)  # nor dies of a reader that went
            self._serve()
            code = 0
        except Failure as failure:
            self._refuse(failure)
        except OSError as error:
            self._refuse(Failure(overlay.WHAT, str(error.filename or ""), error.errno or 0))
        finally:
            os._exit(code)

    def _refuse(self, failure: Failure) -> None:
        frames.send(self._theirs, frames.encode({"failed": failure.report()}))

    def _make(self, said: dict[str, object]) -> None:
        """Make the overlay, give it away, and go where nothing but the layer is. Raises Failure."""
        linux = self._plan
        root = linux["root"]
        assert root is not None  # noqa: S101 - an overlay is over one
        maps = linux["maps"] if self._outside else None
        found = overlay.Layer(linux["overlay"], root["path"], maps, watched=self._watched)
        if linux["ids"] is not None and not self._outside:
            namespaces.become_owner(*linux["ids"])
            _libc.set_undumpable()  # another user makes it as it was
        tree, look = found.mount()
        self._format = ((overlay.attribute_prefix(),), False)
        if found.server is not None:
            self._server, self._mount = found.server.pidfd, tree
            self._format = fuse.MARKS, True
        inside.forbid_imports()
        found.enter(look)
        os.umask(0)
        frames.send(self._theirs, frames.encode(said), [tree])
        process.close_all_but((self._below.fileno(), self._locked, self._server, self._mount))

    def _serve(self) -> None:
        """Export whenever asked, until the other end is gone, or nobody serves the overlay any more."""
        poller = select.poll()
        if self._server >= 0:
            poller.register(self._server, select.POLLIN)
            poller.register(self._below, select.POLLIN)
        while True:
            if self._server >= 0 and any(fd == self._server for fd, _ in poller.poll()):
                return
            asked, fds = frames.receive(self._below, 16)
            if not asked:
                return
            if asked == handover.EXPORT and len(fds) == 1:
                self._export(fds[0])
            for fd in fds:
                os.close(fd)

    def _export(self, out: int) -> None:
        """In a process of its own: a reader may take its time, or never read again."""
        above = os.getpid()
        try:
            if os.fork():
                return
        except OSError as error:
            with contextlib.suppress(OSError):  # nobody reads it any more
                layer.refuse(out, error.errno or 0)
            return
        code = 1
        try:
            _libc.die_with_parent(above)
            root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            process.close_all_but((out, root, self._mount))
            maps = self._plan["maps"] if self._outside else None
            lines = [] if maps is None else [maps["uid"], maps["gid"]]
            if self._mount >= 0:
                self._sync()
            layer.export(out, root, self._format, lines)
            code = 0
        finally:
            os._exit(code)

    def _sync(self) -> None:
        """Have what was written to memory maps in the layer; the kernel keeps it for a while.

        Its own overlay has the layer's pages, there is nothing to wait for.
        """
        top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._mount)
        _libc.call("syncfs", top)
        os.close(top)
