"""Does an adjustment of a sandbox's OOM score cost more, with ten thousand other records on the root?"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import asyncrt
from asyncrt.container.beside import tell
from asyncrt.state import read_record
from benchmarks import records
from benchmarks.question import Answer, Bench, Question, Skipped, at_most

_NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
_AT_ONCE = 20


async def measure(bench: Bench) -> Answer:
    async def filled(engine: asyncrt.Engine, score: int) -> asyncrt.Container:
        def sleeper(score: int | None) -> asyncrt.Spec:
            return asyncrt.Spec.command(["/bin/sleep", "1000"], oom_score_adj=score)

        try:
            sandbox = await engine.create_sandbox("pod", spec=sleeper(None), **_NULL)
        except asyncrt.SpecUnsupported as error:
            raise Skipped("several containers on the host need cgroups") from error
        await sandbox.root.start()
        container = await sandbox.create("app", spec=sleeper(score), **_NULL)
        await container.start()
        return container

    roots = [tempfile.mkdtemp(prefix="root-", dir=bench.directory) for _ in range(2)]
    async with asyncrt.Engine(roots[0]) as crowded, asyncrt.Engine(roots[1]) as empty:
        records.fill(bench, crowded.root, bench.size(quick=10_000, full=10_000, smoke=10))

        async def once(engine: asyncrt.Engine) -> float:
            record = read_record(engine.root, "app")
            began = time.perf_counter()
            for _ in range(_AT_ONCE):
                await tell(engine._context, record, "destroyed")  # noqa: SLF001 - this alone
            return (time.perf_counter() - began) / _AT_ONCE

        for each in (crowded, empty):
            await filled(each, 500)
            await once(each)
        found = await bench.interleave(
            {
                "10,000 other records": lambda: once(crowded),
                "none": lambda: once(empty),
            },
            bench.size(quick=50, full=400, smoke=1),
        )
        for each in (crowded, empty):
            await (await each.load_sandbox("pod")).destroy()
    return Answer.of_seconds(found)


QUESTION = Question(
    name="oom-scores-scale",
    wanted=(at_most("adjust an OOM score with 10,000 other records / with none", 1.1),),
    measure=measure,
)
