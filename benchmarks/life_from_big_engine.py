"""Does a container's life cost more from a big process than from a small one?

Forking a process costs time for each page it has. An engine never forks itself, so an engine in a
process with 300 MB resident should be as fast as one in a process with 30 MB.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from benchmarks import programs
from benchmarks.figures import Series
from benchmarks.question import Answer, Bench, Question, at_most
from benchmarks.workers import CHECKOUT

_BIG, _SMALL = 300, 30


async def measure(bench: Bench) -> Answer:
    true = programs.true(bench.directory)
    async with (
        interpreter(_BIG, bench.directory, true) as (big, big_size),
        interpreter(_SMALL, bench.directory, true) as (small, small_size),
    ):
        found = await bench.interleave(
            {"big": lambda: one_life(big), "small": lambda: one_life(small)},
            bench.size(quick=100, full=1000, smoke=1),
        )
    return Answer.of_ratio(
        Series(name=f"engine of {big_size} MB", unit="ms", values=found["big"]),
        Series(name=f"engine of {small_size} MB", unit="ms", values=found["small"]),
    )


@contextlib.asynccontextmanager
async def interpreter(
    megabytes: int, directory: str, true: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A helper that is ready to measure, and its resident size in MB."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.resident", str(megabytes), directory, true),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=CHECKOUT,
    )
    assert process.stdin is not None
    try:
        yield process, round(await _answer(process) / 1024)
    finally:
        process.stdin.close()
        await process.wait()


async def one_life(process: asyncio.subprocess.Process) -> float:
    """Milliseconds that one life took, as the helper measured it."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    return await _answer(process) * 1e3


async def _answer(process: asyncio.subprocess.Process) -> float:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a helper ended with {await process.wait()}")
    return float(line)


QUESTION = Question(
    name="life-from-big-engine",
    wanted=(
        at_most(
            f"the same from an engine with {_BIG} MB resident / with {_SMALL} MB",
            1.2,
        ),
    ),
    measure=measure,
)
