"""What is refused where containers share a sandbox: one clear error each, and nothing is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import AsyncrtError, Engine, InvalidTransition, Sandbox, SpecInvalid, Status
from asyncrt.container import beside
from asyncrt.engine import making
from asyncrt.platforms.cgroups import place
from asyncrt.platforms.cgroups.machine import discover
from asyncrt.state import StateFile, read_record
from tests.helpers.containers import Fifo, record_of, shell_hook, supervisor_of
from tests.helpers.pods import ID, TYPE, Pods, children, in_sandbox, members
from tests.helpers.processes import until
from tests.helpers.sandboxes import mounts_below

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups("pids"),
    pytest.mark.needs_program("busybox"),
]

CRIO_TYPE, CRIO_ID = "io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"


def _changed(spec: asyncrt.Spec, **fields: Any) -> asyncrt.Spec:
    """The spec with fields of its process, and `resources`."""
    config = json.loads(spec.encoded())
    resources = fields.pop("resources", None)
    if resources is not None:
        config.setdefault("linux", {})["resources"] = resources
    config["process"].update(fields)
    return asyncrt.Spec.decode(json.dumps(config).encode())


def _cgroups(new: str, sandbox: asyncrt.Container, root: str) -> set[str]:
    """Those of the sandbox's, and of a container of that name outside of it, in every hierarchy."""
    machine = discover()
    found = set()
    for each in (*machine.v1.values(), *([machine.v2] if machine.v2 else ())):
        above = place.parent(each)
        found |= {f"{above}/{name}" for name in os.listdir(above) if new in name}
    for each in record_of(sandbox, root).cgroups:
        if os.path.isdir(each):
            found |= {entry.path for entry in os.scandir(each) if entry.is_dir()}
    return found


class Left:
    """What there is of a sandbox, to be compared with what there is later."""

    def __init__(self, root: str, sandbox: Sandbox, new: str, *directories: str) -> None:
        self._root = root
        self._sandbox = sandbox.root
        self._new = new
        self._directories = directories
        self._before = self._now()

    def _now(self) -> dict[str, object]:
        root = self._root
        below = [
            f"{above}/{each}" for above, dirs, files in os.walk(root) for each in (*dirs, *files)
        ]
        return {
            # The directory of the members stays when the first of them doesn't come to be.
            "files": sorted(each for each in below if not each.endswith(("~events", "/members"))),
            "members": members(root, self._sandbox.id),
            "cgroups": _cgroups(self._new, self._sandbox, root),
            "mounts": mounts_below(root, self._new),
            "layers": [sorted(os.listdir(each)) for each in self._directories],
        }

    async def check(self) -> None:
        """Nothing is new, nothing is gone."""
        supervisor = supervisor_of(self._sandbox, self._root)
        names = [self._sandbox.id, *members(self._root, self._sandbox.id)]
        inits = [read_record(self._root, name).init for name in names]
        living = {each.pid for each in inits if each is not None}
        await until(lambda: children(supervisor) == living, "whom it forked is reaped")
        now = self._now()
        for what, before in self._before.items():
            assert now[what] == before, what


def _new() -> str:
    return f"new-{uuid.uuid4().hex[:8]}"


ANNOTATIONS = [
    ({TYPE: "pod"}, f'annotations["{TYPE}"]', "unknown container type 'pod'"),
    ({TYPE: "Container", ID: "pod"}, f'annotations["{TYPE}"]', "unknown container type"),
    ({TYPE: ""}, f'annotations["{TYPE}"]', "unknown container type ''"),
    ({CRIO_TYPE: "infra"}, f'annotations["{CRIO_TYPE}"]', "unknown container type 'infra'"),
    ({TYPE: "container"}, f'annotations["{ID}"]', "required and missing"),
    ({TYPE: "container", ID: ""}, f'annotations["{ID}"]', "required and missing"),
    ({CRIO_TYPE: "container"}, f'annotations["{CRIO_ID}"]', "required and missing"),
    # Of a mixture containerd's count: neither the type nor the id of the other fills a gap.
    ({TYPE: "pod", CRIO_TYPE: "container", CRIO_ID: "pod"}, f'annotations["{TYPE}"]', "unknown"),
    ({TYPE: "container", CRIO_ID: "pod"}, f'annotations["{ID}"]', "required and missing"),
    (
        {TYPE: "container", ID: "nobody", CRIO_TYPE: "container", CRIO_ID: "pod"},
        f'annotations["{ID}"]',
        "there is no sandbox 'nobody'",
    ),
    ({TYPE: "container", ID: "p"}, f'annotations["{ID}"]', "there is no sandbox 'p'"),
    ({TYPE: "container", ID: "pod*"}, f'annotations["{ID}"]', "letters, digits"),
]


async def test_annotations_that_name_no_sandbox_are_refused_by_the_one_that_is_wrong(
    pods: Pods,
) -> None:
    sandbox = await pods.sandbox()
    new = _new()
    left = Left(pods.root, sandbox, new)
    for given, at, why in ANNOTATIONS:
        with pytest.raises(SpecInvalid) as caught:
            await pods.engine.create(new, spec=pods.sleeper(annotations=given))
        assert caught.value.json_path == at, given
        assert why in str(caught.value), given
        assert "\n" not in str(caught.value)
        await left.check()


