"""Limits of living containers, changed: in force and on disk, all of them or none."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, _cgroups, _durable
from asyncrt.container import exec as executing
from asyncrt.container.limits import Changed
from asyncrt.platforms.cgroups.machine import discover
from tests.helpers import capabilities, sandboxes
from tests.helpers.cgroups import left, limited, made_for, where
from tests.helpers.containers import (
    destroyed,
    directory_of,
    init_of,
    line,
    record_of,
    shell,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import Interpreter, until

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroups("memory", "pids", "cpu")]

MIB = 1 << 20


@pytest.fixture(autouse=True)
async def nothing_stays(engine: Engine) -> AsyncIterator[None]:
    """A failed test's cgroups would outlive it; a container's end takes them along."""
    yield
    for each in await engine.list():
        await engine.delete(each.id, force=True)


def _read(container: asyncrt.Container, root: str, controller: str, *names: str) -> str:
    """The first of these files that is there, without its last newline."""
    directory = where(container, root, controller)
    path = next(each for each in names if os.path.exists(f"{directory}/{each}"))
    return Path(directory, path).read_text().rstrip("\n")


def _memory(container: asyncrt.Container, root: str) -> int:
    return int(_read(container, root, "memory", "memory.max", "memory.limit_in_bytes"))


def _told(container: asyncrt.Container, root: str) -> dict[str, Any]:
    """The resources that its config.json tells of."""
    config = json.loads(Path(directory_of(container, root), "config.json").read_text())
    found: dict[str, Any] = config["linux"]["resources"]
    return found


_LIMITS = (".max", "_in_bytes", "_us", ".shares", "_device", ".cpus", ".weight")


def _all_values(container: asyncrt.Container, root: str) -> dict[str, str]:
    """Every limit in every one of its cgroups."""
    found = {}
    for place in record_of(container, root).cgroup:
        for name in os.listdir(place.path):
            if name.endswith(_LIMITS) and "usage" not in name:
                found[f"{place.path}/{name}"] = Path(place.path, name).read_text()
    return found


@pytest.mark.parametrize("status", ["created", "running", "paused"])
async def test_what_is_named_changes_and_the_rest_stays(status: str, engine: Engine) -> None:
    spec = limited(sleeper(), memory={"limit": 64 * MIB, "reservation": MIB}, pids={"limit": 9})
    async with destroyed(await engine.create("web", spec=spec)) as container:
        if status != "created":
            await container.start()
        if status == "paused":
            await container.pause()
        await container.update({"memory": {"limit": 96 * MIB}, "cpu": None})
        assert _memory(container, engine.root) == 96 * MIB
        assert _read(container, engine.root, "pids", "pids.max") == "9"
        assert _told(container, engine.root) == {
            "memory": {"limit": 96 * MIB, "reservation": MIB},
            "pids": {"limit": 9},
        }
        assert (await container.view()).status == status
        await container.update(pids=7)
        assert _read(container, engine.root, "pids", "pids.max") == "7"
        assert _memory(container, engine.root) == 96 * MIB
    with pytest.raises(asyncrt.ContainerNotFound):
        await container.update(pids=7)


async def test_a_stopped_one_is_refused(engine: Engine) -> None:
    spec = limited(shell("exit 0"), pids={"limit": 9})
    async with destroyed(await started(engine, "web", spec)) as container:
        await container.wait()
        with pytest.raises(asyncrt.InvalidTransition) as caught:
            await container.update(pids=7)
        assert (caught.value.operation, caught.value.status) == ("update", "stopped")


async def test_one_without_a_cgroup_is_refused_in_one_line(engine: Engine) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as container:
        with pytest.raises(asyncrt.UpdateFailed) as caught:
            await container.update(memory="64M")
        assert "has no cgroup" in str(caught.value)
        assert caught.value.json_path == "linux.resources"


async def test_memory_and_swap_go_up_and_down_together(engine: Engine) -> None:
    """Version 1 takes them in one order when they rise, and in the other when they fall."""
    container = await started(engine, "web", limited(sleeper(), memory={"limit": 64 * MIB}))
    async with destroyed(container):
        try:
            for each in (64, 256, 32, 128):
                await container.update(memory=each * MIB)
                assert _memory(container, engine.root) == each * MIB
        except asyncrt.SpecUnsupported as error:
            capabilities.skip_lacking(str(error.reasons))
        with pytest.raises(asyncrt.SpecInvalid) as caught:
            await container.update({"memory": {"limit": 256 * MIB}})
        assert caught.value.json_path == "linux.resources.memory.swap"
        await container.update({"memory": {"limit": -1}})
        assert _told(container, engine.root)["memory"] == {"limit": -1, "swap": -1}


def _block_device() -> dict[str, int]:
    for name in os.listdir("/sys/block"):
        major, minor = Path(f"/sys/block/{name}/dev").read_text().split(":")
        return {"major": int(major), "minor": int(minor)}
    return {"major": 7, "minor": 0}


FIELDS: list[tuple[str, dict[str, Any], tuple[str, ...], str]] = [
    ("memory", {"memory": {"swappiness": 7}}, ("memory.swappiness",), "7"),
    ("memory", {"memory": {"disableOOMKiller": True}}, ("memory.oom_control",), "disable 1"),
    ("cpu", {"cpu": {"shares": 512}}, ("cpu.shares",), "512"),
    ("cpu", {"cpu": {"quota": 20000}}, ("cpu.max", "cpu.cfs_quota_us"), "20000"),
    ("cpu", {"cpu": {"idle": 1}}, ("cpu.idle",), "1"),
    ("cpuset", {"cpu": {"cpus": "0"}}, ("cpuset.cpus",), "0"),
    (
        "blkio",
        {"blockIO": {"throttleReadBpsDevice": [{**_block_device(), "rate": MIB}]}},
        ("blkio.throttle.read_bps_device",),
        str(MIB),
    ),
    (
        "hugetlb",
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]},
        ("hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"),
        str(4 * MIB),
    ),
    ("", {"unified": {"cgroup.max.depth": "3"}}, ("cgroup.max.depth",), "3"),
]


@pytest.mark.parametrize(("controller", "change", "files", "value"), FIELDS, ids=str)
async def test_what_nothing_was_said_of_can_be_limited_later(
    controller: str, change: dict[str, Any], files: tuple[str, ...], value: str, engine: Engine
) -> None:
    """Also in a hierarchy of version 1 where it had no cgroup, with all that has run by then."""
    script = "(setsid sleep 1000 & echo $!); exec sleep 1000"
    spec = limited(shell(script), pids={"limit": 50})
    container = await started(engine, "web", spec, stdout=asyncrt.PIPE)
    async with destroyed(container):
        daemon = int(await line(container.stdout))
        try:
            await container.update(change)
        except asyncrt.SpecUnsupported as error:
            capabilities.skip_lacking(str(error.reasons))
        assert value in _read(container, engine.root, controller, *files)
        process = await container.exec(["/bin/sleep", "1000"])
        inside = _cgroups.pids(where(container, engine.root, controller))
        assert {daemon, init_of(container, engine.root), process.pid} <= {*inside}
        await process.kill()
        process.close()
        made = made_for(container, engine.root)
    assert left(made) == []


def _bad_device() -> dict[str, Any]:
    """No such block device, which only the kernel knows."""
    return {"throttleReadBpsDevice": [{"major": 4000, "minor": 4000, "rate": 5}]}


async def test_a_limit_that_the_kernel_refuses_has_all_others_put_back(engine: Engine) -> None:
    """Also the cgroup that was made for it, and those that were moved there."""
    spec = limited(sleeper(), memory={"limit": 64 * MIB}, pids={"limit": 9})
    async with destroyed(await started(engine, "web", spec)) as container:
        before = _all_values(container, engine.root)
        told, record = _told(container, engine.root), record_of(container, engine.root)
        of_init = Path(f"/proc/{init_of(container, engine.root)}/cgroup").read_text()
        change = {
            "memory": {"limit": 96 * MIB},
            "pids": {"limit": 50},
            "cpu": {"shares": 7},
            "blockIO": _bad_device(),
        }
        with pytest.raises((asyncrt.UpdateFailed, asyncrt.SpecUnsupported)) as caught:
            await container.update(change)
        if isinstance(caught.value, asyncrt.UpdateFailed):
            error = caught.value
            assert error.json_path == "linux.resources.blockIO.throttleReadBpsDevice[0]"
            assert (error.errno, error.left) == (errno.ENODEV, ())
            assert error.path.endswith(("io.max", "blkio.throttle.read_bps_device"))
        assert _all_values(container, engine.root) == before
        assert _told(container, engine.root) == told
        after = record_of(container, engine.root)
        assert (after.cgroup, after.cgroups) == (record.cgroup, record.cgroups)
        assert Path(f"/proc/{init_of(container, engine.root)}/cgroup").read_text() == of_init
        name = f"asyncrt-web.{container.instance[:8]}"
        tops = {each.own for each in discover().v1.values()}
        there = [f"{top}/{name}" for top in tops if os.path.exists(f"{top}/{name}")]
        assert {*there} <= {*record.cgroups}
        await container.update({"cpu": {"shares": 7}})  # ... and nothing is in the way


async def test_those_that_were_moved_are_moved_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal comes last: from the disk, when all of it is in force."""
    spec = limited(shell("sleep 1000 & sleep 1000"), pids={"limit": 9})
    async with destroyed(await started(engine, "web", spec)) as container:
        before = _all_values(container, engine.root)
        record = record_of(container, engine.root)
        of_init = Path(f"/proc/{init_of(container, engine.root)}/cgroup").read_text()
        replace = _durable.replace

        def full(dir_fd: int, name: str, data: bytes, **options: Any) -> None:
            if name == "config.json":
                raise OSError(errno.ENOSPC, "", name)
            replace(dir_fd, name, data, **options)

        monkeypatch.setattr(_durable, "replace", full)
        with pytest.raises(asyncrt.StorageFailed) as caught:
            await container.update({"pids": {"limit": 50}, "cpu": {"shares": 7}})
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.path.endswith("web.d/config.json")
        monkeypatch.undo()
        assert _all_values(container, engine.root) == before
        after = record_of(container, engine.root)
        assert (after.cgroup, after.cgroups) == (record.cgroup, record.cgroups)
        assert Path(f"/proc/{init_of(container, engine.root)}/cgroup").read_text() == of_init


