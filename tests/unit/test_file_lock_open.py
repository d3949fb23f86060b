"""A lock's open files: what stays open, for how long, and what happens when descriptors run out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import threading
from typing import TYPE_CHECKING

import pytest

from asyncrt.locking import FileLock, _flock, _queue, _queues
from asyncrt.locking._idle import LIMIT
from tests.helpers.lock_elsewhere import (
    held_elsewhere,
    is_free,
    is_waited_for,
    lock_descriptors,
    settled,
)
from tests.helpers.lock_loops import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.lock"


async def test_a_free_lock_keeps_its_file_open_and_unlocked_until_it_is_closed(path: Path) -> None:
    lock = FileLock(path)
    for shared in (False, True):
        await lock.acquire(shared=shared)
        assert len(lock_descriptors(path.parent)) == 1
        kept = lock_descriptors(path.parent)
        lock.release()
        assert lock_descriptors(path.parent) == kept
        assert is_free(path)
    lock.close()
    assert lock_descriptors(path.parent) == []
    await lock.acquire()
    lock.close()
    assert lock_descriptors(path.parent) == []
    assert lock.try_acquire()
    lock.release()
    del lock
    assert lock_descriptors(path.parent) == []


async def test_objects_on_one_path_in_one_loop_keep_one_descriptor(path: Path) -> None:
    locks = [FileLock(path) for _ in range(5)]
    for lock in locks:
        async with lock:
            pass
    assert len(lock_descriptors(path.parent)) == 1
    for lock in locks[1:]:
        lock.close()
    assert len(lock_descriptors(path.parent)) == 1
    locks[0].close()
    assert lock_descriptors(path.parent) == []


async def test_free_locks_keep_few_descriptors_and_the_one_used_longest_ago_goes(
    tmp_path: Path,
) -> None:
    locks = [FileLock(tmp_path / str(number)) for number in range(3 * LIMIT)]
    for lock in locks:
        await lock.acquire()
    for lock in locks:
        lock.release()
    assert len(lock_descriptors(tmp_path)) == LIMIT
    assert lock_descriptors(locks[0].path) == []
    assert lock_descriptors(locks[-1].path) != []
    for lock in locks:  # those that were given up are opened again
        async with lock:
            assert not is_free(lock.path)
    assert len(lock_descriptors(tmp_path)) == LIMIT


async def test_free_locks_of_many_threads_and_loops_give_their_descriptors_up_to_each_other(
    tmp_path: Path,
) -> None:
    overlaps: list[str] = []
    inside: set[str] = set()

    async def main(number: int) -> None:
        locks = [FileLock(tmp_path / f"{each}") for each in range(LIMIT)]
        own = [FileLock(tmp_path / f"{number}-{each}") for each in range(LIMIT)]
        for turn in range(300):
            for lock in (locks[turn % LIMIT], own[(turn * 7) % LIMIT]):
                async with lock:
                    overlaps.extend({lock.path} & inside)
                    inside.add(lock.path)
                    await asyncio.sleep(0)
                    inside.remove(lock.path)

    threads = [threading.Thread(target=lambda n=n: run(main(n))) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not overlaps
    gc.collect()
    assert lock_descriptors(tmp_path) == []


async def test_hazard_5_a_file_kept_open_is_given_up_when_the_path_names_another(
    path: Path,
) -> None:
    lock = FileLock(path)
    for another in (True, False):
        async with lock:
            pass
        kept = path.stat().st_ino
        path.rename(path.parent / "away")
        if another:
            path.touch()
        async with lock:
            assert path.stat().st_ino != kept
            assert not is_free(path)
            assert is_free(path.parent / "away")
            assert len(lock_descriptors(path.parent)) == 1


async def test_hazard_44_a_link_planted_beside_a_file_kept_open_is_refused(path: Path) -> None:
    lock = FileLock(path)
    async with lock:
        pass
    path.rename(path.parent / "away")
    path.symlink_to("away")
    with pytest.raises(OSError, match="symbolic link"):
        await lock.acquire()
    assert lock_descriptors(path.parent) == []


async def test_a_lock_whose_directory_went_says_so_and_keeps_nothing(path: Path) -> None:
    directory = path.parent / "directory"
    directory.mkdir()
    lock = FileLock(directory / "x")
    async with lock:
        pass
    for entry in directory.iterdir():
        entry.unlink()
    directory.rmdir()
    with pytest.raises(FileNotFoundError):
        await lock.acquire()
    assert lock_descriptors(path.parent) == []


@contextlib.contextmanager
def descriptors_exhausted(*, leaving: int = 0) -> Iterator[None]:
    """Every descriptor that this process may have is in use, but for so many."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, before[1])
    )
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(leaving):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_when_descriptors_run_out_those_of_free_locks_are_given_up(tmp_path: Path) -> None:
    free = [FileLock(tmp_path / str(number)) for number in range(5)]
    for lock in free:
        async with lock:
            pass
    with descriptors_exhausted():
        other = FileLock(tmp_path / "other")
        await other.acquire()
        other.release()
        async with free[0]:
            pass


