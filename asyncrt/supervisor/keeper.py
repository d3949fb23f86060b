"""From a spare process to a supervisor or a one-shot: who stays above an init.

It sleeps until something happens: init ended, a client came, an orphan is to be reaped. An idle
supervisor has run next to no code since its fork, and that is what keeps it small: each page that
Python's reference counts touch becomes a process's own, and there may be a thousand supervisors.
"""

from __future__ import annotations

import _socket
import os
import signal
import socket
from select import EPOLLHUP, EPOLLIN, epoll

from asyncrt import _durable, _libc, _paths
from asyncrt.launch import handover, init
from asyncrt.supervisor import one_shot
from asyncrt.supervisor.supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_PIPE = os.O_NONBLOCK | os.O_CLOEXEC


def spare(requests: int, taking: int, umask: int) -> NoReturn:
    """Fork an init that waits for a request, keep what it launches, never return.

    SIGCHLD must have a handler already, or no wake-up byte is written for it. The socket pair comes
    from the C half of the socket module, and descriptors stay numbers: the Python half touches ten
    pages more.
    """
    code = 1
    try:
        os.setsid()
        _libc.become_subreaper()
        alarm = epoll()
        wakeup, wake = os.pipe2(_PIPE)
        signal.set_wakeup_fd(wake)
        alarm.register(wakeup, EPOLLIN)
        one, other = _socket.socketpair()
        ours, theirs = one.detach(), other.detach()
        pid = os.fork()
        if pid == 0:
            init.live(requests, taking, ours, theirs, alarm, umask)
        os.close(taking)
        os.close(requests)
        os.close(theirs)
        # A creator that closes its end is no reason to wake up, and told but once (see init). Init
        # has our number for its watch open, so the creator can't have that one there.
        fd, events = alarm.poll()[0]
        while events & EPOLLHUP and fd != ours:
            fd, events = alarm.poll()[0]
        # From here on it is awake, and no page needs to be spared.
        watch = socket.socket(fileno=ours)
        found = handover.receive(watch)
        while found is None and _lives(pid):
            alarm.poll()
            found = handover.receive(watch)
        if found is not None:  # else init was told no, or nobody wants it any more
            _keep(pid, watch, wakeup, umask, *found)
        code = 0
    finally:
        os._exit(code)


def _lives(pid: int) -> bool:
    """Whether our child hasn't ended yet; it stays to be reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _keep(
    pid: int,
    watch: socket.socket,
    wakeup: int,
    umask: int,
    role: bytes,
    durable: bool,  # noqa: FBT001 - as they come out of the handover
    deadline: float,
    instance: bytes,
    fds: list[int],
) -> None:
    if role == init.ONE_SHOT:
        one_shot.keep(pid, watch)
        return
    dir_fd, creator, control = fds
    try:
        Supervisor(
            init=pid,
            watch=watch,
            wakeup=wakeup,
            creator=creator,
            dir_fd=dir_fd,
            control=control,
            umask=umask,
            durable=durable,
            deadline=deadline,
            instance=instance.decode(),
        ).run()
    except Exception:
        import traceback

        # The last chance to tell an operator what happened.
        text = traceback.format_exc().encode()
        _durable.replace(dir_fd, _paths.CRASH, text, durable=False)
        raise
