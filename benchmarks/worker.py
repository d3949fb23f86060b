"""A process that competes for locks: a command per line on its standard input, an answer per line.

`python -m benchmarks.worker`; `workers` is the asking side, `tasks` has the commands.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable

import msgspec

from benchmarks import locks, storms
from benchmarks.locks import Lock, SyncLock
from benchmarks.processes import allow_many_descriptors
from benchmarks.tasks import AnyTask, Contend, Contended, Crowd, Give, Storm, Take


def main() -> None:
    allow_many_descriptors()
    gc.freeze()
    _say(True)
    for line in sys.stdin.buffer:
        answer = do(msgspec.json.decode(line, type=AnyTask))
        _say(answer)


def _say(answer: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


def do(task: AnyTask) -> object:
    """The answer to one command."""
    if isinstance(task, Give | Take):
        _stay_on(task.core)
    if task.lock in locks.SYNC:
        return _do_sync(task, SyncLock(task.lock, task.path))
    return asyncio.run(_do(task))


def _stay_on(core: int) -> None:
    """Of the cores that we may use, keep to that one."""
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {usable[core % len(usable)]})


async def _do(task: AnyTask) -> object:
    with locks.family(task.lock, task.path) as make:
        match task:
            case Contend():
                return await _contend(task, make)
            case Give():
                return await _give(task, make())
            case Take():
                return await _take(task, make())
            case Storm():
                return await storms.cancel(task, make)
            case Crowd():
                return await storms.crowd(task, make)


def _do_sync(task: AnyTask, lock: SyncLock) -> object:
    match task:
        case Contend():
            return _contend_sync(task, lock)
        case Give():
            return _give_sync(task, lock)
        case Take():
            return _take_sync(task, lock)
        case Storm() | Crowd():
            raise ValueError("what blocks its process can't wait in tasks")


# Contention


async def _contend(task: Contend, make: Callable[[], Lock]) -> Contended:
    counts = [0] * task.tasks
    waits: list[int] = []
    since = [0.0] * task.tasks  # when a task asked that hasn't come in yet
    end = task.start + task.seconds
    clock, sleep = time.monotonic, asyncio.sleep

    async def work(number: int, lock: Lock) -> None:
        while True:
            asked = clock()
            if asked >= end:
                return
            since[number] = asked
            await lock.acquire(shared=task.shared)
            came = clock()
            if came < end:
                since[number] = 0.0
                counts[number] += 1
                waits.append(int((came - asked) * 1e6))
                await sleep(task.hold)  # of 0: once round the loop, or no task would meet another
            await lock.release()
            if task.pause is not None:
                await sleep(task.pause)

    mine = [make() for _ in range(task.tasks)]
    await sleep(max(0.0, task.start - clock()))
    cpu = time.process_time()
    working = [asyncio.create_task(work(*each)) for each in enumerate(mine)]
    await sleep(max(0.0, end - clock()))
    cpu = time.process_time() - cpu
    if task.lock == locks.AIOFILELOCK or task.lock in locks.POLLING.values():
        for each in working:  # who sleeps for a second holds nothing
            each.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    for each in working:
        if not each.cancelled():
            each.result()
    # Who hasn't come in has waited all the same: without these, starving would shorten the waits.
    waits += [int((end - asked) * 1e6) for asked in since if asked]
    return Contended(counts=counts, waits=waits, cpu=cpu)


def _contend_sync(task: Contend, lock: SyncLock) -> Contended:
    waits: list[int] = []
    count = 0
    end = task.start + task.seconds
    clock, sleep = time.monotonic, time.sleep
    sleep(max(0.0, task.start - clock()))
    cpu = time.process_time()
    while (asked := clock()) < end:
        lock.acquire(shared=task.shared)
        came = clock()
        waits.append(int((min(came, end) - asked) * 1e6))
        if came < end:
            count += 1
            if task.hold:
                sleep(task.hold)
        lock.release()
        if task.pause is not None:
            sleep(task.pause)
    cpu = time.process_time() - cpu
    return Contended(counts=[count], waits=waits, cpu=cpu)


# Hand-over


async def _give(task: Give, lock: Lock) -> list[float]:
    released = []
    for take, release in zip(task.take_at, task.release_at, strict=True):
        await asyncio.sleep(max(0.0, task.start + take - time.monotonic()))
        await lock.acquire()
        await asyncio.sleep(max(0.0, task.start + release - time.monotonic()))
        released.append(time.monotonic())
        await lock.release()
    return released


def _give_sync(task: Give, lock: SyncLock) -> list[float]:
    released = []
    for take, release in zip(task.take_at, task.release_at, strict=True):
        time.sleep(max(0.0, task.start + take - time.monotonic()))
        lock.acquire()
        time.sleep(max(0.0, task.start + release - time.monotonic()))
        released.append(time.monotonic())
        lock.release()
    return released


async def _take(task: Take, lock: Lock) -> list[float]:
    taken = []
    for ask in task.ask_at:
        await asyncio.sleep(max(0.0, task.start + ask - time.monotonic()))
        await lock.acquire()
        taken.append(time.monotonic())
        await lock.release()
    return taken


def _take_sync(task: Take, lock: SyncLock) -> list[float]:
    taken = []
    for ask in task.ask_at:
        time.sleep(max(0.0, task.start + ask - time.monotonic()))
        lock.acquire()
        taken.append(time.monotonic())
        lock.release()
    return taken


if __name__ == "__main__":
    main()
