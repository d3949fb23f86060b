"""A kept layer's directory that a creation has made goes with it when that fails; nobody else's does."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine
from asyncrt.container import layer
from asyncrt.platforms.overlay import plan_overlay
from tests.helpers.layers import owned_rootfs
from tests.helpers.sandboxes import MAPPED, ROOT, config, spec

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_program("busybox"),
]


@pytest.fixture
def place(open_directory: Path) -> Path:
    """A directory on disk for layers."""
    path = open_directory / "layers"
    path.mkdir()
    return path


def _failing(rootfs: str, script: str = "exit 3", *, who: str = ROOT) -> dict[str, Any]:
    """A config whose creation fails when all of it is mounted."""
    made = config(rootfs, ["/bin/true"], who=who)
    made["mounts"].append({"destination": "/deep/er", "type": "tmpfs", "source": "tmpfs"})
    made["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    return made


@pytest.mark.parametrize("who", [ROOT, MAPPED])
@pytest.mark.parametrize("there", [False, True])
async def test_a_creation_that_fails_leaves_the_directory_as_it_was(
    there: bool, who: str, engine: Engine, open_directory: Path, place: Path
) -> None:
    rootfs = owned_rootfs(str(open_directory / "rootfs"), who)
    kept = place / "kept"
    if there:
        kept.mkdir()
        os.chown(kept, os.stat(rootfs).st_uid, -1)
    with pytest.raises(asyncrt.HookFailed):
        await engine.create(
            "box", spec=spec(_failing(rootfs, who=who)), overlay=asyncrt.Overlay.upper(kept)
        )
    assert os.listdir(place) == (["kept"] if there else [])
    assert await engine.list() == []


async def test_what_somebody_has_put_there_meanwhile_stays(
    engine: Engine, rootfs: str, place: Path
) -> None:
    kept = place / "kept"
    failing = _failing(rootfs, f"echo mine >{kept}/file; exit 3")
    with pytest.raises(asyncrt.HookFailed):
        await engine.create("box", spec=spec(failing), overlay=asyncrt.Overlay.upper(kept))
    assert (kept / "file").read_text() == "mine\n"


async def test_a_create_cancelled_at_any_tick_leaves_no_directory(
    engine: Engine, rootfs: str, place: Path
) -> None:
    made = spec(config(rootfs, ["/bin/true"]))
    for ticks in range(0, 60, 4):
        overlay = asyncrt.Overlay.upper(place / str(ticks))
        creating = asyncio.create_task(engine.create("box", spec=made, overlay=overlay))
        for _ in range(ticks):
            await asyncio.sleep(0)
        creating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await creating).destroy()
            os.rmdir(place / str(ticks))
        assert os.listdir(place) == []


def test_a_directory_taken_away_before_its_lock_was_had_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HAZARDS 5: else two would each hold the lock of one that the other doesn't see."""
    kept = place / "kept"
    plan = plan_overlay(asyncrt.Overlay.upper(kept), "name")
    flock = layer._flock
    calls = []

    def unmade(fd: int, flags: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            kept.rmdir()
        flock(fd, flags)

    monkeypatch.setattr(layer, "_flock", unmade)
    held = layer.hold("box", plan)
    try:
        assert len(calls) == 2
        assert os.path.samestat(os.stat(kept), os.fstat(held))
        layer.unmake(plan, held)
        assert os.listdir(place) == []
        kept.mkdir()
        layer.unmake(plan, held)  # somebody else's by now
        assert os.listdir(place) == ["kept"]
    finally:
        os.close(held)


def test_a_link_to_nothing_is_told(place: Path) -> None:
    (place / "kept").symlink_to(place / "nowhere")
    plan = plan_overlay(asyncrt.Overlay.upper(place / "kept"), "name")
    with pytest.raises(asyncrt.StartFailed, match=r"overlay '.*kept': No such file"):
        layer.hold("box", plan)
