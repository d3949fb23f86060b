"""FileLock between processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from asyncrt.locking import FileLock, holder_pid
from tests.helpers.lock_elsewhere import held_elsewhere, is_free, is_waited_for, settled
from tests.helpers.lock_loops import LOOPS

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def python(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *args],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def compete(path: Path, people: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let processes loose on the lock at the same moment; what each counted."""
    (path.parent / f"{path.name}.counter").write_bytes(bytes(8))
    (path.parent / f"{path.name}.entries").write_bytes(bytes(8 * len(people)))
    default = {
        "path": str(path),
        "tasks": 1,
        "shared": False,
        "hold": None,
        "pause": 0,
        "rounds": 10**9,
        "seconds": 30,
        "loop": 0,
    }
    workers = [
        python("-m", "tests.helpers.lock_worker", json.dumps(default | asked | {"slot": slot}))
        for slot, asked in enumerate(people)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        results = []
        for worker in workers:
            out, err = worker.communicate(timeout=40)
            assert worker.returncode == 0, err
            assert err == ""
            results.append(json.loads(out))
        return results
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def jain(counts: list[int]) -> float:
    """Jain's index: 1 when all got the same, 1/n when one got all."""
    return float(sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts)))


def entered(path: Path) -> int:
    return int.from_bytes((path.parent / f"{path.name}.counter").read_bytes(), "little")


@pytest.mark.parametrize("loop", range(len(LOOPS)), ids=["asyncio", "uvloop"])
def test_four_processes_of_sixteen_tasks_never_overlap(tmp_path: Path, loop: int) -> None:
    if any(mark.name == "skipif" and mark.args[0] for mark in LOOPS[loop].marks):
        pytest.skip("uvloop is not installed")
    path = tmp_path / "lock"
    results = compete(path, [{"tasks": 16, "rounds": 25, "hold": 0, "loop": loop}] * 4)
    assert sum(result["overlaps"] for result in results) == 0
    assert sum(sum(result["counts"]) for result in results) == 4 * 16 * 25
    assert entered(path) == 4 * 16 * 25


def test_hazard_8_processes_and_tasks_get_even_shares(tmp_path: Path) -> None:
    results = compete(tmp_path / "lock", [{"tasks": 4, "seconds": 1.2}] * 3)
    assert jain([sum(result["counts"]) for result in results]) > 0.9
    assert jain([count for result in results for count in result["counts"]]) > 0.85
    assert max(result["longest unfair"] for result in results) < 0.6


def test_hazard_8_a_writer_is_not_starved_by_readers(tmp_path: Path) -> None:
    readers = {"shared": True, "tasks": 4, "hold": 0.002, "seconds": 1.2}
    writer = {"pause": 0.001, "seconds": 1}
    results = compete(tmp_path / "lock", [readers, readers, writer])
    assert results[2]["counts"][0] > 60
    assert results[2]["longest unfair"] < 0.3
    assert all(count > 20 for result in results[:2] for count in result["counts"])


