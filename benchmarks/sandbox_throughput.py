"""How many sandboxes get through their whole life in a second, 500 of them asked for at once?

create, start, wait and destroy of each by one engine on a root in memory, against `runc run` of the same
bundle, four at a time, which is about what runc is at its best with on few cores.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks import runtimes
from benchmarks.bundles import Bundle
from benchmarks.contenders import (
    WARM,
    fresh_id,
    in_turns,
    live_and_die,
    run_subprocess,
    scratch_engine,
)
from benchmarks.figures import Series
from benchmarks.question import Answer, Bench, Question, at_least

_COUNT = 500
_RUNC_AT_ONCE = 4


async def measure(bench: Bench) -> Answer:
    runc = runtimes.runc(bench)
    bundle = Bundle(bench, ["/true"])
    runc.try_out(bundle.path)
    count = bench.size(quick=_COUNT, full=_COUNT, smoke=5)
    theirs_count = bench.size(quick=60, full=_COUNT, smoke=4)
    async with scratch_engine(bench.directory, "linux") as engine:
        for _ in range(WARM):
            await live_and_die(engine, bundle.spec)

        async def ours() -> float:
            began = time.perf_counter()
            await asyncio.gather(*(live_and_die(engine, bundle.spec) for _ in range(count)))
            return count / (time.perf_counter() - began)

        async def theirs() -> float:
            began = time.perf_counter()
            runs = [
                run_subprocess([*runc.run(bundle.path), fresh_id()]) for _ in range(theirs_count)
            ]
            await in_turns(runs, at_once=_RUNC_AT_ONCE)
            return theirs_count / (time.perf_counter() - began)

        found = await bench.interleave(
            {f"{count} at once": ours, f"runc run, {_RUNC_AT_ONCE} at a time": theirs},
            bench.rounds(quick=1),
        )
    series = (Series(name=name, unit="1/s", values=values) for name, values in found.items())
    return Answer.of_ratio(*series)


QUESTION = Question(
    name="sandbox-throughput",
    wanted=(
        at_least(
            f"lives per second of {_COUNT} sandboxes at once / `runc run`, {_RUNC_AT_ONCE} at a time",
            2.0,
        ),
    ),
    measure=measure,
)
