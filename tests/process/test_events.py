"""What happens to containers, as it happens: of one, of several, of all; no longer than they live."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, Event, OutOfMemory, Stats, _cgroups
from asyncrt._inotify import Directories
from asyncrt.container.memory_watch import MemoryWatch
from asyncrt.platforms.cgroups.machine import discover
from asyncrt.state import CgroupPlace, Identity
from tests.helpers import capabilities
from tests.helpers.cgroups import limited, unique
from tests.helpers.containers import destroyed, init_of, shell, sleeper, started
from tests.helpers.events import append_line
from tests.helpers.processes import until
from tests.helpers.records import make_record

EAT = [sys.executable, "-I", "-S", "-c", "b = bytes()\nwhile True: b += bytes(1 << 20)"]
SMALL: dict[str, Any] = {"memory": {"limit": 32 << 20, "swap": 32 << 20}}
with_memory = pytest.mark.needs_cgroups("memory", "pids")


@pytest.fixture(autouse=True)
async def nothing_stays(engine: Engine) -> AsyncIterator[None]:
    """A failed test's cgroups would outlive it; a container's end takes them along."""
    yield
    for each in await engine.list():
        await engine.delete(each.id, force=True)


class Follower:
    """A task that notes what it is told."""

    def __init__(self, found: AsyncIterator[Any]) -> None:
        self.told: list[Any] = []
        self.task = asyncio.create_task(self._follow(found))

    async def _follow(self, found: AsyncIterator[Any]) -> None:
        async for each in found:
            self.told.append(each)

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.told if type(each) is kind]

    def has(self, kind: type, count: int) -> bool:
        return len(self.of(kind)) == count

    async def end(self) -> list[Any]:
        async with asyncio.timeout(20):
            await self.task
        return self.told


def _short(told: list[Any]) -> list[tuple[str, str]]:
    """Id, and a transition's status or a name."""
    return [
        (each.id, each.status if isinstance(each, Event) else type(each).__name__) for each in told
    ]


@pytest.mark.needs_root
@with_memory
async def test_want_of_memory_is_told_when_it_happens_and_not_at_the_next_interval(
    engine: Engine,
) -> None:
    container = await started(engine, "web", limited(sleeper(), **SMALL))
    async with destroyed(container):
        follower = Follower(container.events(interval=None))
        await until(lambda: bool(engine._context.watchers), "it follows")
        for kills in range(1, 3):
            process = await container.exec(EAT)
            assert (await process.wait()).reason == "oom"
            process.close()
            await until(partial(follower.has, OutOfMemory, kills), "it is told")
            assert follower.told[-1].kills == kills
        assert not follower.told[-1].hangs
        await container.kill("KILL")
        assert _short(await follower.end()) == [
            *[("web", "OutOfMemory")] * 2,
            ("web", "stopped"),
        ]


@pytest.mark.needs_root
@with_memory
async def test_the_want_of_memory_that_ends_it_is_told_before_the_end(engine: Engine) -> None:
    """HAZARDS 24."""
    script = f"read go; exec {EAT[0]} -I -S -c '{EAT[-1]}'"
    spec = limited(shell(script), **SMALL)
    container = await started(engine, "web", spec, stdin=asyncrt.PIPE)
    async with destroyed(container):
        follower = Follower(container.events(interval=3600))
        await until(lambda: bool(follower.told), "the first stats")
        assert container.stdin is not None
        container.stdin.write(b"go\n")
        told = await follower.end()
        assert _short(told) == [("web", "Stats"), ("web", "OutOfMemory"), ("web", "stopped")]
        assert told[-1].exit.reason == "oom"
        assert told[1].kills == 1


@pytest.mark.needs_root
@with_memory
async def test_one_that_hangs_for_want_of_memory_is_told_as_that(engine: Engine) -> None:
    if "memory" not in discover().v1:
        capabilities.skip_lacking("cgroup version 1, where nobody need be killed for memory")
    limits: dict[str, Any] = {"memory": {**SMALL["memory"], "disableOOMKiller": True}}
    container = await started(
        engine, "web", limited(shell(f"exec {EAT[0]} -I -S -c '{EAT[-1]}'"), **limits)
    )
    async with destroyed(container):
        async with contextlib.aclosing(container.events(interval=0.05)) as found:
            async with asyncio.timeout(20):
                hung = await anext(each async for each in found if isinstance(each, OutOfMemory))
        assert hung.hangs
        assert hung.kills == 0