def test_hazard_5_holders_that_unlink_the_file_never_overlap(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    (tmp_path / "lock.counter").write_bytes(bytes(8))
    code = f"""
import asyncio, contextlib, os, sys
from asyncrt.locking import FileLock
from tests.helpers.lock_worker import Section
async def work():
    for number in range(40):
        lock = FileLock({str(path)!r})
        await lock.acquire()
        await section.enter(pause=0)
        if number % 2:
            with contextlib.suppress(FileNotFoundError):  # its maker hasn't come to it yet
                os.unlink({str(path) + ".queue"!r})
            os.unlink({str(path)!r})
        lock.release()
async def main():
    await asyncio.gather(*(work() for _ in range(3)))
section = Section({str(path)!r})
asyncio.run(main())
print(section.overlaps)
"""
    workers = [python("-c", code) for _ in range(3)]
    outs = [worker.communicate(timeout=40) for worker in workers]
    assert [(out.strip(), err) for out, err in outs] == [("0", "")] * 3
    assert entered(path) == 3 * 3 * 40


@pytest.mark.parametrize("after", ["in the loop's end", "after the loop's end"])
def test_hazard_4_the_interpreter_exits_while_a_thread_waits_in_flock(
    tmp_path: Path, after: str
) -> None:
    path = tmp_path / "lock"
    code = f"""
import asyncio
from asyncrt.errors import LockTimeout
from asyncrt.locking import FileLock
async def main():
    task = asyncio.create_task(FileLock({str(path)!r}).acquire())
    try:
        await FileLock({str(path)!r}).acquire(timeout=0.05)
    except LockTimeout:
        print("timed out")
    if {after!r} == "after the loop's end":
        task.cancel()
asyncio.run(main())
"""
    with held_elsewhere(path):
        worker = python("-c", code)
        out, err = worker.communicate(timeout=15)
    assert (out, err, worker.returncode) == ("timed out\n", "", 0)


def test_a_late_grant_after_all_loops_are_closed_is_released_and_silent(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = f"""
import asyncio, sys, threading
from asyncrt.errors import LockTimeout
from asyncrt.locking import FileLock
async def main():
    try:
        await FileLock({str(path)!r}).acquire(timeout=0.05)
    except LockTimeout:
        pass
asyncio.run(main())
print("closed", flush=True)
sys.stdin.readline()
"""
    with held_elsewhere(path):
        worker = python("-c", code)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "closed\n"
    lock = FileLock(path)

    async def take() -> None:
        await lock.acquire(timeout=10)
        lock.release()

    asyncio.run(take())
    _, err = worker.communicate("\n", timeout=15)
    assert (err, worker.returncode) == ("", 0)


def test_a_killed_holder_frees_the_lock_and_the_waiter_names_it_until_then(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = f"""
import sys
from asyncrt.locking import FileLock
lock = FileLock({str(path)!r})
assert lock.try_acquire()
print("held", flush=True)
sys.stdin.readline()
"""
    worker = python("-c", code)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "held\n"
    assert holder_pid(path) == worker.pid

    async def main() -> None:
        lock = FileLock(path)
        waiting = asyncio.create_task(lock.acquire(timeout=20))
        await settled(lambda: is_waited_for(path))
        assert holder_pid(path) == worker.pid
        worker.send_signal(signal.SIGKILL)
        await waiting
        lock.release()

    asyncio.run(main())
    worker.communicate()


FORK = """
import asyncio, gc, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads
from asyncrt.locking import FileLock
from tests.helpers.lock_elsewhere import (
    held_elsewhere, is_free, is_waited_for, lock_descriptors, settled,
)
path = sys.argv[1]

def forked(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid

def open_here():
    return [entry.split()[1] for entry in lock_descriptors(path)]

def ended(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def run_forking(path: Path, code: str) -> None:
    worker = python("-c", FORK + code, str(path))
    out, err = worker.communicate(timeout=30)
    assert (out, err, worker.returncode) == ("done\n", "", 0)


@pytest.mark.parametrize("how", ["release", "close", "del"])
def test_hazard_7_a_forked_child_holds_nothing_and_cannot_free_the_parents_lock(
    tmp_path: Path, how: str
) -> None:
    run_forking(
        tmp_path / "lock",
        f"""
async def main():
    global lock
    lock = FileLock(path)
    await lock.acquire()
    def child():
        global lock
        assert not lock.locked
        assert not open_here()  # closed by the fork, before anybody asks for it
        if {how!r} == "release":
            lock.release()
            try:
                lock.release()
            except RuntimeError:
                pass
            else:
                raise AssertionError
        elif {how!r} == "close":
            lock.close()
        else:
            del lock
            gc.collect()
        assert not is_free(path)
        assert not FileLock(path).try_acquire()
        assert not open_here()
    ended(forked(child))
    assert lock.locked
    assert not is_free(path)
    lock.release()
    assert is_free(path)
asyncio.run(main())
print("done")
""",
    )


def test_hazard_7_a_child_that_lives_on_does_not_keep_a_released_lock(tmp_path: Path) -> None:
    run_forking(
        tmp_path / "lock",
        """
read, write = os.pipe()
async def main():
    lock = FileLock(path)
    await lock.acquire()
    pid = forked(lambda: (os.close(write), os.read(read, 1)))
    lock.release()
    assert is_free(path)
    os.close(write)
    ended(pid)
asyncio.run(main())
print("done")
""",
    )


def test_hazard_7_a_child_forked_while_a_thread_waits_does_not_keep_what_it_gets(
    tmp_path: Path,
) -> None:
    run_forking(
        tmp_path / "lock",
        """
read, write = os.pipe()
async def main():
    lock = FileLock(path)
    with held_elsewhere(path):
        task = asyncio.create_task(lock.acquire())
        await settled(lambda: is_waited_for(path))
        def child():
            os.close(write)
            assert open_here() == [path]  # held_elsewhere's own
            os.read(read, 1)
        pid = forked(child)
    os.close(write)
    ended(pid)
    await task
    lock.release()
    assert is_free(path)
asyncio.run(main())
print("done")
""",
    )


def test_hazard_7_a_child_forked_while_the_lock_is_free_keeps_no_copy_of_its_open_file(
    tmp_path: Path,
) -> None:
    # With a copy it would keep what the parent locks later, and is killed with.
    run_forking(
        tmp_path / "lock",
        """
async def main():
    lock = FileLock(path)
    async with lock:
        pass
    assert open_here() == [path]
    def child():
        assert open_here() == []
        assert lock.try_acquire()
        lock.release()
        assert open_here() == [path]
    ended(forked(child))
    async with lock:
        assert not is_free(path)
asyncio.run(main())
print("done")
""",
    )


def test_hazard_7_a_forked_child_can_use_the_lock_afresh(tmp_path: Path) -> None:
    run_forking(
        tmp_path / "lock",
        """
lock = FileLock(path)
def child():
    async def main():
        await lock.acquire(timeout=10)
        assert not is_free(path)
        lock.release()
    asyncio.run(main())
assert lock.try_acquire()
pid = forked(child)
lock.release()
ended(pid)
print("done")
""",
    )


def test_a_program_started_while_the_lock_is_held_does_not_inherit_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FileLock(path)
    assert lock.try_acquire()
    program = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        lock.release()
        assert is_free(path)
    finally:
        program.kill()
        program.wait()
