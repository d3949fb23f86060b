"""What the kill sweep looks for in a sandbox of several containers: it sees what is wrong there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

import asyncrt
from asyncrt import Engine
from tests.helpers.cgroups import where
from tests.helpers.containers import gone, init_of
from tests.helpers.pods import Pods
from tests.sweep.boxes import layers_beside
from tests.sweep.bystanders import Bystanders, orphans, strays

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]


class _Pod(NamedTuple):
    root: str
    sandbox: asyncrt.Sandbox
    sibling: asyncrt.Container
    layered: asyncrt.Container


@pytest.fixture
async def pod(tmp_path: Path, rootfs: str) -> AsyncIterator[_Pod]:
    """A root and a sibling that run, and one at its gate with a layer."""
    root = str(tmp_path / "root")
    os.mkdir(root, 0o700)
    os.mkdir(layers_beside(root))
    async with Engine(root) as engine:
        maker = Pods(engine, "linux", rootfs)
        sandbox = await maker.sandbox()
        sibling = await maker.running(sandbox, "sibling")
        overlay = asyncrt.Overlay.disk(layers_beside(root))
        layered = await sandbox.create("layered", spec=maker.sleeper(), overlay=overlay)
        yield _Pod(root, sandbox, sibling, layered)
        for each in await engine.list():
            await engine.delete(each.id, force=True)


async def test_of_a_sandbox_that_one_was_destroyed_in_nothing_is_wrong(pod: _Pod) -> None:
    before = Bystanders(pod.root, ["pod", "sibling"])
    for _ in range(2):
        assert before.touched() == orphans(pod.root) == strays(pod.root, "pod") == []
        await pod.layered.destroy()


async def test_a_sibling_that_was_paused_killed_or_replaced_is_seen(pod: _Pod) -> None:
    before = Bystanders(pod.root, ["pod", "sibling"])
    await pod.sibling.pause()
    assert "sibling was ('running'" in before.touched()[0]
    await pod.sibling.resume()
    assert before.touched() == []
    await pod.sibling.kill("KILL")
    await pod.sibling.wait()
    assert len(before.touched()) == 1
    await pod.sibling.destroy()
    assert "is ('gone',)" in before.touched()[0]


async def test_a_gate_and_a_gofer_without_a_record_are_seen(pod: _Pod) -> None:
    path = f"{pod.root}/layered.state"
    record = Path(path).read_bytes()
    os.unlink(path)
    found = orphans(pod.root)
    assert sorted(each.partition("comm='")[2].partition("'")[0] for each in found) == [
        "asyncrt:gate",
        "asyncrt:gofer",
    ]
    Path(path).write_bytes(record)
    await pod.sandbox.root.kill("KILL")
    await gone(init_of(pod.layered, pod.root))


async def test_members_cgroups_and_layers_of_nobody_are_seen(pod: _Pod) -> None:
    members = f"{pod.root}/pod.d/members"
    beside = f"{os.path.dirname(where(pod.sandbox.root, pod.root))}/left"
    layer = f"{layers_beside(pod.root)}/left"
    for path in (beside, layer):
        os.mkdir(path)
    Path(members, "left").touch()
    os.unlink(f"{members}/sibling")
    assert sorted(strays(pod.root, "pod")) == [
        f"cgroup {beside}",
        "layer left",
        "member left",
        "member sibling",
    ]
    for path in (beside, layer):
        os.rmdir(path)
    Path(members, "sibling").touch()
