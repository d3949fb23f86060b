"""How long after a release does a waiter in another process have the lock?

One process holds it and releases at a moment that the other, which has been waiting for long, doesn't
know. Each keeps to a core of its own: else the kernel wakes the waiter now here, now there, at very
different costs. Nobody else is there. Who polls hears of it at its next look, half an interval late on average:
it gets longer holds, and fewer of them.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Sequence

from benchmarks import locks
from benchmarks.figures import Series, quantile, ratio
from benchmarks.plots import Curve, Panel, Plot
from benchmarks.question import Answer, Bench, Question, at_most
from benchmarks.tasks import Give, Take
from benchmarks.workers import Worker, crew, start_time

_FAST = (locks.PORTALOCKER, locks.OURS, locks.ONE_THREAD)
_SLOW = {  # milliseconds between two looks
    locks.POLLING[1]: 1,
    locks.POLLING[10]: 10,
    locks.POLLING[50]: 50,
    locks.FILELOCK: 50,
    locks.AIOFILELOCK: 1000,
}
_WAITED = 0.003  # seconds that the waiter waits at least
_REST = 0.002  # seconds between one hand-over and the next
_files = itertools.count()


async def measure(bench: Bench) -> Answer:
    names = list(_FAST)
    if not bench.quick:
        names += [locks.THREAD_EACH, locks.TO_THREAD, *locks.installed(*_SLOW)]
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    rounds = bench.rounds()
    dice = random.Random(1)
    bench.expect(rounds)
    async with crew(2) as (giver, taker):
        for _ in range(rounds):
            for name in names:
                count = bench.size(quick=20, full=100, smoke=2)
                count = max(2, count // (1 + _SLOW.get(name, 0)))
                path = os.path.join(bench.directory, f"handed-{next(_files)}")
                found[name].append(await _hand_over(giver, taker, name, path, count, dice))
            names.reverse()
            bench.step()
    series = {
        name: Series(name=name, unit="us", values=[quantile(each, 0.5) * 1e6 for each in per_round])
        for name, per_round in found.items()
    }
    return Answer(
        figures={"sync": ratio(series[locks.OURS], series[locks.PORTALOCKER])},
        series=tuple(series.values()),
        plots=(_plot(found),),
    )


async def _hand_over(
    giver: Worker, taker: Worker, name: str, path: str, count: int, dice: random.Random
) -> list[float]:
    """Seconds from each release, before its call, to the acquire that returned for it."""
    interval = _SLOW.get(name, 0) / 1e3
    take_at, ask_at, release_at = [], [], []
    now = 0.0
    for _ in range(count):
        take_at.append(now)
        ask_at.append(now + _REST)
        now += _REST + _WAITED + interval * (0.2 + dice.random())
        release_at.append(now)
        now += _REST + interval * 1.3
    start = start_time()
    giver.send(
        Give(core=0, lock=name, path=path, start=start, take_at=take_at, release_at=release_at)
    )
    taker.send(Take(core=1, lock=name, path=path, start=start, ask_at=ask_at))
    released = await giver.answer(list[float])
    taken = await taker.answer(list[float])
    return between(released, taken)


def between(released: Sequence[float], taken: Sequence[float]) -> list[float]:
    """How late each came. One that came before its release wasn't waiting for it: its fault."""
    late = [came - gone for gone, came in zip(released, taken, strict=True)]
    return [each for each in late if each > 0] or [0.0]


def _plot(found: dict[str, list[list[float]]]) -> Plot:
    curves = []
    for name, rounds in found.items():
        every = sorted(value * 1e6 for each in rounds for value in each)
        shares = [(index + 1) / len(every) * 100 for index in range(len(every))]
        curves.append(Curve(name=name, x=every, y=shares))
    return Plot(
        name="lock-handoff",
        title="From a release in one process to the acquire in another",
        kind="steps",
        x="microseconds",
        y="hand-overs that took no longer, %",
        log_x=True,
        panels=[Panel(title="", curves=curves)],
    )


QUESTION = Question(
    name="lock-handoff",
    wanted=(at_most("release to acquired between processes / sync portalocker", 4, key="sync"),),
    measure=measure,
)
