"""What does it cost to destroy a sandbox with thirty containers, beside one with a single one?

Once all of it, each with its record and its cgroups, and once the root container only, whose end ends
the others and leaves their records to be removed by who created them.
"""

from __future__ import annotations

import time
from typing import Any

import asyncrt
from benchmarks.bundles import Bundle
from benchmarks.contenders import fresh_id, in_turns, scratch_engine
from benchmarks.figures import Series, ratio
from benchmarks.question import Answer, Bench, Question, at_most

_NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}


async def measure(bench: Bench) -> Answer:
    bundle = Bundle(bench, ["/sleeper"])
    count = bench.size(quick=30, full=30, smoke=2)

    async with scratch_engine(bench.directory, "linux") as engine:

        async def filled(others: int, *, whole: bool) -> float:
            sandbox = await engine.create_sandbox(fresh_id(), spec=bundle.spec, **_NULL)
            await sandbox.root.start()

            async def another() -> None:
                container = await sandbox.create(fresh_id(), spec=bundle.spec, **_NULL)
                await container.start()

            await in_turns([another() for _ in range(others)], at_once=4)
            containers = await sandbox.containers()
            began = time.perf_counter()
            await (sandbox.destroy() if whole else sandbox.root.destroy())
            seconds = time.perf_counter() - began
            await engine.destroy_many(containers)
            return seconds

        found = await bench.interleave(
            {
                "with thirty": lambda: filled(count - 1, whole=True),
                "with one": lambda: filled(0, whole=True),
                "with thirty, the root": lambda: filled(count - 1, whole=False),
            },
            bench.size(quick=7, full=40, smoke=1),
        )
    all_of_it, one, root = (
        Series(name=name, unit="ms", values=[each * 1e3 for each in values])
        for name, values in found.items()
    )
    return Answer(
        figures={"ratio": ratio(all_of_it, one), "root": ratio(root, one)},
        series=(all_of_it, one, root),
    )


QUESTION = Question(
    name="sandbox-destroy-thirty",
    wanted=(
        at_most("destroy a sandbox with 30 containers / with one", 3),
        at_most("the same, of the 30 the root, which ends all / with one", 3, key="root"),
    ),
    measure=measure,
)
