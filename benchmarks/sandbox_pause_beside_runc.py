"""What do a pause and a resume of a sandbox cost, beside `runc pause` and `runc resume`?"""

from __future__ import annotations

import time

import asyncrt
from benchmarks import runtimes
from benchmarks.bundles import Bundle
from benchmarks.contenders import fresh_id, run_subprocess, scratch_engine
from benchmarks.question import Answer, Bench, Question, at_most


async def measure(bench: Bench) -> Answer:
    runc = runtimes.runc(bench)
    bundle = Bundle(bench, ["/sleeper"])
    runc.try_out(Bundle(bench, ["/true"]).path)
    null = asyncrt.DEVNULL

    async def ours_once(container: asyncrt.Container) -> float:
        began = time.perf_counter()
        await container.pause()
        await container.resume()
        return time.perf_counter() - began

    async def theirs_once(id: str) -> float:
        paused = await run_subprocess(runc.command("pause", id))
        return paused + await run_subprocess(runc.command("resume", id))

    async with (
        scratch_engine(bench.directory, "linux") as engine,
        engine.running(fresh_id(), spec=bundle.spec, stdout=null, stderr=null) as container,
    ):
        with bundle.running(runc) as id:
            await ours_once(container)
            found = await bench.interleave(
                {
                    "pause and resume": lambda: ours_once(container),
                    "runc pause, runc resume": lambda: theirs_once(id),
                },
                bench.size(quick=20, full=200, smoke=1),
            )
    return Answer.of_seconds(found)


QUESTION = Question(
    name="sandbox-pause-beside-runc",
    wanted=(at_most("pause+resume of a sandbox / `runc pause` and `runc resume`", 0.08),),
    measure=measure,
)
