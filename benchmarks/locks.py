"""The locks that are compared: asyncrt's and what people use or would write in its place.

Each is used as its own documentation says, at its best: objects and descriptors are made once per
task, what has no exclusion between the tasks of a process gets a descriptor for each of them. A
release by thread, with a bounded executor, would stand in line behind those who wait for it, for
ever; so the ones with a waiting thread for each task release inline.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol

import anyio
import anyio.to_thread
import portalocker
from portalocker import LockFlags

import asyncrt
from benchmarks.peers import is_there, peer
from benchmarks.question import Skipped

OURS = "asyncrt.FileLock"
FLOCK = "fcntl.flock, sync"
PORTALOCKER = "portalocker, sync"
TO_THREAD = "portalocker in asyncio.to_thread"
THREAD_EACH = "anyio thread per waiter"
ONE_THREAD = "asyncio.Lock + one thread"
ONE_THREAD_INLINE = "asyncio.Lock + one thread, release inline"
FILELOCK = "filelock.AsyncFileLock"
AIOFILELOCK = "aiofilelock"
POLLING = {1: "polling, 1 ms", 10: "polling, 10 ms", 50: "polling, 50 ms"}
MEMORY = "asyncio.Lock, one process only"
PEERS = (
    ONE_THREAD,
    ONE_THREAD_INLINE,
    FILELOCK,
    THREAD_EACH,
    TO_THREAD,
    *POLLING.values(),
    AIOFILELOCK,
    PORTALOCKER,
    FLOCK,
)
SYNC = (FLOCK, PORTALOCKER)


class Lock(Protocol):
    """One task's way to the lock."""

    async def acquire(self, *, shared: bool = False) -> None: ...

    async def release(self) -> None: ...


class Ours:
    def __init__(self, path: str) -> None:
        self._lock = asyncrt.FileLock(path)

    async def acquire(self, *, shared: bool = False) -> None:
        await self._lock.acquire(shared=shared)

    async def release(self) -> None:
        self._lock.release()


class _OnDescriptor:
    """An open file description of its own, by which flock tells one holder from another."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __del__(self) -> None:
        os.close(self.fd)

    async def release(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)


class ToThread(_OnDescriptor):
    async def acquire(self, *, shared: bool = False) -> None:
        flags = LockFlags.SHARED if shared else LockFlags.EXCLUSIVE
        await asyncio.to_thread(portalocker.lock, self.fd, flags)

    async def release(self) -> None:
        portalocker.unlock(self.fd)


_unlimited = functools.cache(lambda: anyio.CapacityLimiter(math.inf))


class ThreadEach(_OnDescriptor):
    async def acquire(self, *, shared: bool = False) -> None:
        flags = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        await anyio.to_thread.run_sync(
            functools.partial(fcntl.flock, self.fd, flags), limiter=_unlimited()
        )


class OneThread:
    """The tasks of a process queue in memory; one thread does all that is done with the file.

    `inline`: it only waits there, and the release is made on the loop. Cheaper, and seldom written.
    """

    def __init__(
        self, queue: asyncio.Lock, executor: Executor, file: _OnDescriptor, *, inline: bool
    ) -> None:
        self._queue, self._executor, self._file, self._inline = queue, executor, file, inline

    async def acquire(self, *, shared: bool = False) -> None:
        await self._queue.acquire()
        await self._flock(fcntl.LOCK_SH if shared else fcntl.LOCK_EX)

    async def release(self) -> None:
        if self._inline:
            fcntl.flock(self._file.fd, fcntl.LOCK_UN)
        else:
            await self._flock(fcntl.LOCK_UN)
        self._queue.release()

    async def _flock(self, flags: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, fcntl.flock, self._file.fd, flags)


class InMemory:
    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock

    async def acquire(self, *, shared: bool = False) -> None:  # noqa: ARG002 - it has no readers
        await self._lock.acquire()

    async def release(self) -> None:
        self._lock.release()


class Polling(_OnDescriptor):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__(path)
        self._seconds = seconds

    async def acquire(self, *, shared: bool = False) -> None:
        flags = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        while True:
            try:
                fcntl.flock(self.fd, flags)
            except BlockingIOError:
                await asyncio.sleep(self._seconds)
            else:
                return


class Filelock:
    def __init__(self, path: str) -> None:
        self._lock = peer("filelock").AsyncFileLock(path, is_singleton=False)

    async def acquire(self, *, shared: bool = False) -> None:
        if shared:
            raise Skipped(f"{FILELOCK} isn't shared")
        await self._lock.acquire()

    async def release(self) -> None:
        await self._lock.release()


class Aiofilelock:
    def __init__(self, path: str) -> None:
        self._file = open(path, "a+b")  # noqa: SIM115 - closed with the object
        self._lock = peer("aiofilelock").AIOMutableFileLock(self._file)

    def __del__(self) -> None:
        self._file.close()

    async def acquire(self, *, shared: bool = False) -> None:
        if shared:
            raise Skipped(f"{AIOFILELOCK} is shared by files opened for reading only")
        await self._lock.acquire()

    async def release(self) -> None:
        await self._lock.close()


@contextlib.contextmanager
def family(kind: str, path: str) -> Iterator[Callable[[], Lock]]:
    """What makes each task's lock of that kind, in one loop of one process."""
    if kind in {ONE_THREAD, ONE_THREAD_INLINE}:
        with ThreadPoolExecutor(1) as executor:
            file, queue = _OnDescriptor(path), asyncio.Lock()
            inline = kind == ONE_THREAD_INLINE
            yield lambda: OneThread(queue, executor, file, inline=inline)
    elif kind == MEMORY:
        queue = asyncio.Lock()
        yield lambda: InMemory(queue)
    elif kind in POLLING.values():
        (milliseconds,) = (each for each, name in POLLING.items() if name == kind)
        yield lambda: Polling(path, milliseconds / 1e3)
    else:
        yield functools.partial(_SIMPLE[kind], path)


_SIMPLE: dict[str, Callable[[str], Lock]] = {
    OURS: Ours,
    TO_THREAD: ToThread,
    THREAD_EACH: ThreadEach,
    FILELOCK: Filelock,
    AIOFILELOCK: Aiofilelock,
}
_PACKAGE = {FILELOCK: "filelock", AIOFILELOCK: "aiofilelock"}


class SyncLock:
    """What blocks its process while it waits: for one that does nothing else."""

    def __init__(self, kind: str, path: str) -> None:
        self._file = _OnDescriptor(path)
        self._portalocker = kind == PORTALOCKER

    @property
    def fd(self) -> int:
        return self._file.fd

    def acquire(self, *, shared: bool = False) -> None:
        if self._portalocker:
            portalocker.lock(self._file.fd, LockFlags.SHARED if shared else LockFlags.EXCLUSIVE)
        else:
            fcntl.flock(self._file.fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)

    def release(self) -> None:
        if self._portalocker:
            portalocker.unlock(self._file.fd)
        else:
            fcntl.flock(self._file.fd, fcntl.LOCK_UN)


def installed(*kinds: str) -> list[str]:
    """Those of the kinds that are there."""
    return [kind for kind in kinds if kind not in _PACKAGE or is_there(_PACKAGE[kind])]


def missing(kind: str) -> str:
    """Why a kind isn't there, in the words of its absence."""
    return f"{_PACKAGE[kind]} isn't installed: pip install '.[bench]'"