KILLED = """
import asyncio, os, signal, sys, asyncrt
from asyncrt.container import update

async def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        container = await engine.load("web")
        setattr(update, sys.argv[2], killed)
        await container.update({"pids": {"limit": 50}, "cpu": {"shares": 7}})

asyncio.run(main())
"""


@pytest.mark.parametrize("where_", ["_record", "_begin"])
async def test_after_a_kill_the_same_update_completes_it_and_a_destroy_leaves_nothing(
    where_: str, engine: Engine
) -> None:
    for again in (True, False):
        spec = limited(sleeper(), pids={"limit": 9})
        container = await started(engine, "web", spec)
        with Interpreter(KILLED, engine.root, where_) as child, pytest.raises(EOFError):
            child.line()
        assert _told(container, engine.root) == {"pids": {"limit": 9}}
        if again:
            await container.update({"pids": {"limit": 50}, "cpu": {"shares": 7}})
            assert _read(container, engine.root, "pids", "pids.max") == "50"
            assert _told(container, engine.root) == {"pids": {"limit": 50}, "cpu": {"shares": 7}}
            cpu = where(container, engine.root, "cpu")
            assert _cgroups.pids(cpu) == [init_of(container, engine.root)]
            assert cpu.count("/asyncrt-web.") == 1  # the one that was begun, and none below it
        made = made_for(container, engine.root)
        await container.destroy()
        assert left(made) == []


