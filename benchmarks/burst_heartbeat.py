"""Does starting hundreds at once hold up the event loop?

500 containers are created and started at once while a 5 ms heartbeat runs on the same loop; the
same with 500 plain asyncio subprocesses. What counts is how late the beats come, at the 99th
percentile. Every beat that was due counts: one long stop makes many of them late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import asyncrt
from benchmarks import programs
from benchmarks.contenders import (
    in_turns,
    scratch_engine,
    start_one,
    start_subprocess,
)
from benchmarks.figures import Series, quantile
from benchmarks.question import Answer, Bench, Question, at_most

T = TypeVar("T")

_BEAT_SECONDS = 0.005
_COUNT = 500


async def measure(bench: Bench) -> Answer:
    command = programs.sleeper(bench.directory)
    spec = asyncrt.Spec.command(command)
    count = bench.size(quick=_COUNT, full=_COUNT, smoke=5)
    seconds: dict[str, list[float]] = {"asyncrt": [], "asyncio": []}
    async with scratch_engine(bench.directory) as engine:

        async def containers() -> float:
            late, started, took = await beat_during(
                [lambda: start_one(engine, spec) for _ in range(count)]
            )
            seconds["asyncrt"].append(took)
            await in_turns([each.destroy() for each in started])
            return quantile(late, 0.99)

        async def subprocesses() -> float:
            late, started, took = await beat_during(
                [lambda: start_subprocess(command) for _ in range(count)]
            )
            seconds["asyncio"].append(took)
            for each in started:
                each.kill()
            await asyncio.gather(*(each.wait() for each in started))
            return quantile(late, 0.99)

        found = await bench.interleave(
            {"asyncrt": containers, "asyncio": subprocesses}, bench.size(quick=2, full=15, smoke=1)
        )

    def beats(name: str) -> Series:
        values = [each * 1e3 for each in found[name]]
        return Series(name=f"{name}: p99 lateness of a beat", unit="ms", values=values)

    def bursts(name: str) -> Series:
        return Series(name=f"{name}: time for all {count}", unit="s", values=seconds[name])

    return Answer.of_ratio(beats("asyncrt"), beats("asyncio"), bursts("asyncrt"), bursts("asyncio"))


async def beat_during(
    starts: Iterable[Callable[[], Awaitable[T]]],
) -> tuple[list[float], list[T], float]:
    """How late each beat came while all was started at once, what was started, and the seconds."""
    over = asyncio.Event()
    beating = asyncio.create_task(_beat(over))
    await asyncio.sleep(_BEAT_SECONDS)
    began = time.perf_counter()
    started = await asyncio.gather(*(start() for start in starts))
    seconds = time.perf_counter() - began
    over.set()
    return await beating, started, seconds


async def _beat(over: asyncio.Event) -> list[float]:
    late: list[float] = []
    due = time.perf_counter()
    while not over.is_set():
        due += _BEAT_SECONDS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        late.append(time.perf_counter() - due)
    return late


QUESTION = Question(
    name="burst-heartbeat",
    wanted=(
        at_most(
            f"{_COUNT} started at once: p99 lateness of a 5 ms heartbeat / with asyncio subprocesses",
            1.0,
        ),
    ),
    measure=measure,
)
