"""What does a container cost that is created in a live sandbox, beside a sandbox of one?"""

from __future__ import annotations

import time
from typing import Any

import asyncrt
from benchmarks.bundles import Bundle
from benchmarks.contenders import fresh_id, scratch_engine
from benchmarks.question import Answer, Bench, Question, at_most

_NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}


async def measure(bench: Bench) -> Answer:
    bundle = Bundle(bench, ["/sleeper"])

    async with scratch_engine(bench.directory, "linux") as engine:
        sandbox = await engine.create_sandbox(fresh_id(), spec=bundle.spec, **_NULL)
        await sandbox.root.start()

        async def beside() -> float:
            began = time.perf_counter()
            container = await sandbox.create(fresh_id(), spec=bundle.spec, **_NULL)
            seconds = time.perf_counter() - began
            await container.destroy()
            return seconds

        async def alone() -> float:
            began = time.perf_counter()
            container = await engine.create(fresh_id(), spec=bundle.spec, **_NULL)
            seconds = time.perf_counter() - began
            await container.destroy()
            return seconds

        for _ in range(bench.size(quick=5, full=5, smoke=1)):
            await beside()
            await alone()
        found = await bench.interleave(
            {"in a live sandbox": beside, "a sandbox of one": alone},
            bench.size(quick=40, full=300, smoke=1),
        )
        await sandbox.destroy()
    return Answer.of_seconds(found)


QUESTION = Question(
    name="sandbox-create-beside",
    wanted=(at_most("create in a live sandbox / create a sandbox of one", 0.7),),
    measure=measure,
)