async def test_an_exec_that_was_begun_before_an_update_is_limited_by_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knew of one cgroup less."""
    container = await started(engine, "web", limited(sleeper(), pids={"limit": 9}))
    async with destroyed(container):
        ask = executing._ask

        async def late(*arguments: Any) -> asyncrt.Process:
            try:
                await container.update({"cpu": {"shares": 7}})
            except asyncrt.SpecUnsupported as error:
                capabilities.skip_lacking(str(error.reasons))
            return await ask(*arguments)

        monkeypatch.setattr(executing, "_ask", late)
        process = await container.exec(["/bin/sleep", "1000"])
        assert process.pid in _cgroups.pids(where(container, engine.root, "cpu"))
        await process.kill()
        process.close()


UPDATES = """
import asyncio, sys, asyncrt

async def main():
    number = int(sys.argv[2])
    async with asyncrt.Engine(sys.argv[1]) as engine:
        container = await engine.load("web")
        print("ready")
        sys.stdin.readline()
        for each in range(20):
            value = number + 10 * each
            await container.update({"pids": {"limit": value}, "memory": {"limit": value << 20}})
        print("done")

asyncio.run(main())
"""


async def test_updates_of_several_processes_come_one_after_the_other(engine: Engine) -> None:
    """HAZARDS 11. Kernel and disk agree on who came last."""
    spec = limited(sleeper(), memory={"limit": 64 * MIB}, pids={"limit": 9})
    async with destroyed(await started(engine, "web", spec)) as container:
        with (
            Interpreter(UPDATES, engine.root, 101) as one,
            Interpreter(UPDATES, engine.root, 102) as two,
        ):
            for each in (one, two):
                assert await each.next_line() == "ready"
            for each in (one, two):
                each.say("go")
            for each in (one, two):
                assert await each.next_line(timeout=50) == "done"
        told = _told(container, engine.root)
        value = told["pids"]["limit"]
        assert value in {291, 292}
        assert told["memory"]["limit"] == value * MIB == _memory(container, engine.root)
        assert _read(container, engine.root, "pids", "pids.max") == str(value)


async def test_what_cannot_be_changed_here_is_refused_by_its_path(engine: Engine) -> None:
    async with destroyed(await started(engine, "web", limited(sleeper(), pids={"limit": 9}))) as it:
        for change, at in (
            ({"memory": {"limt": 5}}, "linux.resources.memory.limt"),
            ({"memory": {"limit": "5"}}, "linux.resources.memory.limit"),
            ({"memory": {"limit": 0}}, "linux.resources"),
            ({}, "linux.resources"),
            ({"cpu": {"shares": 1}}, "linux.resources.cpu.shares"),
            ({"devices": [{"allow": True}]}, "linux.resources.devices"),
            ({"pids": {"limit": -2}}, "linux.resources.pids.limit"),
            (
                {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 5}]}},
                "linux.resources.blockIO.weightDevice[0].weight",
            ),
        ):
            with pytest.raises(asyncrt.SpecInvalid) as invalid:
                await it.update(change)
            assert invalid.value.json_path == at
        wrong: list[dict[str, Any]] = [{"memory": "lots"}, {"pids": 0}, {"cpu": -1.0}]
        for bad in wrong:
            with pytest.raises(asyncrt.SpecInvalid):
                await it.update(**bad)
        with pytest.raises(asyncrt.SpecInvalid, match="either"):
            await it.update({"pids": {"limit": 5}}, pids=5)
        with pytest.raises(asyncrt.SpecUnsupported) as unsupported:
            await it.update({"unified": {"nothing.max": "1"}, "pids": {"limit": 5}})
        assert unsupported.value.fields == ('linux.resources.unified["nothing.max"]',)
        assert unsupported.value.container_id == "web"
        assert str(unsupported.value).startswith(
            "can't update container 'web': not to be had here: "
        )
        assert str(unsupported.value).endswith("; leave that out; nothing is changed")
        assert _read(it, engine.root, "pids", "pids.max") == "9"


async def test_a_memory_limit_below_what_is_used_is_refused_if_that_is_asked_for(
    engine: Engine,
) -> None:
    eat = "b = b'x' * (32 << 20); print('full', flush=True); import time; time.sleep(1000)"
    spec = limited(
        asyncrt.Spec.command([sys.executable, "-I", "-S", "-c", eat]),
        memory={"limit": 96 * MIB, "checkBeforeUpdate": True},
    )
    container = await started(engine, "web", spec, stdout=asyncrt.PIPE)
    async with destroyed(container):
        assert await line(container.stdout) == "full"
        with pytest.raises(asyncrt.UpdateFailed) as caught:
            await container.update({"memory": {"limit": 16 * MIB, "checkBeforeUpdate": True}})
        assert (caught.value.json_path, caught.value.errno) == (
            "linux.resources.memory.limit",
            errno.EBUSY,
        )
        assert "more than that is used" in str(caught.value)
        assert _memory(container, engine.root) == 96 * MIB
        assert (await container.view()).status == "running"


async def test_a_cgroup_that_somebody_removed_is_told(engine: Engine) -> None:
    async with destroyed(
        await engine.create("web", spec=limited(sleeper(), pids={"limit": 9}))
    ) as c:
        pids = where(c, engine.root, "pids")
        for each in _cgroups.pids(pids):
            _cgroups.write(f"{os.path.dirname(pids)}/cgroup.procs", str(each))
        os.rmdir(pids)
        with pytest.raises(asyncrt.UpdateFailed) as caught:
            await c.update(pids=5)
        assert caught.value.path == pids
        assert "removed by somebody else" in str(caught.value)


async def test_without_a_supervisor_and_under_a_supervising_caller_too(engine: Engine) -> None:
    container = await started(engine, "web", limited(sleeper(), pids={"limit": 9}))
    os.kill(supervisor_of(container, engine.root), signal.SIGKILL)
    await container.update({"pids": {"limit": 5}, "memory": {"limit": 64 * MIB}})
    assert _read(container, engine.root, "pids", "pids.max") == "5"
    await container.destroy()
    spec = limited(sleeper(), pids={"limit": 9})
    async with destroyed(await started(engine, "web", spec, supervision="caller")) as container:
        await container.update(pids=5)
        assert _read(container, engine.root, "pids", "pids.max") == "5"


@pytest.mark.needs_program("busybox")
@pytest.mark.parametrize("who", [sandboxes.ROOT, sandboxes.MAPPED])
async def test_a_sandbox_is_limited_from_the_outside(who: str, engine: Engine, rootfs: str) -> None:
    config = sandboxes.config(rootfs, ["/bin/sleep", "1000"], who=who)
    config["linux"]["resources"] = {"memory": {"limit": 64 * MIB}}
    async with destroyed(await engine.create("box", spec=sandboxes.spec(config))) as container:
        await container.start()
        await container.update({"memory": {"limit": 96 * MIB}, "pids": {"limit": 5}})
        assert _memory(container, engine.root) == 96 * MIB
        assert _read(container, engine.root, "pids", "pids.max") == "5"
        process = await container.exec(["/bin/sleep", "1000"])
        assert process.pid in _cgroups.pids(where(container, engine.root, "pids"))
        await process.kill()
        process.close()
        made = made_for(container, engine.root)
    assert left(made) == []


async def test_a_fork_bomb_is_moved_as_a_whole(engine: Engine) -> None:
    """Whoever is moved forks where it is by then."""
    forks = """
