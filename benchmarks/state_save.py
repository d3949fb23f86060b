"""What does saving a record cost, on a file system in memory and on a disk, small and big?

The lock is held already. Records of 0.3 KB (the smallest that there is has a little more), 2 KB and
20 KB; asyncrt's save, the same system calls in plain Python, and what others do in its place. On a
disk asyncrt takes one hop to a worker thread, so that the event loop goes on meanwhile; the plain
calls stop it.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from asyncrt.state import Record
from benchmarks import records, savers
from benchmarks.figures import Figure, Series, ratio
from benchmarks.plots import Curve, Panel, Plot
from benchmarks.question import Answer, Bench, Question, shown

_SIZES = (300, 2000, 20_000)
_KINDS = (
    savers.OURS_DURABLE,
    savers.OURS,
    savers.TRUNCATE,
    savers.RENAME,
    savers.RENAME_DURABLE,
    savers.HOPS,
    savers.HOPS_DURABLE,
    savers.SQLITE_NORMAL,
    savers.SQLITE_FULL,
)
_MIDDLE = 2000

Found = dict[tuple[str, int], dict[str, Series]]  # by file system and size


async def measure(bench: Bench) -> Answer:
    bases = {"memory": bench.directory} | ({"disk": bench.disk} if bench.disk else {})
    found: Found = {}
    for (where, base), size in itertools.product(bases.items(), _SIZES):
        if bench.quick and not bench.smoke and size != _MIDDLE:
            continue
        found[where, size] = await _save(bench, base, where, size)
    figures: dict[str, Figure] = {}
    lacking: dict[str, str] = {}
    for where in ("memory", "disk"):
        if where not in bases:
            lacking |= {
                f"{where}-{what}": "no disk to write to" for what in ("sync", "hops", "sqlite")
            }
            continue
        middle = found[where, _MIDDLE]
        ours = middle[savers.OURS_DURABLE]
        figures[f"{where}-sync"] = ratio(ours, middle[savers.RENAME_DURABLE])
        figures[f"{where}-hops"] = ratio(ours, middle[savers.HOPS_DURABLE])
        figures[f"{where}-sqlite"] = ratio(ours, middle[savers.SQLITE_FULL])
    series = tuple(
        msgspec.structs.replace(each, name=f"{where}, {size / 1000:g} KB: {each.name}")
        for (where, size), kinds in found.items()
        for each in kinds.values()
    )
    plots = (_plot(found, list(bases)),) if not bench.quick else ()
    return Answer(figures=figures, lacking=lacking, series=series, plots=plots)


async def _save(bench: Bench, base: str, where: str, size: int) -> dict[str, Series]:
    count = bench.size(quick=100, full=300, smoke=1)
    if where == "disk":
        count = max(1, count // 10)
    contenders: dict[str, Callable[[], Awaitable[float]]] = {}
    made = []
    for kind in _KINDS:
        directory = tempfile.mkdtemp(dir=base)
        record = records.of_size(savers.NAME, size)
        await savers.first(directory, msgspec.structs.replace(record))
        saver = savers.make(kind, directory)
        made.append(saver)
        contenders[kind] = partial(_mean, saver, record, count)
    try:
        found = await bench.interleave(contenders, bench.rounds(full=11))
    finally:
        for each in made:
            await each.close()
    return {
        kind: Series(name=kind, unit="us", values=[each * 1e6 for each in values])
        for kind, values in found.items()
    }


async def _mean(saver: savers.Saver, record: Record, count: int) -> float:
    await saver.save(record)
    began = time.perf_counter()
    for _ in range(count):
        await saver.save(record)
    return (time.perf_counter() - began) / count


def _plot(found: Found, bases: list[str]) -> Plot:
    panels = []
    for where in bases:
        sizes = [size for place, size in found if place == where]
        panels.append(
            Panel(
                title={"memory": "in memory (tmpfs)", "disk": "on a disk"}[where],
                curves=[
                    Curve(
                        name=kind,
                        x=[size / 1000 for size in sizes],
                        y=[found[where, size][kind].median for size in sizes],
                    )
                    for kind in _KINDS
                ],
            )
        )
    return Plot(
        name="state-save",
        title="Saving a record",
        kind="lines",
        x="size of the record, KB",
        y="microseconds",
        log_x=True,
        log_y=True,
        panels=panels,
    )


QUESTION = Question(
    name="state-save",
    wanted=(
        shown("memory, 2 KB, durable / the same calls in sync Python", key="memory-sync"),
        shown("memory, 2 KB, durable / aiofiles hop by hop", key="memory-hops"),
        shown("memory, 2 KB, durable / sqlite3, WAL, FULL", key="memory-sqlite"),
        shown("disk, 2 KB, durable / the same calls in sync Python", key="disk-sync"),
        shown("disk, 2 KB, durable / aiofiles hop by hop", key="disk-hops"),
        shown("disk, 2 KB, durable / sqlite3, WAL, FULL", key="disk-sqlite"),
    ),
    measure=measure,
)
