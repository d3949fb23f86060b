"""Waiters by the thousand, and what is left when they are cancelled. Runs in a worker."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import sys
import time
from collections.abc import Callable

import msgspec

from benchmarks.locks import Lock
from benchmarks.processes import unique_kilobytes
from benchmarks.tasks import Crowd, Storm, Stormed

_LOST_AFTER = 1.0  # seconds; a grant that is on its way takes milliseconds
_QUEUED_AFTER = 0.05  # seconds that waiters are given to get into the kernel
_LATE_AFTER = 5.0  # the same for several tasks in turns
_FEW = 30


async def cancel(task: Storm, make: Callable[[], Lock]) -> Stormed:
    """One storm of all, then the small ones. A peer that can't end any more ends its process."""
    await (warm := make()).acquire()  # imports and first threads don't count
    await warm.release()
    fd = os.open(task.path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    before = _threads()
    mine = [make() for _ in range(task.waiters)]  # they outlive their waiters, as locks do
    waiting = await _queue(mine)
    began = time.perf_counter()
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    seconds = time.perf_counter() - began
    threads = _threads() - before
    fcntl.flock(fd, fcntl.LOCK_UN)
    later = await _threads_later(before, task.patience) if task.patience else None
    await asyncio.sleep(_QUEUED_AFTER)  # whoever in the kernel is to have it has it now
    lost = 0 if await _is_free(fd) else 1
    os.close(fd)
    if not lost:
        dice = random.Random(task.seed)
        for _ in range(task.storms):
            if not await _small_storm(make, dice):
                lost += 1
                break
    answer = Stormed(cancelling=seconds, threads=threads, threads_later=later, lost=lost)
    if lost:  # a thread sits in flock for ever, and the interpreter would wait for it
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
        os._exit(0)
    return answer


async def crowd(task: Crowd, make: Callable[[], Lock]) -> float:
    """Kilobytes for the waiters, their tasks and locks included."""
    await (holder := make()).acquire()
    before = unique_kilobytes(os.getpid())
    mine = [make() for _ in range(task.waiters)]
    waiting = await _queue(mine)
    kilobytes = unique_kilobytes(os.getpid()) - before
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    await holder.release()
    return kilobytes


async def _queue(mine: list[Lock]) -> list[asyncio.Task[None]]:
    waiting = [asyncio.create_task(each.acquire()) for each in mine]
    await asyncio.sleep(_QUEUED_AFTER)
    return waiting


async def _small_storm(make: Callable[[], Lock], dice: random.Random) -> bool:
    """Whether all that aren't cancelled get the lock, and a newcomer after them."""

    async def take(lock: Lock) -> None:
        await lock.acquire()
        try:
            await asyncio.sleep(0)
        finally:
            await lock.release()

    await (holder := make()).acquire()
    mine = [make() for _ in range(_FEW)]
    waiting = [asyncio.create_task(take(each)) for each in mine]
    for _ in range(dice.randrange(3)):
        await asyncio.sleep(0)
    doomed = waiting[: dice.randrange(3)] + dice.sample(waiting, _FEW // 2)
    release_at = dice.randrange(len(doomed))
    for number, each in enumerate(doomed):
        if number == release_at:
            await holder.release()
        each.cancel()
        if dice.random() < 0.2:
            await asyncio.sleep(0)
    _, late = await asyncio.wait(waiting, timeout=_LATE_AFTER)
    if late:
        return False
    try:
        async with asyncio.timeout(_LATE_AFTER):
            await take(make())
    except TimeoutError:
        return False
    return True


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


async def _threads_later(before: int, patience: float) -> int:
    end = time.monotonic() + patience
    while (more := _threads() - before) > 0 and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return more


async def _is_free(fd: int) -> bool:
    end = time.monotonic() + _LOST_AFTER
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.01)
        else:
            fcntl.flock(fd, fcntl.LOCK_UN)
            return True
