"""How many changes of a record a second: lock, load, save, unlock?

A record of 2 KB, beside the same in Go (flock and WriteFile, as gVisor does it, and with rename; both
decode and encode the JSON), in synchronous Python with the same system calls, by portalocker and
aiofiles with a hop for each call, and by sqlite3. In memory nothing is synced in the figure that has a
goal; on a disk everything is. Without a Go toolchain synchronous Python is the peer.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial

from benchmarks import records, savers
from benchmarks.figures import Figure, Series, ratio
from benchmarks.go_peer import GoPeer, build, running
from benchmarks.plots import Curve, Panel, Plot
from benchmarks.question import Answer, Bench, Question, Skipped, at_least, shown

_SIZE = 2000
_GO = {
    "Go: truncate, write (gVisor)": "writefile",
    "Go: write, rename": "rename",
    "Go: write, fsync, rename, fsync": "durable",
}
_GO_WRITE, _GO_RENAME, _GO_DURABLE = _GO
_IN_MEMORY = (
    savers.OURS,
    savers.OURS_DURABLE,
    savers.TRUNCATE,
    savers.RENAME,
    savers.RENAME_DURABLE,
    savers.HOPS,
    savers.SQLITE_NORMAL,
    savers.SQLITE_FULL,
)
_ON_DISK = (
    savers.OURS_DURABLE,
    savers.RENAME_DURABLE,
    savers.HOPS_DURABLE,
    savers.SQLITE_FULL,
)


async def measure(bench: Bench) -> Answer:
    notes: tuple[str, ...] = ()
    try:
        go = build(bench.directory)
    except Skipped as reason:
        go = None
        notes = (f"{reason}: synchronous Python with rename is the peer in memory",)
    memory = await _cycles(bench, bench.directory, _IN_MEMORY, list(_GO) if go else [], go)
    figures = {
        "memory": ratio(memory[savers.OURS], memory[_GO_RENAME if go else savers.RENAME]),
        "memory-durable": ratio(
            memory[savers.OURS_DURABLE], memory[_GO_DURABLE if go else savers.RENAME_DURABLE]
        ),
        "memory-sync": ratio(memory[savers.OURS], memory[savers.RENAME]),
        "hops": ratio(memory[savers.OURS], memory[savers.HOPS]),
    }
    lacking = {}
    if go:
        figures["gvisor"] = ratio(memory[savers.OURS], memory[_GO_WRITE])
    else:
        lacking["gvisor"] = "there is no Go toolchain (golang-go)"
    disk: dict[str, Series] = {}
    if bench.disk is None:
        lacking["disk"] = "no disk to write to"
    else:
        names = [_GO_DURABLE] if go else []
        disk = await _cycles(bench, bench.disk, _ON_DISK, names, go)
        figures["disk"] = ratio(disk[savers.OURS_DURABLE], disk[savers.RENAME_DURABLE])
    return _answer(figures, lacking, memory, disk, notes)


async def _cycles(
    bench: Bench, base: str, kinds: tuple[str, ...], go_names: list[str], go: str | None
) -> dict[str, Series]:
    count = bench.size(quick=200, full=1000, smoke=2)
    if base == bench.disk:
        count = max(2, count // 10)
    contenders: dict[str, Callable[[], Awaitable[float]]] = {}
    async with contextlib.AsyncExitStack() as stack:
        for kind in kinds:
            saver = savers.make(kind, await _prepared(base))
            stack.push_async_callback(saver.close)
            contenders[kind] = partial(_rate, saver, count)
        for name in go_names:
            assert go is not None
            peer = await stack.enter_async_context(running(go, await _prepared(base)))
            contenders[name] = partial(_go_rate, peer, _GO[name], count)
        for each in contenders.values():
            await each()  # imports, first threads, first pages
        found = await bench.interleave(contenders, bench.rounds(quick=9, full=21))
    return {name: Series(name=name, unit="1/s", values=values) for name, values in found.items()}


async def _prepared(base: str) -> str:
    directory = tempfile.mkdtemp(dir=base)
    await savers.first(directory, records.of_size(savers.NAME, _SIZE))
    return directory


async def _rate(saver: savers.Saver, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        await saver.cycle()
    return count / (time.perf_counter() - began)


async def _go_rate(peer: GoPeer, mode: str, count: int) -> float:
    return 1 / await peer.cycle(mode, count)


def _answer(
    figures: dict[str, Figure],
    lacking: dict[str, str],
    memory: dict[str, Series],
    disk: dict[str, Series],
    notes: tuple[str, ...],
) -> Answer:
    panels, series = [], []
    for where, found in (("in memory (tmpfs)", memory), ("on a disk", disk)):
        if not found:
            continue
        order = sorted(found.values(), key=lambda each: -each.median)
        labels = [each.name for each in order]
        curve = Curve(name="median of rounds", labels=labels, y=[each.median for each in order])
        panels.append(Panel(title=where, curves=[curve]))
        series += [
            Series(name=f"{where}: {each.name}", unit=each.unit, values=each.values)
            for each in found.values()
        ]
    plot = Plot(
        name="state-cycle",
        title="Lock, load, save and unlock a record of 2 KB",
        kind="bars",
        x="",
        y="times per second",
        panels=panels,
    )
    return Answer(
        figures=figures, lacking=lacking, series=tuple(series), plots=(plot,), notes=notes
    )


QUESTION = Question(
    name="state-cycle",
    wanted=(
        at_least("memory: throughput / the same in Go with rename", 0.7, key="memory"),
        at_least("disk, durable: throughput / sync Python, the same calls", 0.7, key="disk"),
        shown("memory, durable / Go, rename, both fsyncs", key="memory-durable", better="higher"),
        shown("memory / Go, flock and WriteFile (gVisor)", key="gvisor", better="higher"),
        shown("memory / sync Python, the same calls", key="memory-sync", better="higher"),
        shown("memory / portalocker + aiofiles, hop by hop", key="hops", better="higher"),
    ),
    measure=measure,
)
