"""do --overlay: a program that writes where it likes, and none of it reaches the host."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.cli.command import Asyncrt
from tests.helpers.capabilities import User
from tests.helpers.layers import owned_rootfs, picture
from tests.helpers.leaks import LeakCheck
from tests.helpers.processes import asyncrt_as
from tests.helpers.sandboxes import USER

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]


def test_what_it_writes_reaches_neither_the_host_nor_the_next(asyncrt: Asyncrt) -> None:
    script = "ls asyncrt-new; echo x >asyncrt-new; rm /etc/passwd; cat asyncrt-new; ls /etc/passwd"
    for _ in range(2):
        words = ("do", "--overlay", "memory,size=8M", "--", "sh", "-c", script)
        out, err = asyncrt.both(*words, cwd="/etc", status=2)
        assert out == "x\n"
        assert err.count("No such file or directory") == 2
    assert os.path.exists("/etc/passwd")
    assert not os.path.exists("/etc/asyncrt-new")
    assert asyncrt.left() == []


def test_what_is_bound_or_hidden_stays_so(asyncrt: Asyncrt, tmp_path: Path) -> None:
    """Below /tmp, where it is: seen because it is the current directory, writable if asked for."""
    (tmp_path / "in").mkdir()
    script = "echo x >in/new; echo x >out; ls /run"
    words = ("do", "--overlay", "memory", "-w", "in", "--", "sh", "-c", script)
    out, err = asyncrt.both(*words, cwd=str(tmp_path))
    assert (out, (tmp_path / "in" / "new").read_text()) == ("", "x\n")
    assert "out: Read-only file system" in err
    assert os.listdir(tmp_path) == ["in"]


def test_a_layer_that_is_kept_has_what_was_written(
    asyncrt: Asyncrt, rootfs: str, open_directory: Path
) -> None:
    before = picture(rootfs)
    words = ("do", "--rootfs", rootfs, "--overlay", f"upper={open_directory}/kept", "--")
    asyncrt(*words, "/bin/sh", "-c", "echo one >/work/file")
    assert asyncrt(*words, "/bin/cat", "/work/file") == "one\n"
    assert picture(rootfs) == before
    assert (open_directory / "kept/work/file").read_text() == "one\n"
    assert os.listdir(open_directory) == ["kept"]


def test_one_that_cant_be_had_is_told_and_nothing_is_left(asyncrt: Asyncrt) -> None:
    assert "is none of memory, disk" in asyncrt.fails("do", "--overlay", "x", "true", status=2)
    assert "/nowhere/" in asyncrt.fails("do", "--overlay", "disk=/nowhere", "true")
    assert asyncrt.left() == []


@pytest.mark.needs_userns
def test_an_ordinary_user_has_one_or_is_told_why_not(
    ordinary_user: User, leak_check: LeakCheck, open_directory: Path
) -> None:
    """Over a root of its own the kernel makes it one; over the host's, with its mounts, it may not."""
    root = tempfile.mkdtemp(prefix="asyncrt-test-")
    leak_check.watch_root(root)
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    rootfs = owned_rootfs(str(open_directory / "rootfs"), USER, ordinary_user)
    before = picture(rootfs)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return asyncrt_as(ordinary_user, "--root", root, "do", *words)

    script = "echo x >/work/new; rm /etc/passwd; cat /work/new"
    for layer in ("memory", f"disk={root}"):
        words = ("--rootfs", rootfs, "--overlay", layer, "--", "/bin/sh", "-c", script)
        done = run(*words)
        if done.returncode and "attributes" in done.stderr:
            continue  # as of a tmpfs before Linux 6.6
        assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")
    assert picture(rootfs) == before
    done = run("--overlay", "memory", "--", "/bin/sh", "-c", "echo had")
    if done.returncode:
        assert done.stderr.startswith("asyncrt: ")
        assert done.stderr.count("\n") == 1
        assert "overlay" in done.stderr
    else:
        assert (done.stdout, done.stderr) == ("had\n", "")
