"""How fast and how fair is one lock that many tasks of many processes want all the time?

1, 2, 4 and 8 processes of 1, 16 and 64 tasks, with sections of 0 ms (once round the event loop, so
that the tasks of a process meet) and of 1 ms: throughput, waits, Jain's index of fairness, cpu.
The quick run has the three settings that goals are for. Synchronous portalocker stops the process
that waits, and competes where each has one task only.
"""

from __future__ import annotations

import msgspec

from benchmarks import locks
from benchmarks.contention import SHARES, Cells, Setting, compete, contenders
from benchmarks.figures import Figure, Medians, middle, ratio
from benchmarks.plots import Curve, Panel, Plot
from benchmarks.question import Answer, Bench, Question, at_least, at_most, shown
from benchmarks.workers import crew

_EMPTY = Setting(processes=4, tasks=16, hold=0)
_SHORT = Setting(processes=4, tasks=16, hold=0.001)
_ALONE = Setting(processes=8, tasks=1, hold=0.001)
_GOALS = {  # and who has to be there for them
    _EMPTY: (locks.OURS, locks.ONE_THREAD, locks.ONE_THREAD_INLINE, locks.FILELOCK),
    _SHORT: (locks.OURS, locks.ONE_THREAD),
    _ALONE: (locks.OURS, locks.PORTALOCKER),
}
_SECONDS = {_EMPTY: 0.6, _SHORT: 0.5, _ALONE: 0.6}  # of one full measurement
_PROCESSES, _TASKS, _HOLDS = (1, 2, 4, 8), (1, 16, 64), (0.0, 0.001)
_FIELDS = (
    ("throughput", "1/s"),
    ("p50", "p50 ms"),
    ("p99", "p99 ms"),
    ("longest", "max ms"),
    ("jain_process", "Jain proc"),
    ("jain_task", "Jain task"),
    ("cpu", "cpu s/1000"),
)

_AGAINST = (  # what is drawn against the number of processes
    ("throughput", "Acquires per second of one lock", "acquires per second"),
    ("longest", "Longest wait for one lock", "milliseconds, as far as it was measured"),
)

Grid = dict[Setting, dict[str, Cells]]


async def measure(bench: Bench) -> Answer:
    settings = list(_GOALS)
    if not bench.quick:
        grid = [
            Setting(processes=processes, tasks=tasks, hold=hold)
            for hold in _HOLDS
            for tasks in _TASKS
            for processes in _PROCESSES
        ]
        settings += [each for each in grid if each not in _GOALS]
    rounds = bench.rounds()
    found: Grid = {}
    bench.expect(rounds * len(settings))
    async with crew(max(each.processes for each in settings)) as workers:
        for setting in settings:
            names = locks.installed(*_GOALS[setting]) if bench.quick else contenders(setting)
            found[setting] = await compete(
                bench,
                workers,
                setting,
                names,
                seconds=bench.seconds(quick=0.2, full=_SECONDS.get(setting) or _seconds(setting)),
                rounds=rounds,
            )
    figures, lacking = _figures(found)
    details = tuple(
        msgspec.structs.replace(cells.of(field, unit), name=f"{setting}: {name}")
        for setting, competed in found.items()
        for field, unit in _FIELDS
        for name, cells in competed.items()
    )
    return Answer(
        figures=figures,
        lacking=lacking,
        details=details,
        tables=(_table(found),),
        plots=tuple(_plots(found)),
    )


def _seconds(setting: Setting) -> float:
    """Enough for one turn of every task and a half."""
    return max(0.15, 1.5 * setting.processes * setting.tasks * setting.hold * 1.1)


def _table(found: Grid) -> Medians:
    rows: list[list[str | float]] = [
        [str(setting), name, *(cells.median(field) for field, _ in _FIELDS)]
        for setting, competed in found.items()
        for name, cells in competed.items()
    ]
    columns = ["setting", "lock", *(unit for _, unit in _FIELDS)]
    return Medians(
        title="lock-contention, medians of rounds; a setting is processes x tasks, section; p50 to max are waits",
        columns=columns,
        rows=rows,
    )


