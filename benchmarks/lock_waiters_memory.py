"""How much memory do 10,000 waiters on one lock take?

Unique memory of a process in which 10,000 tasks wait for one lock, above what it had before; tasks
and lock objects are included. The floor is an asyncio.Lock, which knows of one process only.
"""

from __future__ import annotations

import itertools
import os
from functools import partial

from benchmarks import locks
from benchmarks.figures import Series, ratio
from benchmarks.question import Answer, Bench, Question, shown
from benchmarks.tasks import Crowd
from benchmarks.workers import crew, start_time

_WAITERS = 10_000
_files = itertools.count()


async def measure(bench: Bench) -> Answer:
    waiters = bench.size(quick=_WAITERS, full=_WAITERS, smoke=100)
    names = [locks.OURS, locks.MEMORY]
    if not bench.quick:
        names += [locks.ONE_THREAD, locks.POLLING[50]]

    async def one(name: str) -> float:
        path = os.path.join(bench.directory, f"crowded-{next(_files)}")
        task = Crowd(lock=name, path=path, start=start_time(), waiters=waiters)
        async with crew(1) as (worker,):  # a fresh one: memory is seldom given back
            return await worker.do(task, float)

    contenders = {name: partial(one, name) for name in names}
    found = await bench.interleave(contenders, bench.rounds())
    series = {
        name: Series(name=name, unit="B/waiter", values=[each * 1024 / waiters for each in values])
        for name, values in found.items()
    }
    return Answer(
        figures={"memory": ratio(series[locks.OURS], series[locks.MEMORY])},
        series=tuple(series.values()),
    )


QUESTION = Question(
    name="lock-waiters-memory",
    wanted=(shown(f"memory of {_WAITERS:,} waiters / of an asyncio.Lock's", key="memory"),),
    measure=measure,
)
