"""Do readers starve a writer, and what does the writer cost them?

8 processes read, each in sections of 2 ms with nothing in between, and one writes in empty sections
with a pause of 1 ms. Compared are the writer among them with the writer alone, and the readers with
the writer with the readers alone. In the full run peers show what readers do to a writer without care.
"""

from __future__ import annotations

import itertools
import os

from benchmarks import locks
from benchmarks.contention import cell
from benchmarks.figures import Figure, Series, middle, ratio
from benchmarks.plots import Curve, Panel, Plot
from benchmarks.question import Answer, Bench, Question, at_least, at_most
from benchmarks.tasks import Contend, Contended
from benchmarks.workers import Worker, crew, start_time, together

_READERS = 8
_SECTION = 0.002
_PAUSE = 0.001
_files = itertools.count()


class _Side:
    """What one kind of lock did, round by round."""

    def __init__(self) -> None:
        self.alone: list[float] = []
        self.among: list[float] = []
        self.undisturbed: list[float] = []
        self.disturbed: list[float] = []
        self.longest: list[float] = []


async def measure(bench: Bench) -> Answer:
    names = [locks.OURS]
    if not bench.quick:
        names += [locks.PORTALOCKER, locks.THREAD_EACH, locks.POLLING[1]]
    sides = {name: _Side() for name in names}
    seconds = bench.seconds(quick=0.2, full=0.5)
    rounds = bench.rounds()
    bench.expect(rounds)
    async with crew(_READERS + 1) as workers:
        for _ in range(rounds):
            for name in names:
                await _round(bench, workers, name, sides[name], seconds)
            names.reverse()
            bench.step()
    ours = sides[locks.OURS]
    series = [
        Series(name=f"{name}: {what}", unit=unit, values=getattr(side, field))
        for name, side in sides.items()
        for field, unit, what in (
            ("alone", "1/s", "writes, alone"),
            ("among", "1/s", "writes, among readers"),
            ("undisturbed", "1/s", "reads, no writer"),
            ("disturbed", "1/s", "reads, with the writer"),
            ("longest", "ms", "longest wait of the writer"),
        )
    ]
    return Answer(
        figures={
            "writes": ratio(_series(ours.among), _series(ours.alone)),
            "readers-loss": _loss(ours),
            "longest": middle([each / (_SECTION * 1e3) for each in ours.longest]),
        },
        series=tuple(series),
        plots=(_plot(sides),),
    )


async def _round(
    bench: Bench, workers: list[Worker], name: str, side: _Side, seconds: float
) -> None:
    writer, readers = workers[0], workers[1:]
    path = os.path.join(bench.directory, f"read-{next(_files)}")

    def writes() -> Contend:
        return Contend(
            lock=name,
            path=path,
            start=start_time(),
            seconds=seconds,
            tasks=1,
            hold=0,
            pause=_PAUSE,
        )

    def reads() -> Contend:
        return Contend(
            lock=name,
            path=path,
            start=start_time(),
            seconds=seconds,
            tasks=1,
            hold=_SECTION,
            shared=True,
        )

    (alone,) = await together([writer], [writes()], Contended)
    side.alone.append(sum(alone.counts) / seconds)
    readings = await together(readers, [reads()] * _READERS, Contended)
    side.undisturbed.append(cell(readings, seconds).throughput)
    tasks = [writes(), *[reads()] * _READERS]
    written, *readings = await together([writer, *readers], tasks, Contended)
    side.among.append(sum(written.counts) / seconds)
    side.disturbed.append(cell(readings, seconds).throughput)
    side.longest.append(max(written.waits, default=seconds * 1e6) / 1e3)


def _series(values: list[float]) -> Series:
    return Series(name="", unit="1/s", values=values)


def _loss(side: _Side) -> Figure:
    kept = ratio(_series(side.disturbed), _series(side.undisturbed))
    assert kept.low is not None
    assert kept.high is not None
    return Figure(
        value=(1 - kept.value) * 100, low=(1 - kept.high) * 100, high=(1 - kept.low) * 100
    )


def _plot(sides: dict[str, _Side]) -> Plot:
    names = list(sides)
    kept = [
        ("writer", [ratio(_series(s.among), _series(s.alone)).value for s in sides.values()]),
        (
            "readers",
            [ratio(_series(s.disturbed), _series(s.undisturbed)).value for s in sides.values()],
        ),
    ]
    return Plot(
        name="lock-readers-writer",
        title=f"A writer among {_READERS} readers: what each keeps of its speed alone",
        kind="bars",
        x="",
        y="acquires per second / the same alone",
        panels=[
            Panel(
                title="", curves=[Curve(name=name, labels=names, y=values) for name, values in kept]
            )
        ],
    )


QUESTION = Question(
    name="lock-readers-writer",
    wanted=(
        at_least(f"writes per second among {_READERS} readers / alone", 0.35, key="writes"),
        at_most("readers' loss by the writer", 15, key="readers-loss", unit="%"),
        at_most(
            "longest wait of the writer, in reader sections", 3, key="longest", unit="sections"
        ),
    ),
    measure=measure,
)