@pytest.mark.needs_root
@with_memory
async def test_what_its_cgroups_count_is_told_with_its_limits(engine: Engine) -> None:
    limits = {**SMALL, "pids": {"limit": 9}, "cpu": {"quota": 5000, "period": 50000}}
    spec = limited(shell("while :; do :; done"), **limits)
    async with destroyed(await started(engine, "web", spec)) as container:
        async with asyncio.timeout(20):
            async for each in container.events(0.02):
                assert isinstance(each, Stats | Event)
                usage = each.cgroup if isinstance(each, Stats) else None
                cpu = usage.cpu if usage is not None else None
                if cpu is not None and cpu.throttled_seconds:
                    break
        found = await container.stats()
        assert found.cgroup is not None
        cpu, memory, pids = found.cgroup.cpu, found.cgroup.memory, found.cgroup.pids
        assert cpu is not None
        assert cpu.throttled_periods
        assert cpu.periods is not None
        assert cpu.periods >= cpu.throttled_periods
        assert memory is not None
        assert memory.limit_bytes == 32 << 20
        assert memory.swap_limit_bytes == 0
        assert 0 < memory.usage_bytes <= 32 << 20
        assert (memory.oom_kills, memory.peak_bytes is not None) == (0, True)
        assert pids is not None
        assert (pids.current, pids.limit) == (1, 9)
        await container.update(pids=7)
        found = await container.stats()
        assert found.cgroup is not None
        assert found.cgroup.pids is not None
        assert found.cgroup.pids.limit == 7


async def test_several_are_followed_until_the_last_has_ended(engine: Engine) -> None:
    for id in ("one", "two"):
        await started(engine, id, sleeper())
    other = await started(engine, "other", sleeper())
    follower = Follower(engine.events(["one", "tw"], interval=3600))
    await until(lambda: len(follower.told) == 2, "the stats of both")
    one, two = await engine.load("one"), await engine.load("two")
    await other.kill("KILL")
    await one.pause()
    await one.kill("KILL")
    await one.wait()
    await one.destroy()
    assert not follower.task.done()
    await two.kill("KILL")
    told = _short(await follower.end())
    assert [each for each in told if each[0] == "one"] == [
        *[("one", what) for what in ("Stats", "paused", "stopped", "destroyed")],
    ]
    assert [each for each in told if each[0] == "two"] == [("two", "Stats"), ("two", "stopped")]
    assert len(told) == 6


async def test_all_are_followed_those_that_come_as_well(engine: Engine) -> None:
    await started(engine, "old", sleeper())
    Path(engine.root, "bad.state").write_text("{")  # it hides nobody
    async with asyncrt.Engine(engine.root) as watcher:
        follower = Follower(watcher.events(interval=0.02))
        await until(lambda: bool(follower.told), "the stats of the first")
        new = await started(engine, "new", sleeper())
        await until(
            lambda: {"old", "new"} <= {each.id for each in follower.of(Stats)}, "stats of both"
        )
        await new.destroy()
        await until(lambda: ("new", "destroyed") in _short(follower.told), "its end")
        told = len(follower.told)
        await until(lambda: len(follower.told) > told + 3, "the other goes on")
        assert {each.id for each in follower.told[told:]} == {"old"}
    await follower.end()  # with its engine
    transitions = [each.status for each in follower.of(Event) if each.id == "new"]
    assert transitions == ["creating", "created", "running", "stopped", "destroyed"]
    os.unlink(f"{engine.root}/bad.state")


@pytest.mark.needs_root
@with_memory
async def test_of_all_one_whose_end_nobody_told_is_let_go(engine: Engine) -> None:
    """Its record says running until a verb of somebody's finds out."""
    spec = limited(sleeper(), **SMALL)
    container = await started(engine, "web", spec, supervision="caller")
    async with asyncrt.Engine(engine.root) as watcher:
        before = _eventfds()
        follower = Follower(watcher.events(interval=0.02))
        await until(lambda: bool(follower.told), "its stats")
        if "memory" in discover().v1:
            assert len(_eventfds() - before) == 1
        os.kill(init_of(container, engine.root), signal.SIGKILL)
        await until(lambda: _eventfds() == before, "it is let go")
        assert not follower.task.done()
    await follower.end()


