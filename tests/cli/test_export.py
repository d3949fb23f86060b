"""asyncrt export and --overlay, as people run them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncrt.state import read_record
from tests.cli.command import Asyncrt
from tests.helpers.processes import REPOSITORY, wait_until
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


@pytest.fixture
def kept(asyncrt: Asyncrt, rootfs: str, tmp_path: Path, open_directory: Path) -> Iterator[Path]:
    """The directory of a running container's layer."""
    path = tmp_path / "running"
    path.mkdir()
    made = config(rootfs, ["/bin/sleep", "1000"])
    (path / "config.json").write_text(json.dumps(made), encoding="utf-8")
    layer = open_directory / "kept"
    asyncrt("run", "-d", "--overlay", f"upper={layer}", "--bundle", path, "box")
    yield layer
    asyncrt("delete", "--force", "box")


def _seen(directory: Path) -> dict[bytes, tuple[object, ...]]:
    """All that is below it, as far as an archive can tell."""
    found: dict[bytes, tuple[object, ...]] = {}
    first: dict[int, bytes] = {}
    for above, directories, files in os.walk(os.fsencode(directory)):
        for each in sorted(os.path.join(above, name) for name in (*directories, *files)):
            stat = os.lstat(each)
            name = os.path.relpath(each, os.fsencode(directory))
            regular = os.path.isfile(each) and not os.path.islink(each)
            found[name] = (
                *(oct(stat.st_mode), stat.st_uid, stat.st_gid, stat.st_mtime_ns, stat.st_nlink),
                stat.st_rdev,
                first.setdefault(stat.st_ino, name),
                Path(os.fsdecode(each)).read_bytes() if regular else b"",
                os.readlink(each) if os.path.islink(each) else b"",
                {key: os.getxattr(each, key) for key in os.listxattr(each) if regular},
            )
    return found


@pytest.mark.needs_program("tar")
def test_what_is_exported_is_extracted_by_tar_as_it_was(
    asyncrt: Asyncrt, kept: Path, tmp_path: Path
) -> None:
    deep = kept.joinpath(*["d" * 90] * 4)
    deep.mkdir(parents=True)
    (deep / ("n" * 200)).write_bytes(b"long")
    (kept / os.fsdecode(b"\xff\xfe bytes")).write_bytes(b"bytes")
    (kept / "one").write_bytes(b"x" * 70_000)
    os.link(kept / "one", deep / "two")
    os.symlink("../" * 60, kept / "link")
    os.mkfifo(kept / "fifo", 0o640)
    os.mknod(kept / "null", 0o20666, os.makedev(1, 3))
    with open(kept / "holes", "wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    (kept / "set").write_bytes(b"")
    os.chown(kept / "set", 3_000_000, 12)
    (kept / "set").chmod(0o6755)
    os.utime(kept / "one", ns=(0, 10**18 + 7))
    with contextlib.suppress(OSError):  # not on every file system
        os.setxattr(kept / "one", "user.comment", b"a=b\n\0c")
    out = tmp_path / "out"
    out.mkdir()
    command = ["tar", "-x", "-p", "--xattrs", "--xattrs-include=user.*", "-C", str(out)]
    with asyncrt.start("export", "box") as running:
        done = subprocess.run(command, stdin=running.stdout, capture_output=True, check=False)
        assert running._popen.wait(20) == 0
    assert done.returncode == 0, done.stderr
    # What POSIX has for names that aren't UTF-8 it takes as they are, and says so.
    assert all(b"'hdrcharset'" in each for each in done.stderr.splitlines()), done.stderr
    assert _seen(out) == _seen(kept)
    assert os.stat(out / "holes").st_blocks < 1000


@contextlib.contextmanager
def _stopped_gofer(asyncrt: Asyncrt) -> Iterator[None]:
    """Whoever asks it for an export gets nothing for that long."""
    gofer = read_record(asyncrt.root, "box").gofer
    assert gofer is not None
    os.kill(gofer.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(gofer.pid, signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_export_that_is_interrupted_leaves_the_old_file_and_no_part(
    asyncrt: Asyncrt, kept: Path, tmp_path: Path, number: int
) -> None:
    target = tmp_path / "out" / "box.tar"
    target.parent.mkdir()
    target.write_text("old", encoding="ascii")
    with (
        _stopped_gofer(asyncrt),
        asyncrt.start("export", "-o", target, "box") as running,
    ):
        wait_until(lambda: len(os.listdir(target.parent)) == 2, "it is being written")
        running.signal(number)
        status, out, err = running.end()
    assert (status, out) == (128 + number, "")
    assert err.count("\n") <= 1
    assert os.listdir(target.parent) == ["box.tar"]
    assert target.read_text(encoding="ascii") == "old"
    (kept / "late").touch()
    asyncrt("export", "-o", target, "box")
    assert "late" in _names(target)


def test_on_a_terminal_an_export_that_takes_its_time_shows_how_far_it_is(
    asyncrt: Asyncrt, kept: Path, tmp_path: Path
) -> None:
    (kept / "late").touch()
    ours, theirs = pty.openpty()
    try:
        with contextlib.ExitStack() as undo:
            stopped = undo.enter_context(contextlib.ExitStack())
            stopped.enter_context(_stopped_gofer(asyncrt))
            target = tmp_path / "box.tar"
            running = undo.enter_context(
                asyncrt.start("export", "-o", target, "box", stderr=theirs, env={"TERM": "xterm"})
            )
            os.close(theirs)
            shown = b""
            while b"exporting box" not in shown:
                shown += os.read(ours, 65536)
            stopped.close()
            assert running.end()[:2] == (0, "")
        assert "late" in _names(target)
    finally:
        os.close(ours)


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
