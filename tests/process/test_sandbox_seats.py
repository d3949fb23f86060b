"""An init that is asked for early, for a container beside others, is nobody's until it is told."""

from __future__ import annotations

import asyncio
import os

import pytest

from asyncrt import SandboxUnresponsive, StorageFailed
from asyncrt.container.create import Creation
from asyncrt.container.create_launch import CreateLaunch
from tests.helpers.containers import init_of, supervisor_of
from tests.helpers.pods import Pods, members
from tests.helpers.processes import until

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]


def _children(pid: int) -> set[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as found:
        return set(map(int, found.read().split()))


@pytest.mark.parametrize("cancelled", [False, True])
async def test_it_ends_with_a_create_that_fails_before_its_record_is_saved(
    pods: Pods, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    sandbox = await pods.sandbox()
    supervisor, root = supervisor_of(sandbox.root, pods.root), init_of(sandbox.root, pods.root)
    inits: list[set[int]] = []

    async def fails(*_: object) -> None:
        await until(lambda: len(_children(supervisor)) > 1, "it has an init")
        inits.append(_children(supervisor) - {root})
        if cancelled:
            raise asyncio.CancelledError
        raise StorageFailed(path=pods.root, errno=28)

    with monkeypatch.context() as patched:
        patched.setattr(Creation, "_begin", fails)
        with pytest.raises(asyncio.CancelledError if cancelled else StorageFailed):
            await sandbox.create("app", spec=pods.sleeper())
    assert len(inits) == 1
    await until(lambda: _children(supervisor) == {root}, "it has ended")
    assert members(pods.root) == []
    assert [name for name in os.listdir(pods.root) if name.startswith("app")] == []
    app = await pods.running(sandbox, "app")
    assert [each.id for each in await sandbox.containers()] == [app.id]


async def test_that_there_is_none_is_told_and_nothing_stays(
    pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor is killed between the question and the record."""
    sandbox = await pods.sandbox()
    supervisor = supervisor_of(sandbox.root, pods.root)
    begin = Creation._begin

    async def begins(creation: Creation, launch: CreateLaunch) -> None:
        await begin(creation, launch)
        os.kill(supervisor, 9)
        await until(lambda: not os.path.exists(f"/proc/{supervisor}"), "it is gone")

    with monkeypatch.context() as patched:
        patched.setattr(Creation, "_begin", begins)
        with pytest.raises(SandboxUnresponsive):
            await sandbox.create("app", spec=pods.sleeper())
    assert members(pods.root) == []
    assert {view.id for view in await pods.engine.list()} == {"pod"}
