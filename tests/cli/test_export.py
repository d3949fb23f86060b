"""asyncrt export and --overlay, as people run them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cli.command import Asyncrt
from tests.helpers.processes import REPOSITORY
from tests.helpers.sandboxes import config

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]


@pytest.fixture
def bundle(rootfs: str, tmp_path: Path) -> str:
    """One whose program writes to its root, which is read-only, and ends."""
    path = tmp_path / "bundle"
    path.mkdir()
    made = config(rootfs, ["/bin/sh", "-c", "echo one > /work/f; rm /etc/passwd"])
    (path / "config.json").write_text(json.dumps(made), encoding="utf-8")
    return str(path)


def _names(path: Path) -> set[str]:
    with tarfile.open(path) as opened:
        return set(opened.getnames())


@pytest.mark.parametrize("kind", ["memory", "memory,size=8M", "disk=", "upper="])
def test_an_overlay_takes_what_is_written_and_export_gives_it(
    asyncrt: Asyncrt, bundle: str, rootfs: str, tmp_path: Path, kind: str
) -> None:
    where = tmp_path / "layers"
    where.mkdir()
    overlay = f"{kind}{where}{'/kept' if kind == 'upper=' else ''}" if "=" in kind[-1] else kind
    assert asyncrt("run", "--keep", "--overlay", overlay, "--bundle", bundle, "box") == ""
    asyncrt("export", "-o", tmp_path / "box.tar", "box")
    assert {"work/f", "etc/.wh.passwd"} <= _names(tmp_path / "box.tar")
    shown = subprocess.run(
        asyncrt.argv("export", "box"),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": REPOSITORY},
    )
    assert shown.stdout == (tmp_path / "box.tar").read_bytes()
    assert not shown.stderr
    asyncrt("delete", "box")
    assert os.path.exists(f"{rootfs}/etc/passwd")
    assert os.listdir(where) == (["kept"] if kind == "upper=" else [])


@pytest.mark.parametrize(
    "given",
    [
        "tape",
        "memory,size=",
        "memory,size=lots",
        "memory=/x",
        "upper",
        "upper=",
        "disk,size=",
        "disk=/",
    ],
)
def test_an_overlay_that_is_none_is_a_usage_error(
    asyncrt: Asyncrt, bundle: str, given: str
) -> None:
    _, err = asyncrt.both("create", "--overlay", given, "--bundle", bundle, "box", status=2)
    assert err.startswith("asyncrt: create: ")
    assert err.count("\n") == 1
    assert "overlay" in err


def test_a_host_container_refuses_it_in_one_line(asyncrt: Asyncrt) -> None:
    _, err = asyncrt.both("run", "--overlay", "memory", "box", "--", "true", status=1)
    assert "overlay" in err
    assert err.count("\n") == 1


def test_what_cant_be_exported_leaves_no_file(asyncrt: Asyncrt, tmp_path: Path) -> None:
    asyncrt("create", "--log", "box", "--", "sleep", "1000")
    _, err = asyncrt.both("export", "-o", tmp_path / "box.tar", "box", status=1)
    assert "can't export container 'box'" in err
    assert "--overlay" in err
    _, err = asyncrt.both("export", "-o", tmp_path / "none" / "box.tar", "box", status=1)
    assert f"can't write {tmp_path}/none/box.tar" in err
    _, err = asyncrt.both("export", "-o", tmp_path / "box.tar", "nobox", status=1)
    assert "no container 'nobox'" in err
    assert os.listdir(tmp_path) == []
    asyncrt("delete", "--force", "box")


def test_an_old_file_stands_until_the_new_one_is_whole(
    asyncrt: Asyncrt, rootfs: str, tmp_path: Path
) -> None:
    path = tmp_path / "bundle"
    path.mkdir()
    script = "dd if=/dev/zero of=/work/big bs=1M count=30 2> /dev/null; exec sleep 1000"
    made = config(rootfs, ["/bin/sh", "-c", script])
    (path / "config.json").write_text(json.dumps(made), encoding="utf-8")
    asyncrt("run", "-d", "--overlay", "memory", "--bundle", path, "box")
    target = tmp_path / "out" / "box.tar"
    target.parent.mkdir()
    target.write_text("old", encoding="ascii")
    # A file size limit ends it in the middle, as a full disk would.
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20));"
        "from asyncrt.cli import main; sys.exit(main())"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "--root",
        asyncrt.root,
        "export",
        "-o",
        str(target),
        "box",
    ]
    env = {**os.environ, "PYTHONPATH": REPOSITORY}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1, done.stderr
    assert f"can't write {target}: File too large" in done.stderr
    assert os.listdir(target.parent) == ["box.tar"]
    assert target.read_text(encoding="ascii") == "old"
    asyncrt("export", "-o", target, "box")
    assert "work/big" in _names(target)
    # To a pipe that nobody reads it waits, and a signal ends it.
    with asyncrt.start("export", "box") as running:
        assert running.stdout.read(1) is not None
        running.signal(signal.SIGINT)
        assert running.end()[0] == 130
    asyncrt("delete", "--force", "box")


def test_no_archive_is_written_to_a_terminal(asyncrt: Asyncrt) -> None:
    master, slave = pty.openpty()
    try:
        with asyncrt.start("export", "box", stdout=slave) as running:
            status, _, err = running.end()
        assert status == 2
        assert "terminal" in err
    finally:
        os.close(master)
        os.close(slave)
