"""spec: what it writes runs as it stands, for root and for an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import capabilities
from tests.helpers.capabilities import User
from tests.helpers.processes import REPOSITORY

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox", "unshare")]

_TYPED = b"id -u; hostname; exit 3\n"


def _asyncrt(
    root: str, *args: str, user: User | None = None, inside: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*inside, sys.executable, "-B", "-m", "asyncrt", "--root", root, *args],
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        cwd="/",
        input=_TYPED,
        capture_output=True,
        check=False,
        timeout=50,
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
    )


@pytest.mark.parametrize("who", ["root", "user"])
@pytest.mark.parametrize("flag", ["--rootless", "--rootful", None])
def test_what_it_writes_runs_as_it_stands(
    root: str, rootfs: str, open_directory: Path, ordinary_user: User, who: str, flag: str | None
) -> None:
    if who == "user" and not capabilities.has_userns():
        capabilities.skip_lacking("unprivileged user namespaces")
    user = ordinary_user if who == "user" else None
    os.symlink(rootfs, open_directory / "rootfs")
    if user is not None:
        os.chown(root, user.uid, user.gid)
        os.chown(open_directory, user.uid, user.gid)
    options = () if flag is None else (flag,)
    written = _asyncrt(root, "spec", *options, "--bundle", str(open_directory), user=user)
    assert written.returncode == 0, written.stderr
    done = _asyncrt(root, "run", "--bundle", str(open_directory), "web", user=user)
    if who == "user" and flag == "--rootful":
        assert done.returncode == 1
        assert b"linux.namespaces (an ordinary user needs a user namespace)" in done.stderr
        return
    assert done.returncode == 3, done
    shown = done.stdout.replace(b"\r", b"").split(b"\n")
    assert {b"0", b"asyncrt"} <= set(shown)


@pytest.mark.needs_userns
@pytest.mark.parametrize("flag", ["--rootless", "--rootful"])
def test_root_of_a_user_namespace_with_one_id_can_run_it_too(
    root: str, rootfs: str, open_directory: Path, flag: str
) -> None:
    """No group 5 for terminals, no setgroups, no list of devices, nothing to clone: all refused."""
    os.symlink(rootfs, open_directory / "rootfs")
    inside = ("unshare", "-Ur")
    bundle = ("--bundle", str(open_directory))
    assert _asyncrt(root, "spec", flag, *bundle, inside=inside).returncode == 0
    done = _asyncrt(root, "run", *bundle, "web", inside=inside)
    assert done.returncode == 3, done
    if flag == "--rootful":
        config = open_directory / "config.json"
        made = json.loads(config.read_text())
        made["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
        config.write_text(json.dumps(made))
        done = _asyncrt(root, "run", *bundle, "web", inside=inside)
        assert b"linux.resources.devices (" in done.stderr


def test_a_standard_stream_of_another_mount_namespace_is_no_obstacle(root: str) -> None:
    """Of its /dev/null nothing can be cloned: EINVAL, and every create failed."""
    with open("/dev/null", "rb") as null:
        done = subprocess.run(
            [
                *("unshare", "-m", sys.executable, "-B", "-m", "asyncrt", "--root", root),
                *("do", "--", "echo", "done"),
            ],
            env={**os.environ, "PYTHONPATH": REPOSITORY},
            stdin=null,
            capture_output=True,
            check=False,
            timeout=50,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")