async def test_containerds_annotations_come_before_those_of_cri_o(pods: Pods) -> None:
    await pods.sandbox("pod")
    await pods.sandbox("pods")
    both = {**in_sandbox("pod"), CRIO_TYPE: "container", CRIO_ID: "pods"}
    app = await pods.engine.create("app", spec=pods.sleeper(annotations=both))
    assert (await app.view()).sandbox == "pod"
    assert (members(pods.root, "pod"), members(pods.root, "pods")) == (["app"], [])
    # An id without a type says nothing.
    own = await pods.engine.create("own", spec=pods.sleeper(annotations={ID: "pod"}))
    assert (await own.view()).sandbox == "own"


async def test_the_sandbox_of_another_root_is_nobodys_here(pods: Pods) -> None:
    await pods.sandbox("here")
    with tempfile.TemporaryDirectory(dir=os.path.dirname(pods.root)) as elsewhere:
        async with Engine(elsewhere) as engine:
            theirs = await engine.create_sandbox("there", spec=pods.sleeper())
            new = _new()
            left = Left(elsewhere, theirs, new)
            with pytest.raises(SpecInvalid, match=f"no sandbox 'there' below {pods.root}"):
                await pods.engine.create(new, spec=pods.sleeper(annotations=in_sandbox("there")))
            await left.check()
            assert not [name for name in os.listdir(pods.root) if new in name]
            await theirs.destroy()


async def test_a_sandbox_that_is_being_created_takes_nobody_in(pods: Pods) -> None:
    with Fifo(f"{pods.root}/~hooked") as hooked, Fifo(f"{pods.root}/~go") as go:
        hook = shell_hook(f'echo >"{hooked.path}"; read go <"{go.path}"')
        config = json.loads(pods.sleeper().encoded())
        config["hooks"] = {"createRuntime": [{"path": hook.path, "args": list(hook.args or ())}]}
        spec = asyncrt.Spec.decode(json.dumps(config).encode())
        creating = asyncio.ensure_future(pods.engine.create_sandbox("pod", spec=spec))
        try:
            await hooked.line()
            found = pods.sleeper(annotations=in_sandbox("pod"))
            with pytest.raises(InvalidTransition, match="'pod': it is creating") as caught:
                await pods.engine.create("app", spec=found)
            assert caught.value.allowed == ("created", "running")
            there = await pods.engine.load_sandbox("pod")
            with pytest.raises(InvalidTransition, match="'pod': it is creating"):
                await there.create("app", spec=pods.sleeper())
            assert members(pods.root) == []
            assert not [name for name in os.listdir(pods.root) if name.startswith(("app", ".app"))]
        finally:
            go.say()
            sandbox = await creating
        await sandbox.create("app", spec=pods.sleeper())
    os.unlink(f"{pods.root}/~hooked")
    os.unlink(f"{pods.root}/~go")


@pytest.mark.parametrize("seam", ["is looked at", "is asked for an init"])
@pytest.mark.parametrize("what", ["pause", "stop", "destroy", "replace"])
async def test_what_becomes_of_the_sandbox_just_before_it_is_needed_is_told(
    pods: Pods, monkeypatch: pytest.MonkeyPatch, what: str, seam: str
) -> None:
    """HAZARDS 11: by somebody else, and the creation is about to go by what it knew."""
    sandbox = await pods.sandbox()
    asked = seam == "is asked for an init"
    call: Any = StateFile.lock_for_new if asked else beside.find_sandbox

    async def late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        async with Engine(pods.root) as engine:
            root = await engine.load("pod")
            if what == "pause":
                await root.pause()
            elif what == "stop":
                await root.stop(grace_seconds=0)
            else:
                await root.destroy()
            if what == "replace":
                await engine.create_sandbox("pod", spec=pods.sleeper())
        return await call(*arguments, **options)

    if asked:
        monkeypatch.setattr(StateFile, "lock_for_new", late)  # right after it
    else:
        monkeypatch.setattr(making, "find_sandbox", late)
    with pytest.raises(AsyncrtError) as caught:
        await sandbox.create("app", spec=pods.sleeper())
    assert "\n" not in str(caught.value)
    assert isinstance(
        caught.value,
        InvalidTransition if what in {"pause", "stop"} else asyncrt.ContainerNotFound,
    ), caught.value
    assert not [name for name in os.listdir(pods.root) if name.startswith(("app", ".app"))]
    if what != "destroy":
        assert members(pods.root) == []
        assert (await pods.engine.load("pod")).id == "pod"


