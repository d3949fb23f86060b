"""What does a lock cost that nobody else wants?

Acquire and release of a free lock, again and again, each way at its best: objects and descriptors
are made once. asyncrt's includes opening the file and the proof that the path still names it. Once
another process was seen, the next acquire asks at the gate: that one is measured by itself, each
time after a foreign descriptor stood at the gate.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Awaitable, Callable

import asyncrt
from benchmarks import locks
from benchmarks.figures import Series, quantile, ratio
from benchmarks.locks import SyncLock
from benchmarks.plots import Curve, Panel, Plot
from benchmarks.question import Answer, Bench, Question, at_least, at_most, shown

_SHARED = f"{locks.OURS}, shared"
_GATED = f"{locks.OURS}, at the gate"
_SAFE_OPEN = "open, flock, inode check, close; sync"
_FAST = (locks.PORTALOCKER, locks.AIOFILELOCK, locks.POLLING[1])
_SLOW = (locks.ONE_THREAD, locks.THREAD_EACH, locks.TO_THREAD, locks.FILELOCK)
_MOST_SKIPS = 64  # acquires that may pass by the gate until one asks


async def measure(bench: Bench) -> Answer:
    many = bench.size(quick=1000, full=5000, smoke=20)
    few = bench.size(quick=50, full=300, smoke=3)
    path = os.path.join(bench.directory, "lock")
    contenders: dict[str, Callable[[], Awaitable[float]]] = {
        locks.FLOCK: lambda: _sync(locks.FLOCK, path + ".flock", many),
        locks.OURS: lambda: _ours(path, many, shared=False),
        _SHARED: lambda: _ours(path, many, shared=True),
        _GATED: lambda: _gated(path, few),
        _SAFE_OPEN: lambda: _safe_open(path + ".opened", many),
    }
    for kind in locks.installed(*_FAST, *_SLOW):
        count = few if kind in _SLOW else many
        contenders[kind] = _peer(kind, f"{path}.{len(contenders)}", count)
    found = await bench.interleave(contenders, bench.rounds(quick=9, full=30))
    series = {
        name: Series(name=name, unit="us", values=[each * 1e6 for each in values])
        for name, values in found.items()
    }
    ours, floor = series[locks.OURS], series[locks.FLOCK]
    figures = {
        "exclusive": ratio(ours, floor),
        "shared": ratio(series[_SHARED], floor),
        "gated": ratio(series[_GATED], floor),
        "safe-open": ratio(ours, series[_SAFE_OPEN]),
    }
    lacking = {}
    if locks.FILELOCK in series:
        figures["filelock"] = ratio(series[locks.FILELOCK], ours)
    else:
        lacking["filelock"] = locks.missing(locks.FILELOCK)
    return Answer(
        figures=figures, lacking=lacking, series=tuple(series.values()), plots=(_plot(series),)
    )


def _peer(kind: str, path: str, count: int) -> Callable[[], Awaitable[float]]:
    if kind in locks.SYNC:
        return lambda: _sync(kind, path, count)
    return lambda: _async(kind, path, count)


async def _sync(kind: str, path: str, count: int) -> float:
    lock = SyncLock(kind, path)
    if kind == locks.FLOCK:  # without a method call in between, which would cost as much
        return _raw(lock.fd, count)
    began = time.perf_counter()
    for _ in range(count):
        lock.acquire()
        lock.release()
    return (time.perf_counter() - began) / count


def _raw(fd: int, count: int) -> float:
    flock, take, free = fcntl.flock, fcntl.LOCK_EX, fcntl.LOCK_UN
    began = time.perf_counter()
    for _ in range(count):
        flock(fd, take)
        flock(fd, free)
    return (time.perf_counter() - began) / count


async def _ours(path: str, count: int, *, shared: bool) -> float:
    lock = asyncrt.FileLock(path)
    await lock.acquire(shared=shared)
    lock.release()
    began = time.perf_counter()
    for _ in range(count):
        await lock.acquire(shared=shared)
        lock.release()
    return (time.perf_counter() - began) / count


async def _gated(path: str, count: int) -> float:
    lock = asyncrt.FileLock(path)
    await lock.acquire(shared=True)  # makes the gate
    lock.release()
    gate = os.open(path + ".queue", os.O_RDWR)
    try:
        each = [await _one_gated(lock, gate) for _ in range(count)]
    finally:
        os.close(gate)
    return quantile(each, 0.5)


async def _one_gated(lock: asyncrt.FileLock, gate: int) -> float:
    fcntl.flock(gate, fcntl.LOCK_EX)
    for _ in range(_MOST_SKIPS):
        if not lock.try_acquire():
            break
        lock.release()
    else:
        raise RuntimeError("nothing asks at the gate: somebody who waits there is overtaken")
    fcntl.flock(gate, fcntl.LOCK_UN)
    began = time.perf_counter()
    await lock.acquire()
    lock.release()
    return time.perf_counter() - began


async def _safe_open(path: str, count: int) -> float:
    """What ours has to do, in the fewest calls."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    began = time.perf_counter()
    for _ in range(count):
        fd = os.open(path, flags, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine, there = os.fstat(fd), os.stat(path)
        assert (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
    return (time.perf_counter() - began) / count


async def _async(kind: str, path: str, count: int) -> float:
    with locks.family(kind, path) as make:
        lock = make()
        await lock.acquire()
        await lock.release()
        began = time.perf_counter()
        for _ in range(count):
            await lock.acquire()
            await lock.release()
        seconds = time.perf_counter() - began
    await asyncio.sleep(0)
    return seconds / count


def _plot(series: dict[str, Series]) -> Plot:
    order = sorted(series.values(), key=lambda each: each.median)
    curve = Curve(
        name="median of rounds",
        labels=[each.name for each in order],
        y=[each.median for each in order],
    )
    return Plot(
        name="lock-uncontended",
        title="Acquire and release of a free lock",
        kind="bars",
        x="",
        y="microseconds",
        log_y=True,
        panels=[Panel(title="", curves=[curve])],
    )


QUESTION = Question(
    name="lock-uncontended",
    wanted=(
        at_most(
            "exclusive acquire+release / fcntl.flock on an open descriptor", 8, key="exclusive"
        ),
        at_least("filelock.AsyncFileLock / exclusive acquire+release", 60, key="filelock"),
        at_most("shared acquire+release / fcntl.flock", 15, key="shared"),
        at_most("exclusive where the gate is taken / fcntl.flock", 15, key="gated"),
        shown("exclusive / open, flock, inode check, close in sync Python", key="safe-open"),
    ),
    measure=measure,
)
