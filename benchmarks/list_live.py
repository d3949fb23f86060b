"""What does it cost list() to look whether containers live?

Engine.list of 500 running containers, each of which has to be held against its process, against 500
stopped ones whose ends are in their records. The full run reports apart those whose end nobody has
written into the record yet, so that the exit record is read too.
"""

from __future__ import annotations

import contextlib
import time

import asyncrt
from asyncrt.errors import InvalidTransition
from benchmarks import programs
from benchmarks.contenders import in_turns, scratch_engine, start_one
from benchmarks.question import Answer, Bench, Question, at_most

_COUNT = 500


async def measure(bench: Bench) -> Answer:
    sleeper = asyncrt.Spec.command(programs.sleeper(bench.directory))
    true = asyncrt.Spec.command([programs.true(bench.directory)])
    count = bench.size(quick=_COUNT, full=_COUNT, smoke=3)
    async with (
        scratch_engine(bench.directory) as live,
        scratch_engine(bench.directory) as folded,
        scratch_engine(bench.directory) as ended,
    ):
        contenders = {
            "live": lambda: _listed(live, count),
            "stopped": lambda: _listed(folded, count),
        }
        bench.expect(bench.size(quick=2, full=3) * count)
        everyone = [start_one(live, sleeper) for _ in range(count)]
        await in_turns(everyone, on_done=bench.step)
        for container in await _ended(bench, folded, true, count):
            await _fold(container)
        if not bench.quick:
            await _ended(bench, ended, true, count)
            contenders["stopped, not in the record yet"] = lambda: _listed(ended, count)
        found = await bench.interleave(contenders, bench.size(quick=30, full=300, smoke=1))
    return Answer.of_seconds(found)


async def _ended(
    bench: Bench, engine: asyncrt.Engine, spec: asyncrt.Spec, count: int
) -> list[asyncrt.Container]:
    async def one() -> asyncrt.Container:
        container = await start_one(engine, spec)
        await container.wait()
        return container

    return await in_turns([one() for _ in range(count)], on_done=bench.step)


async def _fold(container: asyncrt.Container) -> None:
    """Any verb under the lock writes the end into the record, also one that is refused for it."""
    with contextlib.suppress(InvalidTransition):
        await container.start()


async def _listed(engine: asyncrt.Engine, count: int) -> float:
    began = time.perf_counter()
    views = await engine.list()
    seconds = time.perf_counter() - began
    assert len(views) == count
    return seconds


QUESTION = Question(
    name="list-live",
    wanted=(
        at_most(
            f"list() of {_COUNT} live ones / of {_COUNT} stopped ones",
            3.0,
        ),
    ),
    measure=measure,
)
