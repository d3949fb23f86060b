"""How fast can a workload write its output, beside a pipe into a file?

A program writes zeros to a LOG without timestamps and without rotation, from its start until its
end is known; against the same program piped into `cat >file`. Both files lie in memory. The default
LOG, with timestamps and rotated, is shown too.
"""

from __future__ import annotations

import asyncio
import os
import time

import asyncrt
from benchmarks.contenders import fresh_id, scratch_engine
from benchmarks.figures import Series, ratio
from benchmarks.question import ROUNDS, Answer, Bench, Question, at_least, shown

_PLAIN = asyncrt.Log(max_bytes=None, timestamps=False)


async def measure(bench: Bench) -> Answer:
    megabytes = bench.size(quick=64, full=1024, smoke=1)
    script = f"head -c {megabytes}M /dev/zero"
    async with scratch_engine(bench.directory) as engine:
        found = await bench.interleave(
            {
                "LOG": lambda: _log(engine, script, _PLAIN),
                "cat >file": lambda: _cat(bench.directory, script),
                "LOG with timestamps, rotated": lambda: _log(engine, script, asyncrt.LOG),
            },
            bench.size(quick=ROUNDS, full=3 * ROUNDS, smoke=1),
        )
    ours, theirs, stamped = (
        Series(name=name, unit="MB/s", values=[megabytes / each for each in values])
        for name, values in found.items()
    )
    return Answer(
        figures={"ratio": ratio(ours, theirs), "stamped": ratio(stamped, theirs)},
        series=(ours, theirs, stamped),
    )


async def _log(engine: asyncrt.Engine, script: str, log: asyncrt.Log) -> float:
    container = await engine.create(
        fresh_id("log"),
        spec=asyncrt.Spec.command(["/bin/sh", "-c", script]),
        stdout=log,
        stderr=asyncrt.DEVNULL,
    )
    try:
        began = time.perf_counter()
        await container.start()
        await container.wait()
        return time.perf_counter() - began
    finally:
        await container.destroy()


async def _cat(directory: str, script: str) -> float:
    path = f"{directory}/piped"
    began = time.perf_counter()
    process = await asyncio.create_subprocess_shell(f"{script} | cat >{path}")
    await process.wait()
    seconds = time.perf_counter() - began
    os.unlink(path)
    return seconds


QUESTION = Question(
    name="log-throughput",
    wanted=(
        at_least("throughput of a LOG without timestamps / of a pipe into `cat >file`", 0.5),
        shown(
            "throughput of a LOG with timestamps, rotated / of the same pipe",
            key="stamped",
            better="higher",
        ),
    ),
    measure=measure,
)
