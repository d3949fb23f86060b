"""Does waiting cost anything?

wait() of 1,000 sleeping containers at once: the cpu that the engine's process, its fork server and
all supervisors use in 10 s. Nothing should poll. The quick run has 200 of them and 2 s, scaled.
"""

from __future__ import annotations

import asyncio
import os
import time

import asyncrt
from benchmarks import processes, programs
from benchmarks.contenders import in_turns, scratch_engine, start_one
from benchmarks.figures import Figure, Series
from benchmarks.question import Answer, Bench, Question, at_most

_COUNT = 1000
_SECONDS = 10


async def measure(bench: Bench) -> Answer:
    count = bench.size(quick=200, full=_COUNT, smoke=3)
    seconds = bench.size(quick=1, full=_SECONDS, smoke=1)
    spec = asyncrt.Spec.command(programs.sleeper(bench.directory))
    bench.expect(count)
    async with scratch_engine(bench.directory) as engine:
        started = await in_turns(
            [start_one(engine, spec) for _ in range(count)], on_done=bench.step
        )
        waiting = [asyncio.create_task(each.wait()) for each in started]
        await asyncio.sleep(1)  # until the waits are set up and the last start has been digested
        helpers = processes.supervisors(engine.root) + processes.helpers(os.getpid(), engine.root)
        helped = sum(map(processes.cpu_seconds, helpers))
        engaged = time.process_time()
        await asyncio.sleep(seconds)
        engaged = time.process_time() - engaged
        helped = sum(map(processes.cpu_seconds, helpers)) - helped
        assert not any(each.done() for each in waiting)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
    scale = _COUNT / count * _SECONDS / seconds
    notes = (f"{count} for {seconds} s, times {scale:.1f}",) if scale != 1 else ()
    return Answer(
        figures={"cpu": Figure(value=(engaged + helped) * scale)},
        series=(
            Series(name="the engine's process", unit="ms", values=[engaged * scale * 1e3]),
            Series(name="supervisors, fork server", unit="ms", values=[helped * scale * 1e3]),
        ),
        notes=notes,
    )


QUESTION = Question(
    name="waiting-cpu",
    wanted=(
        at_most(
            f"cpu that wait() of {_COUNT:,} sleeping containers uses in {_SECONDS} s",
            0.05,
            key="cpu",
            unit="s",
        ),
    ),
    measure=measure,
)
