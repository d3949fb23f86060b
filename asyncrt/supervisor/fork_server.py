"""A lean process that forks supervisors, so that a create costs a fork and no interpreter's start.

The engine starts it lazily with one end of a socket pair as descriptor 3. Each request is one byte,
the role, with one descriptor: the socket the new process shall talk to its engine over. It ends
when the engine's end closes; what it forked stays.

Roles: S supervisor, O one-shot, H hook.
"""

from __future__ import annotations

import gc
import os
import signal
import socket

from asyncrt import _libc
from asyncrt.supervisor import hook_runner, one_shot, supervisor, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ROLES: dict[bytes, Callable[[socket.socket, int], None]] = {
    b"S": supervisor.main,
    b"O": one_shot.main,
    b"H": hook_runner.main,
}


def main() -> None:
    """Serve descriptor 3 until its other end closes."""
    os.closerange(4, 1 << 30)
    os.chdir("/")
    umask = os.umask(0o077)
    # Children are reaped by the kernel; each role takes the default back (signal(7)).
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # A Ctrl-C or a hang-up at the engine's terminal isn't meant for what outlives the engine.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _libc.set_name("asyncrt:forks")
    requests = socket.socket(fileno=3)
    # What is never collected stays shared with every child: a collection writes to each object.
    gc.disable()
    gc.freeze()
    while True:
        role, fds = wire.receive(requests, 1)
        if not role:
            return
        for fd in fds:
            _fork(role, fd, requests, umask)


def _fork(role: bytes, fd: int, requests: socket.socket, umask: int) -> None:
    peer = socket.socket(fileno=fd)
    try:
        pid = os.fork()
    except OSError as error:
        failure = {"what": "fork", "path": "", "errno": error.errno, "hook": ""}
        wire.send(peer, wire.encode({"failed": failure}))
        peer.close()
        return
    if pid:
        peer.close()
        return
    code = 1
    try:
        requests.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        ROLES[role](peer, umask)
        code = 0
    finally:
        os._exit(code)