BEYOND: list[tuple[str, dict[str, Any]]] = [
    ("memory.limit", {"memory": {"limit": -2}}),
    ("memory.swap", {"memory": {"limit": 1 << 30, "swap": 1 << 20}}),
    ("memory.swap", {"memory": {"swap": 1 << 20}}),
    ("pids.limit", {"pids": {"limit": 1 << 63}}),
    ("cpu.shares", {"cpu": {"shares": 1}}),
    ("cpu.quota", {"cpu": {"quota": 5}}),
    ("cpu.period", {"cpu": {"period": 999}}),
    ("cpu.burst", {"cpu": {"burst": 5}}),
    ("cpu.cpus", {"cpu": {"cpus": "3-1"}}),
    ("blockIO.weight", {"blockIO": {"weight": 5}}),
    ("hugepageLimits[0].pageSize", {"hugepageLimits": [{"pageSize": "2", "limit": 0}]}),
    ('unified["cgroup.kill"]', {"unified": {"cgroup.kill": "1"}}),
]


async def test_limits_out_of_range_are_refused_by_path_in_create_and_in_update(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    app = await pods.running(
        sandbox, "app", _changed(pods.sleeper(), resources={"pids": {"limit": 50}})
    )
    new = _new()
    left = Left(pods.root, sandbox, new)
    config = Path(f"{pods.root}/app.d/config.json").read_bytes()
    for path, resources in BEYOND:
        with pytest.raises(SpecInvalid) as caught:
            await sandbox.create(new, spec=_changed(pods.sleeper(), resources=resources))
        assert caught.value.json_path == f"linux.resources.{path}"
        assert "\n" not in str(caught.value)
        with pytest.raises(SpecInvalid) as caught:
            await app.update(resources)
        assert caught.value.json_path == f"linux.resources.{path}"
        assert "\n" not in str(caught.value)
        await left.check()
    assert Path(f"{pods.root}/app.d/config.json").read_bytes() == config


async def test_what_the_kernel_refuses_of_one_leaves_nothing_of_it(pods: Pods) -> None:
    """Once its cgroups are made, in the middle of the launch."""
    sandbox = await pods.sandbox()
    new = _new()
    left = Left(pods.root, sandbox, new)
    for fields in (
        {"resources": {"cpu": {"cpus": "999999"}}},
        {"resources": {"unified": {"memory.nothing": "1"}}},
        {"user": {"uid": 65534, "gid": 65534}, "cwd": "/root"},
    ):
        with contextlib.suppress(AsyncrtError):
            await sandbox.create(new, spec=_changed(pods.sleeper(), **fields))
            await pods.engine.delete(new, force=True)
        await left.check()


async def test_an_overlay_where_there_can_be_none_leaves_nothing_of_it(
    pods: Pods, open_directory: Path
) -> None:
    sandbox = await pods.sandbox()
    new = _new()
    place = open_directory / "place"
    place.mkdir()
    left = Left(pods.root, sandbox, new, str(place))
    overlays: list[asyncrt.Overlay] = [
        asyncrt.Overlay.upper("/proc/asyncrt/layer"),
        asyncrt.Overlay.disk(place / "nowhere"),
        asyncrt.Overlay.disk("/sys"),
        asyncrt.Overlay.upper("/proc/self/layer"),
    ]
    if pods.platform == "host":
        overlays.append(asyncrt.Overlay.memory())
    for overlay in overlays:
        with pytest.raises(AsyncrtError) as caught:
            await sandbox.create(new, spec=pods.sleeper(), overlay=overlay)
        assert "\n" not in str(caught.value)
        assert pods.platform != "host" or isinstance(caught.value, asyncrt.SpecUnsupported)
        await left.check()


async def test_a_score_beyond_the_kernels_is_refused_by_path_wherever_it_is_given(
    pods: Pods, tmp_path: Path
) -> None:
    sandbox = await pods.sandbox()
    new = _new()
    left = Left(pods.root, sandbox, new)
    for beyond in (1001, -1001):
        config = json.loads(pods.sleeper().encoded())
        config["process"]["oomScoreAdj"] = beyond
        (tmp_path / "config.json").write_text(json.dumps(config))
        for create in (sandbox.create, pods.engine.create, pods.engine.create_sandbox):
            with pytest.raises(SpecInvalid) as caught:
                await create(new, bundle=tmp_path)
            assert caught.value.json_path == "process.oomScoreAdj"
            assert "\n" not in str(caught.value)
            await left.check()


async def test_without_a_supervisor_of_ours_annotations_are_data_whatever_they_say(
    pods: Pods,
) -> None:
    """Who supervises by itself has words of its own in them, and members and scores of its own."""
    sandbox = await pods.sandbox()
    for given in (
        in_sandbox("pod"),
        {TYPE: "pod"},
        {TYPE: "container"},
        {CRIO_TYPE: "infra"},
        {TYPE: "container", ID: "../pod"},
    ):
        spec = pods.sleeper(annotations=given)
        app = await pods.engine.create("app", spec=spec, supervision="caller")
        view = await app.view()
        assert (view.status, view.sandbox) == (Status.CREATED, "app")
        assert await sandbox.containers() == []
        assert [each.id for each in await pods.engine.list(sandbox="pod")] == ["pod"]
        await app.start()
        await app.destroy()
    assert (await sandbox.root.view()).status is Status.RUNNING
