"""stats and events: what a container's processes use, and no longer than they live."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import asyncrt
from tests.helpers.containers import Fifo, shell, sleeper, started
from tests.helpers.processes import until

BUSY = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"


async def test_all_processes_are_counted_and_a_busy_one_uses_more_cpu(
    engine: asyncrt.Engine,
) -> None:
    idle = await started(engine, "idle", shell("sleep 1000 & sleep 1000 & wait"))
    busy = await started(engine, "busy", shell("while :; do :; done"))

    async def all_there() -> bool:
        return (await idle.stats()).pids == 3 and (await busy.stats()).cpu_seconds > 0.2

    async with asyncio.timeout(20):
        while not await all_there():
            await asyncio.sleep(0.01)  # the kernel tells nobody of a fork
    few, much = await idle.stats(), await busy.stats()
    assert (few.pids, few.threads, much.pids) == (3, 3, 1)
    assert few.rss_bytes > 100_000
    assert few.cpu_seconds < much.cpu_seconds
    assert few.time < much.time
    await idle.destroy()
    await busy.destroy()


async def test_what_ended_processes_used_stays_counted(
    engine: asyncrt.Engine, tmp_path: Path
) -> None:
    """Also of an orphan and of an exec'd one, which the supervisor reaps."""
    with Fifo(tmp_path / "said") as said:
        script = f'busy() {{ {BUSY}; }}; (busy); ( (busy; echo orphan >"$1") & ); sleep 1000'
        container = await started(engine, "web", shell(script, said.path))
        assert await said.line() == "orphan"
        await until(lambda: _pids(container) == 2, "the orphan is gone")
        before = (await container.stats()).cpu_seconds
        assert before > 0.02
        process = await container.exec(["/bin/sh", "-c", BUSY])
        await process.wait()
        process.close()
        assert (await container.stats()).cpu_seconds > before
    await container.destroy()


def _pids(container: asyncrt.Container) -> int:
    from asyncrt.container.stats import measure
    from asyncrt.state import read_record

    return measure(read_record(container._context.root, container.id), container._context.root).pids


@pytest.mark.needs_root
async def test_what_goes_to_storage_is_counted(engine: asyncrt.Engine, disk_root: str) -> None:
    script = 'dd if=/dev/zero of="$1" bs=4096 count=256 conv=fsync 2>/dev/null; sleep 1000'
    path = os.path.join(disk_root, "file")
    container = await started(engine, "web", shell(script, path))

    async def written() -> int:
        return (await container.stats()).write_bytes or 0

    async with asyncio.timeout(20):
        while await written() < 4096 * 256:
            await asyncio.sleep(0.01)  # the kernel tells nobody of a write
    await container.destroy()
    os.unlink(path)


async def test_the_end_is_noticed_in_the_middle_of_an_interval(engine: asyncrt.Engine) -> None:
    container = await started(engine, "web", sleeper())
    await _follows_to_its_end(container)


async def _follows_to_its_end(container: asyncrt.Container, *, caller: bool = False) -> None:
    found = container.events(3600)
    first = await anext(found)
    assert isinstance(first, asyncrt.Stats)
    assert first.pids == 1
    rest = asyncio.ensure_future(_statuses(found))
    await asyncio.sleep(0)
    await container.kill("KILL")
    async with asyncio.timeout(20):
        # Without a supervisor of its own the end may be nobody's to write down.
        told = await rest
        assert told == ["stopped"] or (caller and told == [])
    await container.destroy()


async def _statuses(found: AsyncIterator[object]) -> list[str]:
    """What it becomes, until no more is told."""
    return [each.status async for each in found if isinstance(each, asyncrt.Event)]


async def test_an_interval_is_kept_and_a_destroyed_one_is_an_ended_one(
    engine: asyncrt.Engine,
) -> None:
    container = await started(engine, "web", sleeper())
    times = []
    async with asyncio.timeout(20):
        async for each in container.events(0.02):
            if isinstance(each, asyncrt.Stats):
                times.append(each.time)
                if len(times) == 4:
                    await container.destroy()
    assert len(times) == 4
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    assert sum(gaps) > 0.04


async def test_stopped_and_creating_ones_and_intervals_of_nothing_are_refused(
    engine: asyncrt.Engine,
) -> None:
    container = await started(engine, "web", sleeper())
    for interval in (0, -1, float("nan"), float("inf")):
        with pytest.raises(asyncrt.SpecInvalid, match="interval"):
            await anext(container.events(interval))
    await container.kill("KILL")
    await container.wait()
    for call, operation in ((anext(container.events()), "events"), (container.stats(), "stats")):
        with pytest.raises(asyncrt.InvalidTransition) as caught:
            await call
        assert (caught.value.operation, caught.value.status) == (operation, "stopped")
    await container.destroy()
    with pytest.raises(asyncrt.ContainerNotFound):
        await container.stats()


async def test_paused_and_created_ones_are_looked_at_too(engine: asyncrt.Engine) -> None:
    container = await engine.create("web", spec=sleeper())
    assert (await container.stats()).pids == 1
    await container.start()
    await container.pause()
    assert (await container.stats()).pids == 1
    await container.destroy()


async def test_without_a_supervisor_too(engine: asyncrt.Engine) -> None:
    container = await engine.create("web", spec=sleeper(), supervision="caller")
    await container.start()
    await _follows_to_its_end(container, caller=True)


async def test_a_loop_left_early_leaves_nothing(engine: asyncrt.Engine) -> None:
    container = await started(engine, "web", sleeper())
    await container.stats()
    before = len(os.listdir("/proc/self/fd"))
    async with contextlib.aclosing(container.events(3600)) as found:
        async for each in found:
            assert each.id == "web"
            break
    assert len(os.listdir("/proc/self/fd")) == before
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await container.destroy()
