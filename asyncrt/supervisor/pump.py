"""From the FIFOs that a workload writes to into its logs.

The workload holds its FIFOs open for reading and writing, so that it never gets a SIGPIPE, whoever
of us dies: at worst it waits on a full FIFO until somebody pumps on. The supervisor pumps for as
long as it lives. After it `main` does, in a process that an engine starts with the flock on `logs/`
in its hands: an engine takes it through portalocker, makes sure under it that the supervisor the
record names is dead, which is for ever, and passes the locked descriptor on. So there is never more
than one, and no lock that a killed one leaves.
"""

from __future__ import annotations

import os
import select

from asyncrt import _paths, _procid
from asyncrt.supervisor.log_files import LogWriter, read_options
from asyncrt.supervisor.log_taken import Taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.supervisor.loop import Loop

PUMP_COMM = "asyncrt:pump"  # what a pump that goes on for a dead supervisor calls itself
DIRECTORY_FD, LOGS_FD = 3, 4  # what it is given

_CHUNKS = 16  # at a time, before others get their turn
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FIFO = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Pipe:
    """One stream's FIFO, and where it goes."""

    __slots__ = ("_taken", "_writer", "fd")

    def __init__(self, dir_fd: int, logs: int, stream: str, options: object, access: int) -> None:
        self.fd = os.open(_paths.fifo(stream), access | _FIFO, dir_fd=dir_fd)
        self._writer = LogWriter(logs, stream, options)  # type: ignore[arg-type]  # as json has it
        self._taken = Taken(logs, stream, self._writer)

    def pump(self, chunks: int = _CHUNKS) -> bool:
        """Write what is there, so many chunks at most; False at the end, when nobody has it open."""
        for _ in range(chunks):
            try:
                if not self._taken.pump(self.fd):
                    return False
            except BlockingIOError:
                return True
        return True

    def close(self) -> None:
        """Let go of both ends."""
        os.close(self.fd)
        self.close_log()

    def close_log(self) -> None:
        """Nothing more is written."""
        self._taken.close()
        self._writer.close()


def _open(dir_fd: int, access: int) -> list[Pipe]:
    logs = os.open(_paths.LOGS, _DIRECTORY, dir_fd=dir_fd)
    return [
        Pipe(dir_fd, logs, stream, options, access)
        for stream, options in read_options(logs).items()
    ]


class Pump:
    """The supervisor's: part of its loop."""

    def __init__(self, loop: Loop, dir_fd: int) -> None:
        """Open the FIFOs for writing as well, so that there is no end that an exec would follow."""
        self._loop = loop
        self._pipes = _open(dir_fd, os.O_RDWR)
        for each in self._pipes:
            loop.listen(each.fd, lambda _, pipe=each: pipe.pump())  # type: ignore[misc]  # one pipe each

    def close(self) -> None:
        """Let go of the FIFOs."""
        for each in self._pipes:
            self._loop.ignore(each.fd)
            os.close(each.fd)
        self._pipes = []

    def finish(self) -> None:
        """All that is there, when nobody is left who would write: before the exit is recorded.

        Bounded: what somebody outside of the container, who was given the descriptor, still writes
        isn't waited for.
        """
        for each in self._pipes:
            each.pump(2 * _CHUNKS)
            each.close_log()


def main() -> None:
    """Pump until nobody has the FIFOs open; given the container's directory and the locked `logs/`.

    Forks and lets the parent end: whoever started it must not have to stay to reap it.
    """
    if os.fork():
        os._exit(0)
    os.closerange(LOGS_FD + 1, 1 << 30)
    _procid.set_name(PUMP_COMM)
    poller = select.poll()
    try:
        pipes = {each.fd: each for each in _open(DIRECTORY_FD, os.O_RDONLY)}
    except FileNotFoundError:
        return  # the container was removed meanwhile
    for fd in pipes:
        poller.register(fd, select.POLLIN)
    _pump_all(poller, pipes)


def _pump_all(poller: select.poll, pipes: dict[int, Pipe]) -> None:
    # A FIFO that nobody has had open since we opened it never says so: what is there is read first.
    ready = list(pipes)
    while pipes:
        for fd in ready:
            if not pipes[fd].pump():
                poller.unregister(fd)
                pipes.pop(fd).close()
        if pipes:
            ready = [fd for fd, _ in poller.poll()]
