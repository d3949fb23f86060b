"""Limits of a container's cgroup: in force, read back from the kernel, refused with their reason."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, Status
from asyncrt.platforms.cgroups import plan
from asyncrt.platforms.cgroups.machine import Machine, discover
from tests.helpers import capabilities
from tests.helpers.cgroups import everywhere, left, limited, made_for, unique, where
from tests.helpers.containers import destroyed, line, shell, sleeper, started
from tests.helpers.processes import until

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroups("memory", "pids")]


async def test_limits_are_in_force_and_nothing_is_left(engine: Engine, either: None) -> None:
    script = """
        echo up; read go
        for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done
        wait
    """
    spec = limited(shell(script), memory={"limit": 64 << 20}, pids={"limit": 4})
    container = await started(engine, "web", spec, stdin=asyncrt.PIPE, stderr=asyncrt.PIPE)
    async with destroyed(container):
        made = made_for(container, engine.root)
        memory, pids = (where(container, engine.root, each) for each in ("memory", "pids"))
        assert "asyncrt-web." in memory
        files = ("memory.max", "memory.limit_in_bytes")
        limit = next(Path(memory, each) for each in files if os.path.exists(f"{memory}/{each}"))
        assert limit.read_text() == f"{64 << 20}\n"
        assert Path(pids, "pids.max").read_text() == "4\n"
        assert container.stdin is not None
        container.stdin.write(b"go\n")
        assert "fork" in await line(container.stderr)
    assert left(made) == []


def _block_device() -> dict[str, int]:
    for name in os.listdir("/sys/block"):
        major, minor = Path(f"/sys/block/{name}/dev").read_text().split(":")
        return {"major": int(major), "minor": int(minor)}
    return {"major": 7, "minor": 0}


_FIELDS: list[dict[str, Any]] = [
    {"memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20}},
    {"memory": {"swappiness": 7}},
    {"memory": {"kernelTCP": 16 << 20}},
    {"cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 10000}},
    {"cpu": {"idle": 1}},
    {"cpu": {"cpus": "0", "mems": "0"}},
    {"pids": {"limit": 9}},
    {"blockIO": {"throttleReadBpsDevice": [{**_block_device(), "rate": 1 << 20}]}},
    {"blockIO": {"throttleWriteIOPSDevice": [{**_block_device(), "rate": 77}]}},
    {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]},
    {"unified": {"cgroup.max.depth": "3"}},
]


@pytest.mark.parametrize("resources", _FIELDS, ids=str)
async def test_every_limit_that_this_machine_has_is_in_force(
    resources: dict[str, Any], engine: Engine
) -> None:
    """Read back from the kernel, and compared with what was planned."""
    path = unique()
    spec = limited(sleeper(), path, **resources)
    planned = plan.plan_cgroup(spec.config.linux, name="web", wanted=True)
    if planned.refused:
        with pytest.raises(asyncrt.SpecUnsupported):
            await engine.create("web", spec=spec)
        capabilities.skip_lacking(str(planned.refused))
    assert planned.plan is not None
    async with destroyed(await started(engine, "web", spec)) as container:
        for _, choices in planned.plan["writes"]:
            file, value = next(each for each in choices if os.path.exists(each[0]))
            assert value in Path(file).read_text(), file
        assert (await container.view()).status is Status.RUNNING
    assert left(everywhere(path)) == []


async def test_a_processor_quota_holds_a_busy_container_back(engine: Engine) -> None:
    """As the kernel counts it: how much it gets of a time is up to the rest of the machine too."""
    spec = limited(shell("while :; do :; done"), cpu={"quota": 5000, "period": 50000})
    async with destroyed(await started(engine, "web", spec)) as container:
        counts = Path(where(container, engine.root, "cpu"), "cpu.stat")

        def held_back() -> int:
            words = counts.read_text().split()
            return int(words[words.index("nr_throttled") + 1])

        await until(lambda: held_back() > 0, "it is held back")


async def test_a_limit_that_the_kernel_refuses_is_named_with_its_file(engine: Engine) -> None:
    path = unique()
    # No such block device: only the kernel knows.
    device = {"major": 4000, "minor": 4000, "rate": 5}
    spec = limited(sleeper(), path, blockIO={"throttleReadBpsDevice": [device]})
    with pytest.raises((asyncrt.StartFailed, asyncrt.SpecUnsupported)) as caught:
        await engine.create("web", spec=spec)
    if isinstance(caught.value, asyncrt.StartFailed):
        assert caught.value.what == "linux.resources.blockIO.throttleReadBpsDevice[0]"
        assert caught.value.errno == errno.ENODEV
        assert path in caught.value.path
    assert left(everywhere(path)) == []


async def test_a_limit_too_small_to_begin_with_is_named(engine: Engine) -> None:
    path = unique()
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("web", spec=limited(sleeper(), path, memory={"limit": 4096}))
    assert (caught.value.what, caught.value.errno) == (
        "linux.resources.memory.limit",
        errno.ENOMEM,
    )
    assert path in caught.value.path
    assert left(everywhere(path)) == []


async def test_what_cannot_be_honoured_here_is_refused_with_the_reason(engine: Engine) -> None:
    spec = limited(sleeper(), unified={"nothing.max": "1"}, pids={"limit": 4})
    with pytest.raises(asyncrt.SpecUnsupported) as caught:
        await engine.create("web", spec=spec)
    assert caught.value.fields == ('linux.resources.unified["nothing.max"]',)
    assert "nothing controller" in str(caught.value)
    assert await engine.list() == []


async def test_devices_are_allowed_by_rule(engine: Engine) -> None:
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"},
    ]
    script = "for d in null kmsg; do (: <>/dev/$d) && echo $d; done; (: </dev/kmsg) && echo read"
    done = await engine.run(
        "web",
        spec=limited(shell(script), devices=rules),
        stdout=asyncrt.PIPE,
        stderr=asyncrt.DEVNULL,
    )
    assert done.stdout == b"null\nread\n"


async def test_devices_are_judged_by_a_program_where_version_2_has_to(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = discover()
    if machine.v2 is None:
        capabilities.skip_lacking("cgroup version 2")
    monkeypatch.setattr(plan, "discover", lambda: Machine({}, machine.v2))
    rules = [{"allow": False, "access": "rwm"}]
    done = await engine.run(
        "web",
        spec=limited(shell(": <>/dev/null && echo null; : </dev/kmsg && echo kmsg"), devices=rules),
        stdout=asyncrt.PIPE,
        stderr=asyncrt.DEVNULL,
    )
    assert done.stdout == b"null\n"
