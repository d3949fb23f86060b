"""Pumping on where a supervisor was killed: whoever touches such a container starts another pump.

One at a time: the flock on `logs/`, taken here, is handed to the pump's process as an open
descriptor and is free again when that ends, however it ends. Under the lock the supervisor, which
pumps without one while it lives, must be proven dead; dead is for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from portalocker import LockFlags
from portalocker.portalocker import FlockLocker

from asyncrt import _paths, _procid, _threads
from asyncrt.sandbox import watch_child
from asyncrt.supervisor.pump import DIRECTORY_FD, LOGS_FD, PUMP_COMM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncrt.container.context import Context
    from asyncrt.state import Record

_log = logging.getLogger("asyncrt.container")

_flock = FlockLocker().locker
_TRY = LockFlags.EXCLUSIVE.value | LockFlags.NON_BLOCKING.value
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DRAIN_SECONDS = 2.0  # what a pump, woken by the last writer's end, takes at most

_PACKAGES = str(Path(__file__).resolve().parents[2])
_CODE = "import sys; sys.path.append(sys.argv[1]); from asyncrt.supervisor.pump import main; main()"


class Pumps:
    """The pumps that one engine starts. They outlive it. Belongs to one event loop."""

    def __init__(self) -> None:
        self._starting: dict[int, asyncio.Future[None]] = {}  # by pidfd
        self._dying: set[int] = set()  # pidfds of supervisors
        self.draining: dict[str, asyncio.Event] = {}  # by instance: set once nobody pumps

    def take_over_from(self, record: Record, directory: str) -> None:
        """As take_over, for a supervisor that has hung up: its sockets close before it is dead."""
        if not record.logs or record.supervisor is None:
            return
        pidfd = None
        with contextlib.suppress(PermissionError):  # of another pid namespace: not ours to judge
            pidfd = _procid.open_pidfd(record.supervisor)
        if pidfd is None:
            self.take_over(record, directory)
            return
        loop = asyncio.get_running_loop()

        def dead() -> None:
            self._let_go(pidfd)
            self.take_over(record, directory)

        self._dying.add(pidfd)
        loop.add_reader(pidfd, dead)

    def _let_go(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        self._dying.discard(pidfd)

    def take_over(self, record: Record, directory: str) -> None:
        """Start a pump if the record's logs need one: its supervisor is dead, and nobody pumps.

        Doesn't block but for a posix_spawn. What fails is logged: the workload waits on.
        """
        try:
            self.pump_on(record, directory)
        except OSError as error:
            _log.warning("container %s: its output isn't pumped on: %s", record.id, error)

    def pump_on(self, record: Record, directory: str) -> bool:
        """As take_over; whether a pump was started. Raises OSError."""
        if not is_orphaned(record):
            return False
        try:
            return self._start(record, directory)
        except FileNotFoundError:
            return False  # it is being removed

    def _start(self, record: Record, directory: str) -> bool:
        dir_fd = os.open(directory, _DIRECTORY)
        try:
            if not any(_is_held(dir_fd, stream) for stream in record.logs):
                return False
            logs = os.open(_paths.LOGS, _DIRECTORY, dir_fd=dir_fd)
            try:
                _flock(logs, _TRY)
                self._spawn(dir_fd, logs)
            except BlockingIOError:
                return False  # somebody pumps
            finally:
                os.close(logs)  # the pump has it open, and with it the lock
        finally:
            os.close(dir_fd)
        return True

    def _spawn(self, dir_fd: int, logs: int) -> None:
        # Both may be 3 or 4 themselves: a dup2 onto the other would lose it.
        high = [os.dup(each) for each in (dir_fd, logs)]
        while min(high[-2:]) <= LOGS_FD:
            high += [os.dup(each) for each in high[-2:]]
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-X", "utf8", "-c", _CODE, _PACKAGES],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, high[-2], DIRECTORY_FD),
                    (os.POSIX_SPAWN_DUP2, high[-1], LOGS_FD),
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
            )
        finally:
            for each in high:
                os.close(each)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def reap() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            del self._starting[pidfd]
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            ended.set_result(None)

        pidfd = watch_child(pid, reap)
        self._starting[pidfd] = ended

    async def close(self) -> None:
        """Let go; those that were started go on. If cancelled, descriptors are closed anyway."""
        for pidfd in list(self._dying):
            self._let_go(pidfd)
        await self.settled()

    async def settled(self) -> None:
        """Wait until those that were started are on their own. If cancelled, they go on."""
        if self._starting:
            await asyncio.wait(list(self._starting.values()))


def is_orphaned(record: Record) -> bool:
    """Whether the record has logs, and the supervisor that pumped into them is dead."""
    supervisor = record.supervisor
    return bool(record.logs) and supervisor is not None and not _procid.alive(supervisor)


def lacks_pump(record: Record, directory: str) -> bool:
    """Whether take_over would start one, as far as that shows; changes nothing and takes no lock.

    A lock that is tried for, if only for an instant, would tell a take-over that somebody pumps. So
    the pumps that run are looked at: each has the logs open as descriptor 4. Blocks for that.
    """
    if not is_orphaned(record):
        return False
    try:
        dir_fd = os.open(directory, _DIRECTORY)
    except OSError:
        return False  # it is being removed
    try:
        if not any(_is_held(dir_fd, stream) for stream in record.logs):
            return False
        found = os.stat(_paths.LOGS, dir_fd=dir_fd)
        return (found.st_dev, found.st_ino) not in _pumped()
    except OSError:
        return False
    finally:
        os.close(dir_fd)


def _pumped() -> Iterator[tuple[int, int]]:
    for name in filter(str.isdecimal, os.listdir("/proc")):
        process = _procid.stat(int(name))
        if process is not None and process.comm == PUMP_COMM:
            with contextlib.suppress(OSError):
                found = os.stat(f"/proc/{name}/fd/{LOGS_FD}")
                yield found.st_dev, found.st_ino


def _is_held(dir_fd: int, stream: str) -> bool:
    """Whether anybody has the FIFO open: workloads have it open for reading too (fifo(7), ENXIO)."""
    try:
        fd = os.open(
            _paths.fifo(stream),
            os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC,
            dir_fd=dir_fd,
        )
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENOENT}:
            return False
        raise
    os.close(fd)
    return True


async def drained(context: Context, record: Record) -> None:
    """Wait, bounded, until a pump that goes on for a dead supervisor has written all there is.

    For a container that has ended; returns at once where the supervisor saw to that. If cancelled,
    nothing has changed.
    """
    if not is_orphaned(record):
        return
    if record.init is not None and _procid.alive(record.init):
        return
    await context.pumps.settled()
    free = context.pumps.draining.get(record.instance) or _watch_lock(context, record)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await free.wait()


def _watch_lock(context: Context, record: Record) -> asyncio.Event:
    """Set once the pump has ended: a thread waits for its lock, one for all who ask."""
    free = asyncio.Event()
    try:
        fd = os.open(f"{context.directory(record.id)}/{_paths.LOGS}", _DIRECTORY)
    except OSError:
        free.set()  # gone, with all that it had
        return free
    draining = context.pumps.draining
    loop = asyncio.get_running_loop()

    def wait() -> None:
        try:
            _flock(fd, LockFlags.SHARED.value)
        finally:
            os.close(fd)

    def over() -> None:
        draining.pop(record.instance, None)
        free.set()

    def done(_: object, error: BaseException | None) -> None:
        del error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(over)

    draining[record.instance] = free
    try:
        _threads.submit(wait, done)
    except OSError:
        os.close(fd)
        over()  # what is there is read, as if its time were up
    return free
