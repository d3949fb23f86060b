"""gc as people and programs run it."""

from __future__ import annotations

import os
import pty
import signal
from pathlib import Path

from asyncrt import FileLock
from asyncrt.state import read_record
from tests.cli.command import TELLS, Asyncrt
from tests.helpers.processes import wait_gone
from tests.helpers.recovery import snapshot


def test_what_a_killed_run_left_is_told_and_removed(asyncrt: Asyncrt) -> None:
    assert asyncrt("gc") == "nothing to clear up\n"
    with asyncrt.start("run", "job", "--", "sh", "-c", TELLS) as running:
        assert running.line() == "ready"
        assert asyncrt("gc") == "nothing to clear up\n"
        supervisor = read_record(asyncrt.root, "job").supervisor
        assert supervisor is not None
        running.signal(signal.SIGKILL)
    # "stopped" can be read before the exit record stands, and that before the end is among the events.
    wait_gone(supervisor.pid)
    before = snapshot(asyncrt.root)
    header, line = asyncrt("gc", "--dry-run").splitlines()
    assert header.split() == ["FOUND", "WHERE", "OUTCOME", "WHAT"]
    assert line.startswith("owner gone  job    would mend  remove it")
    assert snapshot(asyncrt.root) == before
    (found,) = asyncrt.json("gc", "--format", "json")
    assert found.pop("action").startswith("remove it: ")
    assert found == {
        "kind": "owner gone",
        "outcome": "mended",
        "why": "",
        "id": "job",
        "path": None,
        "pid": None,
    }
    assert asyncrt.json("gc", "--format", "json") == []
    assert asyncrt.left() == []


def test_what_is_kept_on_purpose_stays(asyncrt: Asyncrt) -> None:
    asyncrt("run", "--keep", "kept", "--", "sh", "-c", "exit 3", status=3)
    asyncrt("run", "--detach", "ended", "--", "true")
    asyncrt("wait", "ended")
    asyncrt("gc")
    assert asyncrt("gc") == "nothing to clear up\n"
    assert set(asyncrt.views()) == {"kept", "ended"}
    asyncrt("delete", "kept", "ended")


def test_its_status_says_whether_all_could_be_mended(asyncrt: Asyncrt) -> None:
    root = Path(asyncrt.root)
    (root / "notes").touch()
    (root / "left.lock").touch()
    out, err = asyncrt.both("gc")
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["files", "foreign"]
    (root / "broken.state").write_text("{")
    (root / "broken.lock").touch()
    out, err = asyncrt.both("gc", status=1)
    assert err == ""
    assert "broken.state is broken: " in out
    assert "asyncrt delete --force" in out
    asyncrt("delete", "--force", "broken")
    (root / "dir.lock").mkdir()
    out, _ = asyncrt.both("gc", status=1)
    assert out.splitlines()[1].startswith("files without record  dir ")
    (root / "dir.lock").rmdir()
    (root / "notes").unlink()
    asyncrt("gc")
    assert asyncrt.left() == []


def test_locks_that_are_held_cost_a_bounded_time_and_progress_is_shown(asyncrt: Asyncrt) -> None:
    paths = [f"{asyncrt.root}/id{number}" for number in range(48)]
    locks = [FileLock(f"{path}.lock", gate=f"{path}.queue") for path in paths]
    assert all(lock.try_acquire() for lock in locks)
    ours, theirs = pty.openpty()
    try:
        with asyncrt.start("gc", stderr=theirs, env={"TERM": "xterm"}) as running:
            os.close(theirs)
            seen = b""
            while b"clearing up" not in seen:
                seen += os.read(ours, 65536)
            status, out, _ = running.end()
        assert status == 0
        assert out.count("busy") == len(locks)
        assert f"its lock is held by pid {os.getpid()}" in out
    finally:
        os.close(ours)
        for lock in locks:
            lock.close()
    assert asyncrt("gc").count("mended") == len(locks)
    assert asyncrt.left() == []
