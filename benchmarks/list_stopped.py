"""How long does a list of very many containers take?

Engine.list of 10,000 stopped containers whose ends are in their records, on a root in memory,
against the plain way through the same files: os.scandir, read, json.loads.
"""

from __future__ import annotations

import json
import os
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

        async def listed() -> float:
            return await records.list_seconds(engine, count)

        async def plainly() -> float:
            began = time.perf_counter()
            found = read_plainly(engine.root)
            seconds = time.perf_counter() - began
            assert len(found) == count
            return seconds

        found = await bench.interleave(
            {"Engine.list": listed, "scandir, read, json.loads": plainly},
            bench.size(quick=10, full=60, smoke=1),
        )
    return Answer.of_seconds(found)


def read_plainly(root: str) -> list[object]:
    """What a short script would do."""
    found = []
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.endswith(_paths.STATE):
                with open(entry.path, "rb") as file:
                    found.append(json.loads(file.read()))
    return found


QUESTION = Question(
    name="list-stopped",
    wanted=(
        at_most(
            f"list() of {_COUNT:,} stopped / os.scandir, read, json.loads of the same files",
            1.0,
        ),
    ),
    measure=measure,
)
