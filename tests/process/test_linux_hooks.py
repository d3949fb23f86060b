"""Hooks of a sandbox: each kind in the namespaces and at the moment that OCI says."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from tests.helpers.containers import Fifo, destroyed, init_of
from tests.helpers.sandboxes import MAPPED, ROOT, config, spec

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

as_root = pytest.mark.parametrize("who", [ROOT, MAPPED])


def _hook(kind: str, place: str, script: str, shell: str = "/bin/sh") -> dict[str, list[Any]]:
    return {kind: [{"path": shell, "args": ["sh", "-c", script, "sh", place, kind]}]}


# Kind, whether it is the host's root that it sees, status, pid of init.
_TELL = (
    "[ -e /usr ] && root=outside || root=inside; s=$(cat); "
    'status=${s#*\\"status\\":\\ \\"}; '
    'echo $2 $root $(readlink /proc/self/ns/uts) ${status%%\\"*} >> $1'
)


@as_root
async def test_hooks_run_in_order_and_in_their_namespaces(
    engine: asyncrt.Engine, root: str, rootfs: str, open_directory: Path, who: str
) -> None:
    told = open_directory / "told"
    told.touch()
    told.chmod(0o666)
    made = config(rootfs, ["/bin/sleep", "1000"], who=who)
    made["mounts"].append(
        {"destination": "/etc/passwd", "type": "bind", "source": str(told), "options": ["bind"]}
    )
    place = str(told)
    made["hooks"] = {
        **_hook("poststop", place, _TELL),
        **_hook("poststart", place, _TELL),
        **_hook("startContainer", "/etc/passwd", _TELL),
        **_hook("createContainer", place, _TELL),
        **_hook("createRuntime", place, _TELL),
        **_hook("prestart", place, _TELL),
    }
    container = await engine.create("box", spec=spec(made))
    async with destroyed(container):
        theirs = os.readlink(f"/proc/{init_of(container, root)}/ns/uts")
        await container.start()
    ours = os.readlink("/proc/self/ns/uts")
    assert [line.split() for line in told.read_text(encoding="utf-8").splitlines()] == [
        ["prestart", "outside", ours, "creating"],
        ["createRuntime", "outside", ours, "creating"],
        ["createContainer", "outside", theirs, "creating"],
        ["startContainer", "inside", theirs, "created"],
        ["poststart", "outside", ours, "running"],
        ["poststop", "outside", ours, "stopped"],
    ]


async def test_a_hook_before_the_root_finds_the_namespaces_by_inits_pid(
    engine: asyncrt.Engine, rootfs: str, tmp_path: Path
) -> None:
    """A network for the container is made that way."""
    script = (
        's=$(cat); pid=${s#*\\"pid\\":\\ }; pid=${pid%%[,\\}]*}; nsenter -t $pid -u hostname made'
    )
    made = config(rootfs, ["/bin/hostname"])
    made["hooks"] = _hook("createRuntime", "", script)
    done = await engine.run("box", spec=spec(made), stdout=asyncrt.PIPE)
    assert done.stdout == b"made\n"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer"])
async def test_a_failing_hook_takes_the_sandbox_along_and_is_named(
    engine: asyncrt.Engine, root: str, rootfs: str, tmp_path: Path, kind: str
) -> None:
    made = config(rootfs, ["/bin/sleep", "1000"])
    told = tmp_path / "told"
    made["hooks"] = {
        **_hook(kind, "", "echo bad luck >&2; exit 3"),
        **_hook("poststop", str(told), "echo $2 > $1"),
    }
    with pytest.raises(asyncrt.HookFailed, match="exit status 3: bad luck") as caught:
        container = await engine.create("box", spec=spec(made))
        await container.start()
    assert caught.value.kind == kind
    assert await engine.list() == []
    assert told.read_text(encoding="utf-8") == "poststop\n"


async def test_the_engines_own_hooks_come_after_the_specs(
    root: str, rootfs: str, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    made = config(rootfs, ["/bin/sleep", "1000"])
    kinds = ("prestart", "createRuntime", "createContainer")
    made["hooks"] = {kind: _hook(kind, str(told), "echo $2 >> $1")[kind] for kind in kinds}

    def note(state: dict[str, object]) -> None:
        with told.open("a", encoding="utf-8") as file:
            file.write(f"own {json.dumps(state['status'])}\n")

    hooks = dict.fromkeys(kinds, note)
    async with asyncrt.Engine(root, hooks=hooks) as engine:
        container = await engine.create("box", spec=spec(made))
        await container.destroy()
    assert told.read_text(encoding="utf-8").splitlines() == [
        each for kind in kinds for each in (kind, 'own "creating"')
    ]


async def test_a_forced_delete_ends_a_create_that_waits_for_a_hook(
    engine: asyncrt.Engine, root: str, rootfs: str, tmp_path: Path
) -> None:
    with Fifo(tmp_path / "reached") as reached:
        made = config(rootfs, ["/bin/sleep", "1000"])
        made["hooks"] = _hook("createRuntime", reached.path, "echo here > $1; sleep 1000")
        creating = asyncio.create_task(engine.create("box", spec=spec(made)))
        assert await reached.line() == "here"
        async with asyncrt.Engine(root) as other:
            await other.delete("box", force=True)
        with pytest.raises(asyncrt.SandboxUnresponsive):
            await creating


async def test_a_create_cancelled_while_a_hook_inside_runs_leaves_nothing(
    engine: asyncrt.Engine, rootfs: str, tmp_path: Path
) -> None:
    with Fifo(tmp_path / "reached") as reached:
        made = config(rootfs, ["/bin/sleep", "1000"])
        made["hooks"] = _hook("createContainer", reached.path, "echo here > $1; sleep 1000")
        creating = asyncio.create_task(engine.create("box", spec=spec(made)))
        assert await reached.line() == "here"
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
    assert await engine.list() == []
