"""A lean process that forks supervisors, so that a create costs a fork and no interpreter's start.

The engine starts it lazily with one end of a socket pair as descriptor 3. It keeps one spare process
that waits on that socket with an init already forked below it: a create wakes the spare, and the
next one is forked while the container is on its way. Each request is one byte, the role, with one
descriptor: the socket the process shall talk to its engine over. All of it ends when the engine's
end closes; what took a request stays.

Roles: S supervisor, O one-shot, H hook.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket

from asyncrt import _libc
from asyncrt.launch import frames, spawn
from asyncrt.supervisor import hook_runner, one_shot, rehearsal, supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

ROLES: dict[bytes, Callable[[socket.socket, int, spawn.Spare], None]] = {
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
    while not _hung_up(requests):
        try:
            _keep_a_spare(requests, umask)
        except OSError as error:
            _refuse(requests, error)


def _hung_up(requests: socket.socket) -> bool:
    poller = select.poll()
    poller.register(requests, 0)
    return bool(poller.poll(0))


def _keep_a_spare(requests: socket.socket, umask: int) -> None:
    """Fork a spare and wait until it has taken a request, or ended."""
    taken, taking = os.pipe()
    try:
        try:
            if os.fork() == 0:
                _as_spare(requests, taking, umask)
        finally:
            os.close(taking)
        os.read(taken, 1)  # ends when the spare closes its end
    finally:
        os.close(taken)


def _as_spare(requests: socket.socket, taking: int, umask: int) -> NoReturn:
    code = 1
    try:
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _libc.set_name("asyncrt:spare")
        os.setsid()
        _libc.become_subreaper()
        spare = spawn.spare_init()
        rehearsal.rehearse()
        role, fds = frames.receive(requests, 1)
        os.close(taking)
        requests.close()
        if role:
            ROLES[role](socket.socket(fileno=fds[0]), umask, spare)
        code = 0
    finally:
        os._exit(code)


def _refuse(requests: socket.socket, error: OSError) -> None:
    """No process can be forked: whoever asks next hears why."""
    _, fds = frames.receive(requests, 1)
    for fd in fds:
        peer = socket.socket(fileno=fd)
        failure = {"what": "fork", "path": "", "errno": error.errno, "hook": ""}
        frames.send(peer, frames.encode({"failed": failure}))
        peer.close()
