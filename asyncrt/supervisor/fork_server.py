"""A lean process that forks supervisors, so that a create costs a fork and no interpreter's start.

The engine starts it lazily with one end of a socket pair as descriptor 3. It keeps one spare pair of
processes, a supervisor to be and below it an init to be, which waits on that socket: a create wakes
it, and the next pair is forked once that is launched, or the next request is there. Each request is
one byte, the role (see asyncrt.launch.frames), with one descriptor: the socket to talk to the engine
over. All of it ends when the engine's end closes; what took a request stays.
"""

from __future__ import annotations

import _socket
import gc
import os
import select

from asyncrt import _csignal, _procid
from asyncrt.launch import devices, init, inside, joining, rehearsal
from asyncrt.supervisor import keeper
from asyncrt.supervisor.keeper import spare

# Enough for the interpreter to have specialised the code that every child runs (PEP 659): what is
# rewritten here is shared with the children, what is rewritten there costs each of them pages.
_REHEARSALS = 10

# What only some containers need: shared with all from here, where the children's own import would
# take milliseconds of a create.
_PRELOADED = (inside, joining)

_EXEMPT = 1 << _procid.CAP_SYS_ADMIN | 1 << _procid.CAP_SYS_RESOURCE


def main() -> None:
    """Serve descriptor 3 until its other end closes."""
    os.closerange(4, 1 << 30)
    umask = os.umask(0o077)
    _csignal.signal(_csignal.SIGCHLD, _reap)
    # A Ctrl-C or a hang-up at the engine's terminal isn't meant for what outlives the engine.
    for number in (_csignal.SIGINT, _csignal.SIGHUP):
        _csignal.signal(number, _csignal.SIG_IGN)
    try:
        os.chdir("/")
        _procid.set_name("asyncrt:super")  # the supervisors inherit it
    except OSError:
        os._exit(1)  # whoever asked starts another
    requests = _socket.socket(fileno=3)
    exempt = _is_exempt()
    null = devices.guarded_null()
    for _ in range(_REHEARSALS):
        rehearsal.rehearse()
        keeper.rehearse()
        _reap(0, None)
    # What is never collected stays shared with every child: a collection writes to each object.
    gc.collect()
    gc.disable()
    gc.freeze()
    wanted = True
    while wanted:
        try:
            wanted = _keep_a_spare(requests, umask, exempt, null) or not _hung_up(requests)
        except OSError as error:
            keeper.refuse(requests, error)


# True in the fork server only: its children keep the handler, for the byte that the signal
# writes to their wake-up descriptor, but reap for themselves.
_reaping = [True]


def _reap(number: int, frame: object) -> None:  # noqa: ARG001 - a signal handler's arguments
    """Take note of supervisors that ended, whose parent this process is while it lives."""
    while _reaping[0]:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _hung_up(requests: _socket.socket) -> bool:
    poller = select.poll()
    poller.register(requests, 0)
    return bool(poller.poll(0))


def _is_exempt() -> bool:
    """Whether any number of descriptors may lie in our sockets (unix(7), ETOOMANYREFS)."""
    return bool(_procid.capabilities() & _EXEMPT)


def _keep_a_spare(
    requests: _socket.socket,
    umask: int,
    exempt: bool,  # noqa: FBT001 - passed down
    null: int,
) -> bool:
    """Fork a spare pair and wait until it has taken a request, or ended without one."""
    fd = requests.fileno()
    taken, taking = os.pipe()
    try:
        try:
            if os.fork() == 0:
                _reaping[0] = False
                spare(fd, taking, umask, exempt, null)
        finally:
            os.close(taking)
        if os.read(taken, 1) != init.TAKEN:
            return False
        # Not beside the launch, unless somebody waits: the two would slow each other down.
        launching = select.poll()
        launching.register(taken, 0)  # its end is told anyway
        launching.register(requests, select.POLLIN)
        launching.poll()
        return True
    finally:
        os.close(taken)