import os
os.write(1, b"up\\n")
while True:
    try:
        os.fork()
    except OSError:
        os.sched_yield()
"""
    spec = limited(
        asyncrt.Spec.command([sys.executable, "-I", "-S", "-c", forks]), pids={"limit": 30}
    )
    container = await started(engine, "web", spec, stdout=asyncrt.PIPE)
    async with destroyed(container):
        assert await line(container.stdout) == "up"
        await until(lambda: len(_cgroups.pids(where(container, engine.root))) > 20, "it forks")
        try:
            await container.update({"cpu": {"shares": 7}})
        except asyncrt.SpecUnsupported as error:
            capabilities.skip_lacking(str(error.reasons))
        inside = _cgroups.pids(where(container, engine.root, "cpu"))
        assert {*_cgroups.pids(where(container, engine.root))} - {*inside} == set()


async def test_an_unexpected_failure_leaves_no_half(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with destroyed(await started(engine, "web", limited(sleeper(), pids={"limit": 9}))) as it:

        def broken(self: Changed, *arguments: Any) -> None:
            raise MemoryError

        monkeypatch.setattr(Changed, "_join", broken)
        with pytest.raises(MemoryError):
            await it.update({"pids": {"limit": 5}, "cpu": {"shares": 7}})
        assert _read(it, engine.root, "pids", "pids.max") == "9"
