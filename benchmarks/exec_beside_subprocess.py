"""What does a program in a running container cost, beside a plain asyncio subprocess?

exec and wait of a static program that ends at once, in a container that runs, by a warm engine on a
root in memory, against asyncio.create_subprocess_exec and wait of the same program.
"""

from __future__ import annotations

import time

import asyncrt
from benchmarks import programs
from benchmarks.contenders import fresh_id, run_subprocess, scratch_engine
from benchmarks.question import Answer, Bench, Question, at_most


async def exec_once(container: asyncrt.Container, command: list[str]) -> float:
    """Seconds for exec and wait."""
    null = asyncrt.DEVNULL
    began = time.perf_counter()
    process = await container.exec(command, stdout=null, stderr=null)
    result = await process.wait()
    seconds = time.perf_counter() - began
    process.close()
    if result.exit_code != 0:
        raise RuntimeError(f"{command[0]} ended with {result}")
    return seconds


async def measure(bench: Bench) -> Answer:
    true = programs.true(bench.directory)
    spec = asyncrt.Spec.command(programs.sleeper(bench.directory))
    null = asyncrt.DEVNULL
    async with (
        scratch_engine(bench.directory) as engine,
        engine.running(fresh_id(), spec=spec, stdout=null, stderr=null) as container,
    ):
        await run_subprocess([true])
        await exec_once(container, [true])
        found = await bench.interleave(
            {
                "exec in a container": lambda: exec_once(container, [true]),
                "asyncio subprocess": lambda: run_subprocess([true]),
            },
            bench.size(quick=150, full=3000, smoke=1),
        )
    return Answer.of_seconds(found)


QUESTION = Question(
    name="exec-beside-subprocess",
    wanted=(at_most("exec+wait of `true` in a container / asyncio subprocess of the same", 2.5),),
    measure=measure,
)
