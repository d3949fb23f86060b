"""What a container of a sandbox may be called, and which cgroup it may ask for: never another's."""

from __future__ import annotations

import json
import os

import msgspec
import pytest

import asyncrt
from asyncrt import ContainerExists, InvalidId, SpecInvalid, Status, _cgroups
from asyncrt.platforms.cgroups import SUPERVISOR
from tests.helpers.cgroups import holder, left, made_for, unique
from tests.helpers.pods import TYPE, Pods, in_sandbox, members

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]


def _at(spec: asyncrt.Spec, path: str) -> asyncrt.Spec:
    config = msgspec.json.decode(spec.encoded())
    config.setdefault("linux", {})["cgroupsPath"] = path
    return asyncrt.Spec.decode(json.dumps(config).encode())


def _cgroup_of(sandbox: asyncrt.Sandbox, root: str) -> tuple[str, str]:
    """The sandbox's own: as a cgroupsPath, and its directory."""
    directory = os.path.dirname(made_for(sandbox.root, root)[0])
    for each in made_for(sandbox.root, root):
        if os.path.basename(each) == SUPERVISOR and each.startswith(holder().top):
            directory = os.path.dirname(each)
    return directory.removeprefix(holder().top.rstrip("/")), directory


async def test_none_is_called_as_the_supervisors_cgroup(pods: Pods) -> None:
    with pytest.raises(InvalidId, match="supervisor's cgroup"):
        await pods.engine.create_sandbox(SUPERVISOR, spec=pods.sleeper())
    sandbox = await pods.sandbox()
    with pytest.raises(InvalidId, match="supervisor's cgroup"):
        await sandbox.create(SUPERVISOR, spec=pods.sleeper())
    by_annotation = pods.sleeper(annotations=in_sandbox("pod"))
    with pytest.raises(InvalidId, match="supervisor's cgroup"):
        await pods.engine.create(SUPERVISOR, spec=by_annotation)
    assert [each.id for each in await pods.engine.list()] == ["pod"]
    assert members(pods.root) == []
    # Where it is nobody else's it is a name as any other.
    alone = await pods.engine.create(SUPERVISOR, spec=pods.sleeper())
    await alone.destroy()


async def test_none_is_called_as_the_sandbox(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    with pytest.raises(ContainerExists):
        await sandbox.create("pod", spec=pods.sleeper())
    assert (await sandbox.root.view()).status is Status.RUNNING


async def test_a_plain_container_is_no_sandbox_until_another_is_in_it(pods: Pods) -> None:
    plain = await pods.engine.create("plain", spec=_at(pods.sleeper(), unique()))
    caller = pods.sleeper(annotations={TYPE: "sandbox"})
    await pods.engine.create("caller", spec=caller, supervision="caller")
    await plain.start()
    for name in ("plain", "caller"):
        with pytest.raises(SpecInvalid, match=f"'{name}' is a container by itself, and no sandbox"):
            await pods.engine.load_sandbox(name)
    # Put there by its annotations, for which the sandbox of one is one.
    beside = _at(pods.sleeper(annotations=in_sandbox("plain")), unique())
    await pods.engine.create("app", spec=beside)
    sandbox = await pods.engine.load_sandbox("plain")
    assert [each.id for each in await sandbox.containers()] == ["app"]
    os.unlink(f"{pods.root}/plain.d/config.json")  # what it says can't be known any more
    await (await pods.engine.load_sandbox("plain")).destroy()
    assert [each.id for each in await pods.engine.list()] == ["caller"]


async def test_a_cgroup_of_the_sandbox_or_of_another_in_it_is_refused(pods: Pods) -> None:
    """A process in an inner node, or a container that is killed and paused with another."""
    sandbox = await pods.sandbox()
    path, directory = _cgroup_of(sandbox, pods.root)
    before = sorted(os.listdir(directory))
    for below in ("", f"/{SUPERVISOR}", f"/{SUPERVISOR}/in", "/pod", "/pod/in", "/other"):
        with pytest.raises(SpecInvalid, match="own or another's") as caught:
            await sandbox.create("app", spec=_at(pods.sleeper(), f"{path}{below}"))
        assert caught.value.json_path == "linux.cgroupsPath"
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(directory)) == before
    assert members(pods.root) == []
    app = await sandbox.create("app", spec=_at(pods.sleeper(), f"{path}/app"))
    assert _cgroups.pids(f"{directory}/app") != []
    await app.destroy()
    await sandbox.destroy()
    assert not os.path.exists(directory)


async def test_one_with_a_cgroup_elsewhere_that_fails_leaves_no_record(pods: Pods) -> None:
    """The sandbox's own, which the others are in, isn't among what it waits to be empty."""
    sandbox = await pods.sandbox()
    taken, path = unique(), unique()
    await pods.engine.create("user", spec=_at(pods.sleeper(), taken))
    with pytest.raises(asyncrt.StartFailed, match=r"linux\.cgroupsPath"):
        await sandbox.create("app", spec=_at(pods.sleeper(), taken))
    assert [each.id for each in await pods.engine.list()] == ["pod", "user"]
    app = await pods.running(sandbox, "app", _at(pods.sleeper(), path))
    made = made_for(app, pods.root)
    assert all(each.endswith(path) for each in made)
    await app.destroy()
    assert left(made) == []
    assert (await sandbox.root.view()).status is Status.RUNNING
