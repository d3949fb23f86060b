"""Init's side of what it shares with the process above it: what that gets, what wakes it, what it hears."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time

from asyncrt import _cjson, _procid, clock
from asyncrt.launch import frames, handover

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Sequence
    from typing import Any

    from asyncrt.launch.failure import Failure
    from asyncrt.launch.inside import Inside
    from asyncrt.launch.own_cgroups import Cgroups

_TRIES = 50
_RETRY_SECONDS = 0.02


class Parent:
    """The process above us.

    `pid` is its own, `identities` tells who it is and who we are, `watch` leads there, `theirs` is
    the other end of that, `alarm` is the epoll instance that it sleeps on: what is added to it here
    wakes it (epoll(7), shared over fork).
    `exempt`: descriptors may lie in its socket for as long as it sleeps, see `_must_take`. `waiting`:
    where init is not the spare any more but a child that it cloned, what the spare waits at, to be
    closed once the process above knows of the child.

    Above one more container of a sandbox it is awake: `alarm` is None and `theirs` -1. `score` is
    what such an init has without an OOM score of its own, and `shared` the sandbox's namespaces.
    `null` is a mount of /dev/null that sandboxes open theirs through, -1: there is none.
    """

    __slots__ = (
        "alarm",
        "exempt",
        "identities",
        "null",
        "pid",
        "score",
        "shared",
        "theirs",
        "waiting",
        "watch",
    )

    def __init__(
        self,
        pid: int,
        watch: _socket.socket,
        theirs: int = -1,
        alarm: select.epoll | None = None,
        *,
        exempt: bool = True,
        null: int = -1,
        score: int | None = None,
        shared: Sequence[int] = (),
    ) -> None:
        self.pid = pid
        self.score = score
        self.shared = shared
        # Now, while nobody waits for it, and before another user, whom /proc may show less.
        self.identities: dict[str, Any] = {
            "init": _procid.facts(os.getpid()),
            "launcher": _procid.facts(pid),
        }
        self.watch = watch
        self.theirs = theirs
        self.alarm = alarm
        self.exempt = exempt
        self.null = null
        self.waiting: _socket.socket | None = None

    def hung_up(self, *, inside: bool) -> bool:
        """Whether it is gone; `inside`: namespaces that are the container's own."""
        if not inside:
            return os.getppid() != self.pid
        # From inside a pid namespace no parent can be seen. Our copy of its end would keep it open.
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1
        poller = select.poll()
        poller.register(self.watch, select.POLLIN)
        return bool(poller.poll(0))

    def hand_over(
        self,
        role: bytes,
        message: dict[str, Any],
        fds: list[int],
        control: _socket.socket | None,
        held: list[int],
        cgroups: Cgroups,
        inside: Inside | None,
    ) -> None:
        """Give it what it is to have, and have it sleep until it is needed.

        `fds` are the container's directory and the creator's connection; `held` those of the
        workload's streams that it is at the other end of.
        """
        if self.waiting is not None:
            from asyncrt.launch import namespaces  # it is there already

            self.identities["init"] = namespaces.identity(self.waiting)
        handover.send(
            self.watch,
            role,
            [*fds, *(() if control is None else (control.fileno(),)), *held],
            durable=message["durable"],
            deadline=message["deadline"],
            lease=message.get("lease"),
            instance=message["instance"],
            pid=self.identities["init"]["pid"],
            score=message.get("score"),
            cgroups=cgroups.opened,
            namespaces=() if inside is None else inside.opened,
            gofer=None if inside is None or inside.gofer is None else inside.gofer.handed,
        )
        if self.alarm is not None:
            self._set_alarm(self.alarm, role, message, fds[1], control, held)
        if self.waiting is not None:
            self.waiting.close()

    def _set_alarm(
        self,
        alarm: select.epoll,
        role: bytes,
        message: dict[str, Any],
        creator: int,
        control: _socket.socket | None,
        held: list[int],
    ) -> None:
        """Say what is to wake it."""
        if control is not None:
            alarm.register(control, select.EPOLLIN)
            alarm.register(creator, select.EPOLLONESHOT)
        heard = message["deadline"] is not None or message.get("score") is not None
        if role == frames.ONE_SHOT or heard or held:
            alarm.register(self.theirs, select.EPOLLIN)
        elif self._must_take(message):
            alarm.register(self.theirs, select.EPOLLIN | select.EPOLLONESHOT)

    def _must_take(self, message: dict[str, Any]) -> bool:
        """Whether it is to take what was handed over now, before it sleeps on.

        It does if there is a spare to be reaped. And a user may have no more descriptors lying in
        sockets than it may have open files (unix(7), ETOOMANYREFS): 341 containers reached the usual
        1024, and then none of that user's programs could pass descriptors. They count for who sends
        them, and init is the container's user by now.
        """
        plan = message["plan"]
        return not self.exempt or plan["uid"] is not None or self.waiting is not None

    def acknowledged(self, role: bytes, message: dict[str, Any], creator: _socket.socket) -> bool:
        """Pass on that the creation is done; whether its end is ours from here on."""
        # A supervisor that has just been killed is no signal to die by: its end is no exit.
        _insist(self.watch.send, handover.ACKNOWLEDGED, frames.NOSIGNAL)
        if role == frames.ONE_SHOT:
            return False
        if self.alarm is None:
            return True
        # From here on what the creator says is the supervisor's to hear.
        events = select.EPOLLIN | select.EPOLLONESHOT
        if message.get("lease") is not None:
            events |= select.EPOLLRDHUP  # its end is to be heard as well
        _insist(self.alarm.modify, creator, events)
        return True

    def started(self) -> None:
        """Tell that the program is to be executed now; whoever is gone needs to hear of nothing."""
        with contextlib.suppress(OSError):
            _insist(self.watch.send, handover.STARTED + clock.stamp().encode(), frames.NOSIGNAL)

    def failed(self, failure: Failure) -> None:
        """Tell why it isn't executed."""
        said = handover.FAILED + _cjson.dumps(failure.report()).encode()
        with contextlib.suppress(OSError):
            self.watch.send(said, frames.NOSIGNAL)


def _insist(call: Callable[..., object], *arguments: object) -> None:
    """Call, again for a while where the kernel has no memory for it.

    A parent that isn't told here would never know: not that it is wanted, and not of the start.
    """
    for _ in range(_TRIES):
        try:
            call(*arguments)
        except OSError as error:
            if error.errno not in {errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC}:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return
    call(*arguments)
