from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from tests.helpers import leaks, reaping
from tests.helpers.leaks import LeakCheck
from tests.helpers.processes import Interpreter

_SLEEPER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]

# Starts a process in a session of its own, says its pid and ends: the process becomes an orphan. It
# ends at once, as an interpreter's ordinary end would reap a child that was the faster one.
_ORPHANING = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", sys.argv[1]], start_new_session=True)
print(child.pid, flush=True)
os._exit(0)
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "SETTLE_SECONDS", 0.2)


def _finish(check: LeakCheck, *may_leave: str, failed: bool = False) -> list[str]:
    return check.finish(failed=failed, may_leave=may_leave)


def test_a_clean_test_has_no_leak() -> None:
    assert _finish(LeakCheck()) == []


def test_a_living_child_is_reported_and_killed(impatient: None) -> None:
    check = LeakCheck()
    child = subprocess.Popen(_SLEEPER)
    [line] = _finish(check)
    assert f"pid {child.pid}, born here" in line
    assert child.pid not in reaping.children()
    child.wait()


def test_a_child_that_nobody_waited_for_is_reported_as_a_zombie(impatient: None) -> None:
    check = LeakCheck()
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    [line] = _finish(check)
    assert "state Z" in line
    child.wait()


def test_an_orphan_that_ends_by_itself_is_reaped_and_is_no_leak() -> None:
    check = LeakCheck()
    with Interpreter(_ORPHANING, "import time; time.sleep(0.1)") as helper:
        orphan = int(helper.line())
        helper.wait()
        assert orphan in reaping.children()
    assert _finish(check) == []
    assert not os.path.exists(f"/proc/{orphan}")


def test_an_orphan_with_the_pid_of_an_earlier_child_is_an_orphan() -> None:
    """Where pids go up to 32768, a run of all tests comes round more than once."""
    check = LeakCheck()
    with Interpreter(_ORPHANING, "pass") as helper:
        orphan = int(helper.line())
        helper.wait()
        reaping._born.add((orphan, 1))  # one that was started long ago
    assert orphan in reaping.orphans()
    assert _finish(check) == []
    assert orphan not in reaping.children()


def test_an_orphan_that_stays_is_reported_and_killed(impatient: None) -> None:
    check = LeakCheck()
    with Interpreter(_ORPHANING, "import time; time.sleep(60)") as helper:
        orphan = int(helper.line())
        helper.wait()
    [line] = _finish(check)
    assert f"pid {orphan}, orphan" in line
    assert not os.path.exists(f"/proc/{orphan}")


def test_an_open_descriptor_is_reported_with_what_it_is() -> None:
    check = LeakCheck()
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        assert _finish(check) == [f"descriptor left: {fd} -> /dev/null"]
    finally:
        os.close(fd)


def test_a_thread_that_ends_by_itself_is_no_leak() -> None:
    check = LeakCheck()
    threading.Thread(target=threading.Event().wait, args=(0.05,)).start()
    assert _finish(check) == []


def test_a_thread_that_stays_is_reported(impatient: None) -> None:
    check = LeakCheck()
    stay = threading.Event()
    stays = threading.Thread(target=stay.wait, name="stays")
    stays.start()
    try:
        assert _finish(check) == ["thread left: stays (daemon: False)"]
    finally:
        stay.set()
        stays.join()


def test_files_in_a_root_are_reported_unless_declared(root: str) -> None:
    for declared, expected in (((), ["file left in the root: x.lock"]), (("*.lock",), [])):
        check = LeakCheck()
        check.watch_root(root)
        os.makedirs(root, exist_ok=True)
        with open(os.path.join(root, "x.lock"), "wb"):
            pass
        assert _finish(check, *declared) == expected
        assert not os.path.exists(root)


def test_after_a_failed_test_all_is_removed_at_once_and_nothing_reported(root: str) -> None:
    check = LeakCheck()
    check.watch_root(root)
    child = subprocess.Popen(_SLEEPER)
    assert _finish(check, failed=True) == []
    assert child.pid not in reaping.children()
    assert not os.path.exists(root)
    child.wait()


@pytest.mark.leaves("kept")
def test_the_mark_declares_what_may_be_left(root: str) -> None:
    with open(os.path.join(root, "kept"), "wb"):
        pass


def test_a_task_that_its_runner_had_to_cancel_is_reported() -> None:
    check = LeakCheck()

    async def leave_one() -> asyncio.Task[bool]:
        task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
        await asyncio.sleep(0)
        return task

    assert asyncio.run(leave_one()).cancelled()
    (line,) = _finish(check)
    assert line.startswith("task left: ")
    assert "forgotten" in line
    assert _finish(LeakCheck()) == []
