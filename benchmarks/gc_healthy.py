"""What does a gc cost where there is nothing to do?

Engine.recover of 10,000 healthy stopped containers, with all their files and their events told,
against Engine.list of the same, on a root in memory. The same on a dry run is reported.
"""

from __future__ import annotations

import tempfile
import time

import asyncrt
from asyncrt import _paths
from benchmarks import records
from benchmarks.question import Answer, Bench, Question, at_most

_COUNT = 10_000


async def measure(bench: Bench) -> Answer:
    root = tempfile.mkdtemp(prefix="root-", dir=bench.directory)
    async with asyncrt.Engine(root) as engine:
        count = bench.size(quick=_COUNT, full=_COUNT, smoke=100)
        records.fill(bench, engine.root, count)
        for number in range(count):
            name = records.name_of(number)
            with open(f"{root}/{name}{_paths.DIRECTORY}/{_paths.CONFIG}", "wb") as file:
                file.write(b"{}")
        await engine.run("first", spec=asyncrt.Spec.command(["true"]), stdout=asyncrt.DEVNULL)
        await engine.recover()  # tells of all their ends in the log that this has made

        async def listed() -> float:
            return await records.list_seconds(engine, count)

        async def recovered() -> float:
            began = time.perf_counter()
            report = await engine.recover()
            seconds = time.perf_counter() - began
            assert report.findings == (), report.findings[:3]
            return seconds

        async def rehearsed() -> float:
            began = time.perf_counter()
            report = await engine.recover(dry_run=True)
            seconds = time.perf_counter() - began
            assert report.findings == (), report.findings[:3]
            return seconds

        found = await bench.interleave(
            {"Engine.recover": recovered, "Engine.list": listed, "dry run": rehearsed},
            bench.size(quick=10, full=60, smoke=1),
        )
    return Answer.of_seconds(found)


QUESTION = Question(
    name="gc-healthy",
    wanted=(at_most(f"recover() of {_COUNT:,} healthy / list() of them", 2.0),),
    measure=measure,
)
