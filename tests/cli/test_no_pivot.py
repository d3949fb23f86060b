"""--no-pivot, as runc has it: on every command that makes a container."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import Asyncrt
from tests.helpers.sandboxes import config

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]


def test_a_sandbox_runs_without_pivot_root(asyncrt: Asyncrt, rootfs: str, tmp_path: Path) -> None:
    made = config(rootfs, ["/bin/ls", "/bin/busybox"])
    (tmp_path / "config.json").write_text(json.dumps(made))
    assert asyncrt("run", "--no-pivot", "--bundle", tmp_path, "web") == "/bin/busybox\n"
    assert asyncrt("do", "--no-pivot", "--", "echo", "done") == "done\n"
    asyncrt("create", "--log", "--no-pivot", "--bundle", tmp_path, "web")
    asyncrt("delete", "--force", "web")
    assert asyncrt.left() == []


@pytest.mark.parametrize("command", ["create", "run"])
def test_who_could_unmount_the_root_is_refused(
    asyncrt: Asyncrt, rootfs: str, tmp_path: Path, command: str
) -> None:
    made = config(rootfs, ["/bin/true"])
    made["process"]["capabilities"] = {"bounding": ["CAP_SYS_ADMIN"]}
    (tmp_path / "config.json").write_text(json.dumps(made))
    said = asyncrt.fails(command, "--no-pivot", "--bundle", tmp_path, "web")
    assert "process.capabilities.bounding (it could unmount the root" in said
    assert asyncrt.left() == []
