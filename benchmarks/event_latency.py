"""How soon does a watcher in another process hear of a transition?

A record's status is saved, and a watch in another process notes when that came out of it: timed from
right after the record's rename, so that the writing of the event counts. Against another process
that does nothing but block on a bare inotify of one file, timed from right before a write to it.
Reported apart: the same bare inotify in an asyncio loop. All stamp with the monotonic clock, which
processes share. No supervisor takes part: what it does meanwhile would be measured too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import asyncrt
from asyncrt import Status, _events
from asyncrt.state import Record
from benchmarks.figures import Figure, Series, ratio
from benchmarks.question import Answer, Bench, Question, at_most, shown

_WATCH = """
import asyncio, sys, time
import asyncrt
async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine, engine.watch() as watch:
        print("ready", flush=True)
        async for event in watch:
            print(time.monotonic_ns(), flush=True)
asyncio.run(main())
"""

_LOOP = """
import asyncio, os, sys, time
from asyncrt import _libc
changes = _libc.inotify()
_libc.watch_changes(changes, os.open(sys.argv[1], os.O_RDONLY))
def seen():
    os.read(changes, 4096)
    print(time.monotonic_ns(), flush=True)
async def main():
    asyncio.get_running_loop().add_reader(changes, seen)
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""

_BARE = """
import os, select, sys, time
from asyncrt import _libc
fd = os.open(sys.argv[1], os.O_RDONLY)
changes = _libc.inotify()
_libc.watch_changes(changes, fd)
poller = select.poll()
poller.register(changes, select.POLLIN)
print("ready", flush=True)
while poller.poll():
    os.read(changes, 4096)
    print(time.monotonic_ns(), flush=True)
"""


async def measure(bench: Bench) -> Answer:
    root = os.path.join(bench.directory, "root")
    os.mkdir(root, 0o700)
    paths = [os.path.join(bench.directory, name) for name in ("file", "another")]
    files = [os.open(each, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) for each in paths]
    line = b"x" * 190 + b"\n"
    state = asyncrt.StateFile(root, asyncrt.ContainerId("event"))
    record = _record()
    await state.lock_for_new()
    await state.save_locked(record)
    async with (
        _listener(_WATCH, root) as watch,
        _listener(_BARE, paths[0]) as bare,
        _listener(_LOOP, paths[1]) as loop,
    ):

        async def watched() -> float:
            record.status = Status.PAUSED if record.status is Status.RUNNING else Status.RUNNING
            written: list[int] = []
            with _noting(written):
                await state.save_locked(record)
            return (await _stamp(watch) - written[0]) / 1e9

        async def barely(listener: asyncio.StreamReader, fd: int) -> float:
            written = time.monotonic_ns()
            os.write(fd, line)
            return (await _stamp(listener) - written) / 1e9

        found = await bench.interleave(
            {
                "watch": watched,
                "bare inotify": lambda: barely(bare, files[0]),
                "bare inotify in asyncio": lambda: barely(loop, files[1]),
            },
            bench.size(quick=300, full=3000, smoke=3),
        )
    await state.destroy()
    state.close()
    for each in files:
        os.close(each)
    ours, theirs, others = (
        Series(name=name, unit="us", values=[each * 1e6 for each in values])
        for name, values in found.items()
    )
    medians = ratio(ours, theirs)
    p99 = Figure(value=ours.p99 / theirs.p99)
    return Answer(figures={"p99": p99, "ratio": medians}, series=(ours, theirs, others))


def _record() -> Record:
    return Record(
        id="event",
        instance="0" * 32,
        sandbox="event",
        status=Status.RUNNING,
        created_at=datetime.now(UTC),
        owner="nobody",
        uid=0,
        bundle=None,
        platform="host",
    )


@contextlib.contextmanager
def _noting(written: list[int]) -> Iterator[None]:
    """Have the time noted at which a record is saved and its line is to be written."""
    append = _events.append

    def noted(directory: int, line: bytes, *, below: str = "") -> int:
        written.append(time.monotonic_ns())
        return append(directory, line, below=below)

    _events.append = noted
    try:
        yield
    finally:
        _events.append = append


@contextlib.asynccontextmanager
async def _listener(code: str, argument: str) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, argument, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def _stamp(listener: asyncio.StreamReader) -> int:
    return int(await listener.readline())


QUESTION = Question(
    name="event-latency",
    wanted=(
        at_most(
            "event seen by a watcher in another process / a bare inotify on a file, p99",
            2.0,
            key="p99",
        ),
        shown("the same, medians", key="ratio"),
    ),
    measure=measure,
)