@pytest.mark.parametrize("shared", [False, True], ids=["writer", "reader"])
async def test_hazard_9_an_acquire_without_descriptors_leaves_no_file(
    path: Path, shared: bool
) -> None:
    lock = FileLock(path)
    with descriptors_exhausted(), pytest.raises(OSError, match="open files"):
        await lock.acquire(shared=shared)
    assert os.listdir(path.parent) == []
    # One for the lock file, and none for its gate.
    with descriptors_exhausted(leaving=1), pytest.raises(OSError, match="open files"):
        await lock.acquire(shared=shared)
    assert os.listdir(path.parent) == []
    with descriptors_exhausted(leaving=2):
        await lock.acquire(shared=shared)
    lock.release()
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.queue"]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_hazard_9_a_gate_that_cannot_be_made_leaves_no_lock_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, in_thread: bool
) -> None:
    real = _flock.Flock.create

    def full(self: _flock.Flock, name: str, mode: int) -> int:
        if name != str(path):
            raise OSError(28, "no space left")
        return real(self, name, mode)

    monkeypatch.setattr(_flock.Flock, "create", full)
    monkeypatch.setattr(_queues, "_is_remote", lambda _: in_thread)
    with pytest.raises(OSError, match="no space left"):
        await FileLock(path).acquire()
    assert os.listdir(path.parent) == []


async def test_without_descriptors_a_release_still_serves_the_next(path: Path) -> None:
    lock, waiter = FileLock(path), FileLock(path)
    await lock.acquire()
    waiting = asyncio.create_task(waiter.acquire())
    await asyncio.sleep(0)
    path.unlink()  # so that the waiter has to open another file
    with descriptors_exhausted(leaving=1):
        lock.release()
        await asyncio.wait_for(waiting, 5)
    waiter.release()


async def test_a_try_makes_no_gate_for_a_lock_file_that_is_there(path: Path) -> None:
    path.touch()
    lock = FileLock(path)
    await lock.acquire(shared=True)
    lock.release()
    assert os.listdir(path.parent) == [path.name]
    with held_elsewhere(path):
        assert not lock.try_acquire(shared=True)
    assert os.listdir(path.parent) == [path.name]


async def test_who_asks_at_the_gate_is_no_waiter_there(path: Path) -> None:
    with held_elsewhere(path):
        pass
    with held_elsewhere(f"{path}.queue", shared=True):
        lock = FileLock(path)
        assert lock.try_acquire(shared=True)
        lock.release()


async def test_descriptors_are_closed_by_an_exec(path: Path) -> None:
    async with FileLock(path):
        for entry in lock_descriptors(path.parent):
            assert not os.get_inheritable(int(entry.split()[0]))


async def test_the_gate_can_be_named(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "web.lock", gate=tmp_path / "web.queue")
    await lock.acquire()
    lock.release()
    assert sorted(os.listdir(tmp_path)) == ["web.lock", "web.queue"]


async def test_the_mode_is_that_of_the_new_files(path: Path) -> None:
    async with FileLock(path, mode=0o640):
        assert path.stat().st_mode & 0o777 == 0o640


async def test_a_directory_that_may_not_be_written_still_has_its_locks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.touch()
    real = _flock.Flock.open

    def no_gate(self: _flock.Flock, name: str) -> int:
        if name.endswith(".queue"):
            raise PermissionError(13, "denied", name)
        return real(self, name)

    monkeypatch.setattr(_flock.Flock, "open", no_gate)
    lock = FileLock(path)
    with held_elsewhere(path):
        waiting = asyncio.create_task(lock.acquire(shared=True))
        await settled(lambda: is_waited_for(path))
        assert not waiting.done()
    await waiting
    lock.release()


async def test_an_unlink_between_open_and_lock_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _flock.Flock.try_lock
    unlinks = 3

    def unlink_first(self: _flock.Flock, fd: int, *, shared: bool) -> bool:
        nonlocal unlinks
        if unlinks:
            unlinks -= 1
            path.unlink()
        return real(self, fd, shared=shared)

    monkeypatch.setattr(_flock.Flock, "try_lock", unlink_first)
    lock = FileLock(path)
    assert lock.try_acquire()
    assert unlinks == 0
    assert not is_free(path)
    lock.release()


async def test_a_release_that_cannot_ask_at_the_gate_still_serves_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, waiter = FileLock(path), FileLock(path)
    await holder.acquire()
    waiting = asyncio.create_task(waiter.acquire())
    await asyncio.sleep(0)

    def fail(*_: object) -> bool:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(_queue, "someone_waits", fail)
    monkeypatch.setattr(_queue, "BATCH", 0)
    holder.release()
    await asyncio.wait_for(waiting, 5)
    waiter.release()
