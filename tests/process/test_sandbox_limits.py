"""Limits and events of a container that has siblings: its own, and nobody else's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import asyncrt
from asyncrt import _cgroups, metrics
from tests.helpers.cgroups import left, made_for, where
from tests.helpers.containers import init_of, record_of
from tests.helpers.metrics import openmetrics_families
from tests.helpers.pods import Pods
from tests.helpers.processes import until

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups("memory", "pids", "cpu"),
    pytest.mark.needs_program("busybox"),
]


async def test_an_update_limits_one_and_no_sibling(pods: Pods) -> None:
    """Also in hierarchies in which the whole sandbox had no cgroup, and of those that come later."""
    sandbox = await pods.sandbox()
    one, two = await pods.running(sandbox, "one"), await pods.running(sandbox, "two")
    root = sandbox.root
    before = {each.id: record_of(each, pods.root).cgroup for each in (two, root)}
    change = {"memory": {"limit": 64 << 20}, "pids": {"limit": 9}, "cpu": {"shares": 512}}
    await one.update(change)
    for controller in ("memory", "pids", "cpu"):
        inside = _cgroups.pids(where(one, pods.root, controller))
        assert inside == [init_of(one, pods.root)]
    assert Path(where(one, pods.root, "pids"), "pids.max").read_text() == "9\n"
    assert {each.id: record_of(each, pods.root).cgroup for each in (two, root)} == before
    await root.update(change)  # the root's own, not the sandbox's
    assert _cgroups.pids(where(root, pods.root, "pids")) == [init_of(root, pods.root)]
    three = await pods.running(sandbox, "three")
    assert init_of(three, pods.root) not in _cgroups.pids(where(root, pods.root, "pids"))
    made = [*made_for(one, pods.root), *made_for(root, pods.root)]
    await one.destroy()
    assert (await two.view()).status == "running"
    await sandbox.destroy()
    assert left(made) == []


async def test_want_of_memory_and_metrics_are_told_of_the_one_they_are_of(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    one, two = await pods.running(sandbox, "one"), await pods.running(sandbox, "two")
    for each in (one, two):
        await each.update({"memory": {"limit": 32 << 20, "swap": 32 << 20}})
    ends: list[str] = []
    killed: list[str] = []

    async def follow() -> None:
        async for each in pods.engine.events([one, two], interval=None):
            if isinstance(each, asyncrt.OutOfMemory):
                killed.append(each.id)
            elif isinstance(each, asyncrt.Event):
                ends.append(f"{each.id} in {each.sandbox} is {each.status}")

    following = asyncio.create_task(follow())
    await until(lambda: bool(pods.engine._context.watchers), "it follows")
    process = await one.exec(["/bin/sh", "-c", "x=a; while :; do x=$x$x; done"])
    assert (await process.wait()).oom_killed
    process.close()
    await until(lambda: killed == ["one"], "it is told")
    text = metrics.render(pods.root).decode()
    (kills,) = (
        each for each in openmetrics_families(text) if each.name.endswith("memory_oom_kills")
    )
    told = {each.labels["id"]: each for each in kills.samples}
    assert (told["one"].value, told["two"].value) == (1, 0)
    assert {each.labels["sandbox"] for each in kills.samples} == {"pod"}
    await sandbox.destroy()
    async with asyncio.timeout(20):
        await following
    assert {"one in pod is stopped", "two in pod is stopped"} <= {*ends}
    assert killed == ["one"]