def _figures(found: Grid) -> tuple[dict[str, Figure], dict[str, str]]:
    empty, short, alone = (found[each] for each in _GOALS)
    ours = empty[locks.OURS]
    throughput = ours.of("throughput")
    sync = alone[locks.PORTALOCKER]
    figures = {
        "one-thread": ratio(throughput, empty[locks.ONE_THREAD].of("throughput")),
        "inline": ratio(throughput, empty[locks.ONE_THREAD_INLINE].of("throughput")),
        "jain-process": middle(ours.of("jain_process").values),
        "jain-task": middle(ours.of("jain_task").values),
        "sync": ratio(alone[locks.OURS].of("throughput"), sync.of("throughput")),
        "sync-p99": ratio(alone[locks.OURS].of("p99"), sync.of("p99")),
        "cpu": ratio(short[locks.OURS].of("cpu"), short[locks.ONE_THREAD].of("cpu")),
        "short": ratio(
            short[locks.OURS].of("throughput"), short[locks.ONE_THREAD].of("throughput")
        ),
    }
    if locks.FILELOCK not in empty:
        return figures, {"filelock": locks.missing(locks.FILELOCK)}
    figures["filelock"] = ratio(throughput, empty[locks.FILELOCK].of("throughput"))
    return figures, {}


def _plots(found: Grid) -> list[Plot]:
    plots = [_waits(found), _fairness(found)]
    if len(found) > len(_GOALS):
        plots += [_against(found, hold, *each) for hold in _HOLDS for each in _AGAINST]
    return plots


def _waits(found: Grid) -> Plot:
    """The distribution of all rounds' waits, each round weighing the same."""
    panels = []
    for setting in (_EMPTY, _SHORT):
        curves = []
        for name, cells in found[setting].items():
            rounds = [each.waits for each in cells.rounds if each.waits]
            if rounds:
                middle_of = [sorted(each)[len(each) // 2] for each in zip(*rounds, strict=True)]
                at_least_10_us = [max(0.01, each) for each in middle_of]
                curves.append(Curve(name=name, x=at_least_10_us, y=[each * 100 for each in SHARES]))
        panels.append(Panel(title=_title(setting), curves=curves))
    return Plot(
        name="lock-waits",
        title="How long an acquire waits",
        kind="steps",
        x="wait, ms (no less than 0.01)",
        y="acquires that waited no longer, %",
        log_x=True,
        panels=panels,
    )


def _title(setting: Setting) -> str:
    return (
        f"{setting.processes} processes x {setting.tasks} tasks, {setting.hold * 1e3:g} ms sections"
    )


def _fairness(found: Grid) -> Plot:
    panels = []
    for setting in (_EMPTY, _SHORT):
        cells = found[setting]
        curves = [
            Curve(name=what, labels=list(cells), y=[each.median(field) for each in cells.values()])
            for what, field in (("processes", "jain_process"), ("tasks", "jain_task"))
        ]
        panels.append(Panel(title=_title(setting), curves=curves))
    return Plot(
        name="lock-fairness",
        title="How evenly the lock is shared",
        kind="bars",
        x="",
        y="Jain's index (1: all get the same)",
        panels=panels,
    )


def _against(found: Grid, hold: float, field: str, what: str, axis: str) -> Plot:
    panels = []
    for tasks in _TASKS:
        curves: dict[str, list[tuple[int, float]]] = {}
        for processes in _PROCESSES:
            cells = found[Setting(processes=processes, tasks=tasks, hold=hold)]
            for name, each in cells.items():
                curves.setdefault(name, []).append((processes, each.median(field)))
        panels.append(
            Panel(
                title="1 task each" if tasks == 1 else f"{tasks} tasks each",
                curves=[
                    Curve(name=name, x=[float(x) for x, _ in points], y=[y for _, y in points])
                    for name, points in curves.items()
                ],
            )
        )
    return Plot(
        name=f"lock-{field}-{hold * 1e3:g}ms",
        title=f"{what}, sections of {hold * 1e3:g} ms",
        kind="lines",
        x="processes",
        y=axis,
        log_x=True,
        log_y=True,
        panels=panels,
    )


QUESTION = Question(
    name="lock-contention",
    wanted=(
        at_least(f"{_EMPTY}: throughput / filelock.AsyncFileLock", 35, key="filelock"),
        at_least(f"{_EMPTY}: throughput / asyncio.Lock + one thread", 5, key="one-thread"),
        shown(
            f"{_EMPTY}: throughput / asyncio.Lock + one thread, release inline",
            key="inline",
            better="higher",
        ),
        at_least(f"{_EMPTY}: Jain per process", 0.98, key="jain-process", unit="of 1"),
        at_least(f"{_EMPTY}: Jain per task", 0.95, key="jain-task", unit="of 1"),
        at_least(f"{_ALONE}: throughput / sync portalocker", 0.85, key="sync"),
        at_most(f"{_ALONE}: p99 wait / sync portalocker", 1.5, key="sync-p99"),
        at_most(f"{_SHORT}: cpu per 1000 / asyncio.Lock + one thread", 0.6, key="cpu"),
        shown(f"{_SHORT}: throughput / asyncio.Lock + one thread", key="short", better="higher"),
    ),
    measure=measure,
)