def _eventfds() -> set[str]:
    found = set()
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{each}") == "anon_inode:[eventfd]":
                found.add(each)
    return found


async def test_who_is_slow_keeps_nobody_waiting_and_holds_a_page_at_most(engine: Engine) -> None:
    """HAZARDS 24: no queue that grows."""
    container = await started(engine, "web", sleeper())
    async with contextlib.aclosing(container.events(interval=0.001)) as found:
        await anext(found)
        for number in range(3000):
            append_line(engine.root, "web", number, instance=container.instance, status="paused")
        got = [await anext(found) for _ in range(200)]
        transitions = [each for each in got if isinstance(each, Event)]
        assert [each.revision for each in transitions] == list(range(len(transitions)))
        assert len(transitions) > 100
        assert len(got) - len(transitions) < 100  # not one for each millisecond that has passed
    await container.destroy()


async def test_a_stopped_or_missing_one_of_several_is_refused_at_once(engine: Engine) -> None:
    await started(engine, "web", sleeper())
    ended = await started(engine, "ended", shell("exit 0"))
    await ended.wait()
    with pytest.raises(asyncrt.InvalidTransition) as caught:
        await anext(engine.events(["web", "ended"]))
    assert caught.value.operation == "events"
    with pytest.raises(asyncrt.ContainerNotFound):
        await anext(engine.events("nobody"))
    for interval in (0, -1, float("nan")):
        with pytest.raises(asyncrt.SpecInvalid):
            await anext(engine.events(interval=interval))


async def test_a_new_container_of_the_same_id_is_not_followed(engine: Engine) -> None:
    container = await started(engine, "web", sleeper())
    follower = Follower(container.events(3600))
    await until(lambda: bool(follower.told), "its stats")
    await container.destroy()
    again = await started(engine, "web", sleeper())
    told = await follower.end()
    assert {each.instance for each in told} == {container.instance}
    await again.destroy()


# Version 2's memory controller may be nowhere on this machine: what is told of its file, and that the
# kernel tells of such files, are tested apart.


async def test_a_change_of_memory_events_is_heard_of(tmp_path: Path) -> None:
    web = tmp_path / "web"
    web.mkdir()
    counts = web / "memory.events"
    counts.write_text("max 0\noom 0\noom_kill 4\n")
    me = Identity.of(os.getpid())
    record = make_record(creator=me, cgroup=(CgroupPlace(str(web), web.stat().st_ino),))
    heard = asyncio.Event()
    directories = Directories()
    watch = MemoryWatch(record, directories, heard.set)
    try:
        assert watch.kills == 4
        counts.write_text("max 9\noom 1\noom_kill 5\n")
        async with asyncio.timeout(20):
            await heard.wait()
        assert watch.look() == 5
        counts.unlink()
        assert watch.look() == 5  # what was seen last
    finally:
        watch.close()
    watch.close()


@pytest.mark.needs_root
async def test_the_kernel_tells_of_a_cgroups_event_files_by_its_directory() -> None:
    machine = discover()
    if machine.v2 is None:
        capabilities.skip_lacking("cgroup version 2")
    path = machine.v2.top + unique()
    os.mkdir(path)
    directories = Directories()
    heard = asyncio.Event()
    stop = directories.watch(path, heard.set)
    try:
        # Not by the write of ours: by what the kernel does upon it, to cgroup.events.
        _cgroups.freeze(path, 5)
        async with asyncio.timeout(20):
            await heard.wait()
    finally:
        stop()
        os.rmdir(path)


@pytest.mark.needs_root
@with_memory
async def test_following_holds_descriptors_no_longer_than_it_lasts(engine: Engine) -> None:
    containers = [
        await started(engine, f"web{number}", limited(sleeper(), **SMALL)) for number in range(3)
    ]
    for each in containers:
        await each.stats()
    before = len(os.listdir("/proc/self/fd"))
    async with contextlib.aclosing(engine.events(containers, interval=3600)) as found:
        for _ in range(3):
            await anext(found)
        assert len(os.listdir("/proc/self/fd")) <= before + 1 + 3 * 2
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 3, "all is let go")
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for each in containers:
        await each.kill(signal.SIGKILL)
