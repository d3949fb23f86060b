"""A creation in a sandbox that is refused, fails or is killed: the sandbox is as it was, no name is left."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from typing import Any

import psutil
import pytest

import asyncrt
from asyncrt import (
    ContainerNotFound,
    InvalidTransition,
    SpecInvalid,
    StateFile,
    Status,
    _cgroups,
)
from tests.helpers import sandboxes
from tests.helpers.cgroups import existing, left, unique, where
from tests.helpers.containers import gone, supervisor_of
from tests.helpers.pods import ID, Pods, in_sandbox, members
from tests.helpers.processes import REPOSITORY

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]


async def test_a_missing_or_foreign_sandbox_is_refused_by_the_annotation(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    await sandbox.create("app", spec=pods.sleeper())
    theirs = await pods.engine.create("caller", spec=pods.sleeper(), supervision="caller")
    for given, why in (
        ("nobody", "there is no sandbox 'nobody'"),
        ("po", "there is no sandbox 'po'"),
        ("../pod", "letters, digits"),
        ("new", "can't be in a sandbox of which it would be the root"),
        ("app", "'app' is a container in sandbox 'pod', and no sandbox"),
        ("caller", "'caller' has no supervisor"),
    ):
        with pytest.raises(SpecInvalid) as caught:
            await pods.engine.create("new", spec=pods.sleeper(annotations=in_sandbox(given)))
        assert caught.value.json_path == f'annotations["{ID}"]', given
        assert why in str(caught.value)
        assert "\n" not in str(caught.value)
    await theirs.destroy()
    assert not [name for name in os.listdir(pods.root) if name.startswith(("new", "."))]
    assert members(pods.root) == ["app"]
    with pytest.raises(SpecInvalid, match="leave the annotation out"):
        await sandbox.create("new", spec=pods.sleeper(annotations=in_sandbox("other")))
    with pytest.raises(SpecInvalid, match="leave the annotation out"):
        await pods.engine.create_sandbox("new", spec=pods.sleeper(annotations=in_sandbox("pod")))


async def test_a_paused_or_stopped_sandbox_takes_nobody_in(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    await sandbox.root.pause()
    with pytest.raises(InvalidTransition, match="'pod': it is paused, and must be created or run"):
        await sandbox.create("app", spec=pods.sleeper())
    await sandbox.root.resume()
    await sandbox.root.kill("KILL")
    await sandbox.root.wait()
    with pytest.raises(InvalidTransition, match="'pod': it is stopped"):
        await sandbox.create("app", spec=pods.sleeper())
    assert not os.path.exists(f"{pods.root}/app.lock")
    await sandbox.destroy()
    with pytest.raises(ContainerNotFound):
        await sandbox.create("app", spec=pods.sleeper())
    assert os.listdir(pods.root) == ["~events"]


async def test_annotations_are_but_words_where_the_caller_supervises(pods: Pods) -> None:
    spec = pods.sleeper(annotations=in_sandbox("nobody"))
    container = await pods.engine.create("app", spec=spec, supervision="caller")
    await container.start()
    assert (await container.view()).status is Status.RUNNING
    await container.destroy()


# -- creations that don't come to their end


async def test_a_creation_beside_a_root_that_is_being_destroyed_leaves_no_orphan(
    pods: Pods,
) -> None:
    for number in range(6):
        sandbox = await pods.sandbox()
        supervisor = supervisor_of(sandbox.root, pods.root)
        creating = [
            asyncio.ensure_future(sandbox.create(f"app{each}", spec=pods.sleeper()))
            for each in range(3)
        ]
        for _ in range(10 * number):
            await asyncio.sleep(0)
        await sandbox.root.destroy()
        for each in await asyncio.gather(*creating, return_exceptions=True):
            if isinstance(each, asyncrt.Container):
                assert (await each.view()).status is Status.STOPPED
                await each.destroy()
            else:
                assert isinstance(each, asyncrt.AsyncrtError), each
        await gone(supervisor)
        assert os.listdir(pods.root) == ["~events"]


async def test_a_failed_creation_leaves_no_name_and_the_sandbox_as_it_was(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    spec = json.loads(pods.sleeper().encoded())
    spec["process"]["cwd"] = "/nowhere"
    spec["process"]["user"] = {"uid": 65534, "gid": 65534}
    bad = asyncrt.Spec.decode(json.dumps(spec).encode())
    if pods.platform == "host":  # on linux a missing one is made
        with pytest.raises(asyncrt.StartFailed, match=r"process\.cwd"):
            await sandbox.create("app", spec=bad)
    spec = json.loads(pods.sleeper().encoded())
    spec["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    failing = asyncrt.Spec.decode(json.dumps(spec).encode())
    with pytest.raises(asyncrt.HookFailed):
        await sandbox.create("app", spec=failing)
    assert members(pods.root) == []
    assert not os.path.exists(f"{pods.root}/app.d")
    app = await pods.running(sandbox, "app")
    assert (await app.view()).status is Status.RUNNING


async def test_a_creation_in_a_cgroup_that_others_use_fails_and_leaves_nothing(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    above = os.path.dirname(where(sandbox.root, pods.root))
    path = unique()
    with existing(path) as directory, psutil.Popen(["/bin/sleep", "1000"]) as other:
        try:
            _cgroups.write(f"{directory}/cgroup.procs", str(other.pid))
            made = json.loads(pods.sleeper().encoded())
            made.setdefault("linux", {})["cgroupsPath"] = path
            with pytest.raises(asyncrt.StartFailed) as caught:
                await sandbox.create("app", spec=sandboxes.spec(made))
            assert (caught.value.what, caught.value.errno) == ("linux.cgroupsPath", errno.ENOTEMPTY)
            assert other.is_running()
        finally:
            other.kill()
            other.wait()
    assert [each.id for each in await pods.engine.list()] == ["pod"]
    assert members(pods.root) == []
    await sandbox.destroy()
    assert left([above]) == []


@pytest.mark.parametrize("becomes", ["stopped", "another"])
async def test_a_sandbox_that_ends_under_a_creation_is_told_as_what_it_is(
    pods: Pods, becomes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = await pods.sandbox()
    supervisor = supervisor_of(sandbox.root, pods.root)
    looked, changed = asyncio.Event(), asyncio.Event()
    lock = StateFile.lock_for_new

    async def late(state: StateFile, **options: Any) -> Any:
        if state.id == "app":
            looked.set()
            await changed.wait()
        return await lock(state, **options)

    monkeypatch.setattr(StateFile, "lock_for_new", late)
    creating = asyncio.ensure_future(sandbox.create("app", spec=pods.sleeper()))
    await looked.wait()
    if becomes == "stopped":
        await sandbox.root.kill("KILL")
        await gone(supervisor)
    else:
        await sandbox.destroy()
        await pods.sandbox()
    changed.set()
    with pytest.raises(InvalidTransition if becomes == "stopped" else ContainerNotFound):
        await creating
    assert [each.id for each in await pods.engine.list()] == ["pod"]
    assert members(pods.root) == []


KILLED_CREATOR = """
import asyncio, os, signal, sys
import asyncrt
from asyncrt.container.create import Creation

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        sandbox = await engine.load_sandbox("pod")
        spec = asyncrt.Spec.decode(sys.stdin.buffer.read())
        Creation._acknowledge = lambda self, channel: os.kill(os.getpid(), signal.SIGKILL)
        await sandbox.create("app", spec=spec)
asyncio.run(main())
"""


async def test_a_creator_killed_before_its_acknowledgement_leaves_what_gc_removes(
    pods: Pods,
) -> None:
    sandbox = await pods.sandbox()
    done = await asyncio.to_thread(  # noqa: TID251 - a test's own wait
        subprocess.run,
        [sys.executable, "-c", KILLED_CREATOR, pods.root],
        input=pods.sleeper().encoded(),
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        check=False,
        timeout=60,
    )
    assert done.returncode == -9
    app = await pods.engine.load("app")
    ended = await app.wait()  # until that is recorded, gc lets it be
    assert ended.reason == "creation interrupted"
    assert members(pods.root) == ["app"]
    assert (await pods.engine.recover()).complete
    assert members(pods.root) == []
    assert [view.id for view in await pods.engine.list()] == ["pod"]
    assert (await sandbox.root.view()).status is Status.RUNNING


async def test_gc_forgets_names_that_are_no_containers(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    await sandbox.create("app", spec=pods.sleeper())
    with open(f"{pods.root}/pod.d/members/stale", "w"):
        pass
    report = await pods.engine.recover()
    assert [each.path for each in report.findings] == [f"{pods.root}/pod.d/members/stale"]
    assert members(pods.root) == ["app"]
