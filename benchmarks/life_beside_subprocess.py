"""What does a container's whole life cost beside a plain asyncio subprocess?

create, start, wait and destroy of a static program that ends at once, by a warm engine on a root in
memory, against asyncio.create_subprocess_exec and wait of the same program.
"""

from __future__ import annotations

import asyncrt
from benchmarks import programs
from benchmarks.contenders import live_and_die, run_subprocess, scratch_engine
from benchmarks.question import Answer, Bench, Question, at_most


async def measure(bench: Bench) -> Answer:
    true = programs.true(bench.directory)
    spec = asyncrt.Spec.command([true])
    async with scratch_engine(bench.directory) as engine:
        await run_subprocess([true])
        found = await bench.interleave(
            {
                "asyncrt": lambda: live_and_die(engine, spec),
                "asyncio subprocess": lambda: run_subprocess([true]),
            },
            bench.size(quick=200, full=2000, smoke=1),
        )
    return Answer.of_seconds(found)


QUESTION = Question(
    name="life-beside-subprocess",
    wanted=(
        at_most(
            "create+start+wait+destroy of `true` / asyncio subprocess of the same",
            4.0,
        ),
    ),
    measure=measure,
)
