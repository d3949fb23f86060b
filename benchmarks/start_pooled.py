"""What does a container out of a warm pool cost, beside a fresh one?

Pool.take, which starts it, against create and start of the same program, by one warm engine on a
root in memory. The pool is full again before each take.
"""

from __future__ import annotations

import asyncio
import time

import asyncrt
from benchmarks import programs
from benchmarks.contenders import scratch_engine, start_one
from benchmarks.question import Answer, Bench, Question, at_most

_SIZE = 4


async def measure(bench: Bench) -> Answer:
    spec = asyncrt.Spec.command(programs.sleeper(bench.directory))
    null = asyncrt.DEVNULL
    async with (
        scratch_engine(bench.directory) as engine,
        engine.pool(spec=spec, size=_SIZE, stdout=null, stderr=null) as pool,
    ):

        async def pooled() -> float:
            while pool.ready < _SIZE:
                await asyncio.sleep(0.001)
            began = time.perf_counter()
            container = await pool.take()
            seconds = time.perf_counter() - began
            await container.destroy()
            return seconds

        async def fresh() -> float:
            while pool.ready < _SIZE:
                await asyncio.sleep(0.001)
            began = time.perf_counter()
            container = await start_one(engine, spec)
            seconds = time.perf_counter() - began
            await container.destroy()
            return seconds

        found = await bench.interleave(
            {"take out of a pool": pooled, "create and start": fresh},
            bench.size(quick=100, full=1500, smoke=1),
        )
    return Answer.of_seconds(found)


QUESTION = Question(
    name="start-pooled",
    wanted=(at_most("start of a pooled container / create and start of a fresh one", 0.35),),
    measure=measure,
)
