"""The gofer: the process that holds a container's written layer, from its creation to its removal.

It makes the overlay in a mount namespace of its own, gives it to the container's init, and stays. So
nothing is ever mounted on the host, the layer can be exported after the container's end, and it goes
with the last process that uses it, however these end. It lives beside the container, not in it: in
the user namespace, so that the layer is the container's, but in no other that init is in.
"""

from __future__ import annotations

import _socket
import contextlib
import os

from asyncrt import _csignal, _libc, _paths, _procid
from asyncrt.launch import frames, handover, inside, layer, namespaces, overlay, process
from asyncrt.launch.failure import Failure, reported, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from asyncrt.launch.plan import LinuxPlan


class Gofer:
    """A gofer on its way, as its container's init knows it.

    `above` is the end of its socket that the supervisor is to have, see asyncrt.launch.handover; when
    it closes the gofer ends.
    """

    __slots__ = ("_below", "_locked", "_ours", "_outside", "_plan", "_theirs", "above", "identity")

    def __init__(self, plan: LinuxPlan, *, outside: bool) -> None:
        """`outside`: it stays out of the container's user namespace, with the launcher's privilege."""
        self._plan = plan
        self._outside = outside
        # With the lock of a kept layer, which ends with us as the use of the directory does; or -1.
        self._locked = plan["overlay"]["locked"]
        self.above, self._below = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._ours, self._theirs = _socket.socketpair()
        self.identity: dict[str, Any] | None = None  # once `tree` has returned

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
            if pid:
                # Now, before that process lets nobody look at it.
                user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            if _libc.clone(namespaces.CLONE_PARENT) == 0:
                self._live(user)

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

    def _live(self, user: int) -> NoReturn:
        code = 1
        try:
            os.setsid()
            process.close_all_but((*self.fds, user))
            _libc.set_name(_paths.GOFER_COMM)
            who = _procid.facts(os.getpid())
            # Who is root in the container is so in our user namespace as well.
            _libc.set_undumpable()
            if user >= 0:
                namespaces.setns(user, namespaces.CLONE_NEWUSER)
            prefix = self._make({"gofer": who, "fds": 1})
            _csignal.signal(_csignal.SIGCHLD, _csignal.SIG_IGN)  # nobody waits for an export
            _csignal.signal(_csignal.SIGPIPE, _csignal.SIG_IGN)  # nor dies of a reader that went
            self._serve(prefix)
            code = 0
        except Failure as failure:
            self._refuse(failure)
        except OSError as error:
            self._refuse(Failure(overlay.WHAT, str(error.filename or ""), error.errno or 0))
        finally:
            os._exit(code)

    def _refuse(self, failure: Failure) -> None:
        frames.send(self._theirs, frames.encode({"failed": failure.report()}))

    def _make(self, said: dict[str, object]) -> str:
        """Make the overlay, give it away, and go where nothing but the layer is. Raises Failure."""
        linux = self._plan
        root = linux["root"]
        assert root is not None  # noqa: S101 - an overlay is over one
        maps = linux["maps"] if self._outside else None
        found = overlay.Layer(linux["overlay"], root["path"], maps)
        prefix = overlay.attribute_prefix()
        if linux["ids"] is not None and not self._outside:
            namespaces.become_owner(*linux["ids"])
            _libc.set_undumpable()  # another user makes it as it was
        tree, look = found.mount()
        inside.forbid_imports()
        found.enter(look)
        os.umask(0)
        frames.send(self._theirs, frames.encode(said), [tree])
        process.close_all_but((self._below.fileno(), self._locked))
        return prefix

    def _serve(self, prefix: str) -> None:
        """Export whenever asked, until the other end is gone."""
        while True:
            asked, fds = frames.receive(self._below, 16)
            if not asked:
                return
            if asked == handover.EXPORT and len(fds) == 1:
                self._export(fds[0], prefix)
            for fd in fds:
                os.close(fd)

    def _export(self, out: int, prefix: str) -> None:
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
            process.close_all_but((out, root))
            maps = self._plan["maps"] if self._outside else None
            lines = [] if maps is None else [maps["uid"], maps["gid"]]
            layer.export(out, root, prefix, lines)
            code = 0
        finally:
            os._exit(code)
