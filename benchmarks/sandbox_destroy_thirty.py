"""What does it cost to destroy a sandbox with thirty containers, beside one with a single one?"""

from __future__ import annotations

import time
from typing import Any

import asyncrt
from benchmarks.bundles import Bundle
from benchmarks.contenders import fresh_id, in_turns, scratch_engine
from benchmarks.question import Answer, Bench, Question, at_most

_NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}


async def measure(bench: Bench) -> Answer:
    bundle = Bundle(bench, ["/sleeper"])
    count = bench.size(quick=30, full=30, smoke=2)

    async with scratch_engine(bench.directory, "linux") as engine:

        async def filled(others: int) -> float:
            sandbox = await engine.create_sandbox(fresh_id(), spec=bundle.spec, **_NULL)
            await sandbox.root.start()

            async def another() -> None:
                container = await sandbox.create(fresh_id(), spec=bundle.spec, **_NULL)
                await container.start()

            await in_turns([another() for _ in range(others)], at_once=4)
            began = time.perf_counter()
            await sandbox.destroy()
            return time.perf_counter() - began

        found = await bench.interleave(
            {"with thirty": lambda: filled(count - 1), "with one": lambda: filled(0)},
            bench.size(quick=7, full=40, smoke=1),
        )
    return Answer.of_seconds(found)


QUESTION = Question(
    name="sandbox-destroy-thirty",
    wanted=(at_most("destroy a sandbox with 30 containers / with one", 3),),
    measure=measure,
)
