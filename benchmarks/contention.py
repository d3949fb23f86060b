"""One setting of processes and tasks that want one lock, and what came of it in each round."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import msgspec

from benchmarks import locks
from benchmarks.figures import Series, jain, quantiles
from benchmarks.question import Bench
from benchmarks.tasks import Contend, Contended
from benchmarks.workers import Worker, start_time, together

_files = itertools.count()
SHARES = [each / 200 for each in range(200)] + [0.996, 0.997, 0.998, 0.999, 1.0]


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """So many processes of so many tasks each, and the seconds of one section."""

    processes: int
    tasks: int
    hold: float

    def __str__(self) -> str:
        return f"{self.processes} x {self.tasks}, {self.hold * 1e3:g} ms"


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What one contender did in one round of one setting. Waits are in milliseconds."""

    throughput: float
    p50: float
    p99: float
    longest: float
    jain_process: float
    jain_task: float
    cpu: float
    waits: list[float]


class Cells:
    """All rounds of one contender in one setting."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rounds: list[Cell] = []

    def of(self, field: str, unit: str = "") -> Series:
        """The series of one of a cell's numbers."""
        values = [float(getattr(each, field)) for each in self.rounds]
        return Series(name=self.name, unit=unit, values=values)

    def median(self, field: str) -> float:
        return self.of(field).median


def contenders(setting: Setting) -> list[str]:
    """Everybody who can compete there."""
    # What stops its process competes where each has one task only; one of those will do.
    left_out = {locks.FLOCK} if setting.tasks == 1 else set(locks.SYNC)
    return locks.installed(locks.OURS, *(each for each in locks.PEERS if each not in left_out))


async def compete(
    bench: Bench,
    workers: Sequence[Worker],
    setting: Setting,
    names: Sequence[str],
    *,
    seconds: float,
    rounds: int,
) -> dict[str, Cells]:
    """Each contender's rounds, taken in turns, the order turned round with each round."""
    cells = {name: Cells(name) for name in names}
    order = list(names)
    for _ in range(rounds):
        for name in order:
            cells[name].rounds.append(await _one(bench, workers, setting, name, seconds))
        order.reverse()
        bench.step()
    return cells


async def _one(
    bench: Bench, workers: Sequence[Worker], setting: Setting, name: str, seconds: float
) -> Cell:
    path = os.path.join(bench.directory, f"contended-{next(_files)}")
    task = Contend(
        lock=name,
        path=path,
        start=start_time(),
        seconds=seconds,
        tasks=setting.tasks,
        hold=setting.hold,
    )
    chosen = workers[: setting.processes]
    return cell(await together(chosen, [task] * len(chosen), Contended), seconds)


def cell(answers: Sequence[Contended], seconds: float) -> Cell:
    """The answers of all processes, put together."""
    counts = [count for each in answers for count in each.counts]
    waits = [wait / 1e3 for each in answers for wait in each.waits]
    spread = quantiles(waits, SHARES) if waits else []
    p50, p99, longest = quantiles(waits, (0.5, 0.99, 1.0)) if waits else [seconds * 1e3] * 3
    total = sum(counts)
    return Cell(
        throughput=total / seconds,
        p50=p50,
        p99=p99,
        longest=longest,
        jain_process=jain([sum(each.counts) for each in answers]),
        jain_task=jain(counts),
        cpu=sum(each.cpu for each in answers) / max(1, total) * 1000,
        waits=spread,
    )
