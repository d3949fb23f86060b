"""Does a root get slow with the number of its records?

List, lookup by prefix and load of one, with 100 to 100,000 stopped containers in the root, each with
the files that such a one has. A list is held against the plain way through the same files: os.scandir,
read, msgspec; a lookup by prefix against a scan of the names; a load against itself among 100. The
quick run goes up to 10,000.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Awaitable, Callable

import msgspec

import asyncrt
from asyncrt import _paths
from asyncrt.ids import ContainerId
from asyncrt.state import Record, StateFile
from benchmarks import records
from benchmarks.figures import Series, ratio
from benchmarks.plots import Curve, Panel, Plot
from benchmarks.question import Answer, Bench, Question, at_most, shown

_SIZES = (100, 1000, 10_000, 100_000)
_LIST, _PLAIN = "Engine.list", "scandir, read, msgspec"
_PREFIX, _NAMES = "Engine.load of a prefix", "listdir, startswith"
_LOAD = "StateFile.load of one"
_decoder = msgspec.json.Decoder(Record)

Found = dict[int, dict[str, Series]]


async def measure(bench: Bench) -> Answer:
    sizes = _SIZES[: bench.size(quick=3, full=4, smoke=1)]
    found: Found = {}
    for size in sizes:
        root = tempfile.mkdtemp(prefix="root-", dir=bench.directory)
        async with asyncrt.Engine(root) as engine:
            records.fill(bench, engine.root, size)
            found[size] = await _measure_root(bench, engine, size)
    biggest = found[sizes[-1]]
    figures = {
        "list": ratio(biggest[_LIST], biggest[_PLAIN]),
        "prefix": ratio(biggest[_PREFIX], biggest[_NAMES]),
        "load": ratio(biggest[_LOAD], found[sizes[0]][_LOAD]),
    }
    series = tuple(
        msgspec.structs.replace(each, name=f"{size:,}: {each.name}")
        for size, kinds in found.items()
        for each in kinds.values()
    )
    notes = () if sizes == _SIZES else (f"with {sizes[-1]:,} in place of {_SIZES[-1]:,}",)
    return Answer(figures=figures, series=series, plots=(_plot(found),), notes=notes)


async def _measure_root(bench: Bench, engine: asyncrt.Engine, size: int) -> dict[str, Series]:
    root = engine.root
    whole = records.name_of(size // 2)
    state = StateFile(root, ContainerId(whole))
    few = bench.size(quick=5, full=20, smoke=1) if size <= 1000 else 1
    many = bench.size(quick=50, full=200, smoke=1)

    async def listed() -> None:
        assert len(await engine.list()) == size

    async def plainly() -> None:
        assert len(read_plainly(root)) == size

    async def by_prefix() -> None:
        assert (await engine.load(whole[:-1])).id == whole

    async def by_names() -> None:
        assert len([each for each in os.listdir(root) if each.startswith(whole[:-1])]) > 0

    async def loaded() -> None:
        assert (await state.load()).id == whole

    def times(count: int, func: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[float]]:
        async def mean() -> float:
            began = time.perf_counter()
            for _ in range(count):
                await func()
            return (time.perf_counter() - began) / count * 1e3

        return mean

    contenders = {
        _LIST: times(few, listed),
        _PLAIN: times(few, plainly),
        _PREFIX: times(few, by_prefix),
        _NAMES: times(few, by_names),
        _LOAD: times(many, loaded),
    }
    found = await bench.interleave(contenders, bench.rounds())
    return {name: Series(name=name, unit="ms", values=values) for name, values in found.items()}


def read_plainly(root: str) -> list[Record]:
    """What a short script would do that knows the record's type."""
    found = []
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.endswith(_paths.STATE):
                with open(entry.path, "rb") as file:
                    found.append(_decoder.decode(file.read()))
    return found


def _plot(found: Found) -> Plot:
    names = (_LIST, _PLAIN, _PREFIX, _NAMES, _LOAD)
    curves = [
        Curve(
            name=name,
            x=[float(size) for size in found],
            y=[kinds[name].median for kinds in found.values()],
        )
        for name in names
    ]
    return Plot(
        name="state-scale",
        title="What the number of records in a root costs",
        kind="lines",
        x="records in the root",
        y="milliseconds",
        log_x=True,
        log_y=True,
        panels=[Panel(title="", curves=curves)],
    )


QUESTION = Question(
    name="state-scale",
    wanted=(
        at_most(f"list of {_SIZES[-1]:,} / plain scandir, read, msgspec", 1.2, key="list"),
        shown("lookup by prefix / listdir and startswith", key="prefix"),
        shown(f"load of one among so many / among {_SIZES[0]}", key="load"),
    ),
    measure=measure,
)
