"""FileLock in one process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import pickle
import resource
import threading
from typing import TYPE_CHECKING

import pytest

from asyncrt import _threads
from asyncrt.errors import LockTimeout
from asyncrt.locking import FileLock, _flock, _queue, holder_pid
from asyncrt.locking._idle import LIMIT
from tests.helpers.lock_elsewhere import (
    Elsewhere,
    held_elsewhere,
    is_free,
    is_waited_for,
    lock_descriptors,
    lock_threads,
)
from tests.helpers.lock_loops import LOOPS, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


async def settled(condition: Callable[[], bool]) -> None:
    """Wait for what a thread brings about."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.lock"


@pytest.mark.parametrize("factory", LOOPS)
def test_held_in_the_block_and_free_after_it(
    path: Path, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> None:
        lock = FileLock(path)
        async with lock:
            seen = [(lock.locked, is_free(path))]
        seen.append((lock.locked, is_free(path)))
        assert seen == [(True, False), (False, True)]

    run(main(), factory)


@pytest.mark.parametrize("factory", LOOPS)
def test_separate_objects_on_one_path_exclude_each_other_in_one_loop(
    path: Path, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    inside = 0

    async def work() -> None:
        nonlocal inside
        for _ in range(20):
            async with FileLock(path):
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(10)))

    run(main(), factory)


@pytest.mark.parametrize("factory", LOOPS)
def test_separate_objects_exclude_each_other_across_loops_and_threads(
    path: Path, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    inside: list[int] = []
    overlaps: list[int] = []

    async def work(number: int) -> None:
        for _ in range(15):
            async with FileLock(path):
                overlaps.extend(inside)
                inside.append(number)
                await asyncio.sleep(0)
                inside.remove(number)
            await asyncio.sleep(0)

    async def main(number: int) -> None:
        await asyncio.gather(*(work(number) for _ in range(4)))

    threads = [threading.Thread(target=lambda n=n: run(main(n), factory)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not overlaps


async def test_the_same_path_through_a_linked_directory_is_the_same_lock(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    first, second = FileLock(tmp_path / "real" / "x"), FileLock(tmp_path / "link" / "x")
    assert first.path == second.path
    await first.acquire()
    assert not second.try_acquire()
    first.release()


async def test_waiters_are_served_in_their_order(path: Path) -> None:
    order: list[int] = []

    async def work(number: int) -> None:
        async with FileLock(path):
            order.append(number)

    first = FileLock(path)
    await first.acquire()
    tasks = [asyncio.create_task(work(number)) for number in range(50)]
    await asyncio.sleep(0)
    first.release()
    await asyncio.gather(*tasks)
    assert order == list(range(50))


async def test_it_is_not_reentrant(path: Path) -> None:
    lock = FileLock(path)
    await lock.acquire()
    with pytest.raises(RuntimeError):
        await lock.acquire()
    with pytest.raises(RuntimeError):
        lock.try_acquire()
    assert lock.locked
    lock.release()
    with held_elsewhere(path):
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await lock.acquire()
    await waiting
    lock.release()


async def test_only_the_holder_releases(path: Path) -> None:
    lock, other = FileLock(path), FileLock(path)
    with pytest.raises(RuntimeError):
        lock.release()
    await lock.acquire()
    with pytest.raises(RuntimeError):
        other.release()
    assert lock.locked
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()


async def test_closing_a_held_lock_releases_it_and_a_free_one_is_left(path: Path) -> None:
    lock = FileLock(path)
    lock.close()
    await lock.acquire()
    lock.close()
    assert not lock.locked
    assert is_free(path)
    await lock.acquire()
    lock.release()


async def test_try_acquire_says_whether_it_could(path: Path) -> None:
    lock = FileLock(path)
    with held_elsewhere(path):
        assert not lock.try_acquire()
        assert not lock.locked
    assert lock.try_acquire()
    assert not FileLock(path).try_acquire()
    lock.release()


def test_try_acquire_works_outside_of_a_loop(path: Path) -> None:
    lock = FileLock(path)
    assert lock.try_acquire()
    assert not FileLock(path).try_acquire()
    assert not is_free(path)
    lock.release()
    assert is_free(path)


async def test_a_try_does_not_overtake_who_waits(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0)
    first.release()
    assert not FileLock(path).try_acquire()
    await waiting
    second.release()


# Timeouts


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_hazard_9_a_timeout_is_kept_and_names_the_holder(path: Path, where: str) -> None:
    here = FileLock(path)
    with held_elsewhere(path) as holder:
        if where == "here":
            holder.release()
            await here.acquire()
        began = asyncio.get_running_loop().time()
        lock = FileLock(path)
        with pytest.raises(LockTimeout) as caught:
            await lock.acquire(timeout=0.05)
        assert 0.04 < asyncio.get_running_loop().time() - began < 5
        assert caught.value.holder == os.getpid()
        assert caught.value.path == str(path)
        assert isinstance(caught.value, TimeoutError)
        assert pickle.loads(pickle.dumps(caught.value)).holder == os.getpid()
        assert not lock.locked
        here.close()


@pytest.mark.parametrize("timeout", [0, -1, 0.0])
async def test_a_timeout_of_nothing_tries_once(path: Path, timeout: float) -> None:
    lock = FileLock(path)
    await lock.acquire(timeout=timeout)
    with pytest.raises(LockTimeout):
        await FileLock(path).acquire(timeout=timeout)
    lock.release()


async def test_an_endless_timeout_is_none(path: Path) -> None:
    lock = FileLock(path)
    with held_elsewhere(path):
        waiting = asyncio.create_task(lock.acquire(timeout=math.inf))
        await asyncio.sleep(0)
    await waiting
    lock.release()


async def test_who_timed_out_leaves_the_queue_and_the_next_gets_the_lock(path: Path) -> None:
    late, patient = FileLock(path), FileLock(path)
    with held_elsewhere(path):
        first = asyncio.create_task(late.acquire(timeout=0.02))
        second = asyncio.create_task(patient.acquire())
        with pytest.raises(LockTimeout):
            await first
    await second
    assert patient.locked
    assert not late.locked
    patient.release()


# Shared


async def test_readers_share_and_a_writer_is_alone(path: Path) -> None:
    readers = [FileLock(path) for _ in range(3)]
    for reader in readers:
        await reader.acquire(shared=True)
    writer = FileLock(path)
    writing = asyncio.create_task(writer.acquire())
    await asyncio.sleep(0)
    assert not writing.done()
    for reader in readers:
        reader.release()
    await writing
    assert not FileLock(path).try_acquire(shared=True)
    writer.release()


async def test_hazard_8_readers_queue_behind_a_writer_of_their_loop(path: Path) -> None:
    reader, writer, late = FileLock(path), FileLock(path), FileLock(path)
    await reader.acquire(shared=True)
    writing = asyncio.create_task(writer.acquire())
    await asyncio.sleep(0)
    reading = asyncio.create_task(late.acquire(shared=True))
    await asyncio.sleep(0)
    assert not reading.done()
    reader.release()
    await writing
    assert not late.locked
    writer.release()
    await reading
    late.release()


async def test_hazard_8_readers_join_no_more_when_a_writer_elsewhere_is_at_the_gate(
    path: Path,
) -> None:
    reader, late = FileLock(path), FileLock(path)
    await reader.acquire(shared=True)
    assert late.try_acquire(shared=True)
    late.release()
    with held_elsewhere(f"{path}.queue"):
        assert not late.try_acquire(shared=True)
    assert late.try_acquire(shared=True)
    late.release()
    reader.release()


async def test_hazard_8_a_reader_never_passes_by_a_held_gate(path: Path) -> None:
    with held_elsewhere(f"{path}.queue"):
        assert not FileLock(path).try_acquire(shared=True)


async def test_hazard_8_a_writer_passes_by_a_held_gate_a_bounded_number_of_times(
    path: Path,
) -> None:
    got = []
    with held_elsewhere(f"{path}.queue"):
        for _ in range(2 * _queue.SKIPS):
            lock = FileLock(path)  # a new object each time: the count is the process's
            got.append(lock.try_acquire())
            lock.close()
    assert sum(got) <= _queue.SKIPS
    assert not any(got[_queue.SKIPS :])


async def test_readers_come_in_when_the_writer_before_them_gives_up(path: Path) -> None:
    reader, writer, late = FileLock(path), FileLock(path), FileLock(path)
    await reader.acquire(shared=True)
    writing = asyncio.create_task(writer.acquire(timeout=0.02))
    await asyncio.sleep(0)
    reading = asyncio.create_task(late.acquire(shared=True))
    with pytest.raises(LockTimeout):
        await writing
    await asyncio.wait_for(reading, 5)  # while the first one still reads
    late.release()
    reader.release()


# The file


async def test_hazard_5_a_waiter_on_an_unlinked_file_starts_over_on_the_new_one(
    path: Path,
) -> None:
    lock = FileLock(path)
    holder = Elsewhere(path)
    waiting = asyncio.create_task(lock.acquire())
    await settled(lambda: len(lock_threads()) > 0 and len(lock_descriptors(path.parent)) >= 3)
    path.unlink()
    newcomer = Elsewhere(path)
    holder.release()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.1)
    newcomer.release()
    await waiting
    assert not is_free(path)
    lock.release()


async def test_hazard_5_a_hand_over_never_gives_a_dead_file(path: Path) -> None:
    holder, waiter = FileLock(path), FileLock(path)
    await holder.acquire()
    waiting = asyncio.create_task(waiter.acquire())
    await asyncio.sleep(0)
    path.unlink()
    holder.release()
    await waiting
    assert path.exists()
    assert not is_free(path)
    waiter.release()


async def test_hazard_5_a_reader_does_not_join_on_a_dead_file(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)
    await first.acquire(shared=True)
    path.unlink()
    assert not second.try_acquire(shared=True)
    first.release()
    assert second.try_acquire(shared=True)
    second.release()


async def test_hazard_44_a_reused_inode_number_is_told_apart_by_the_open_descriptor(
    path: Path,
) -> None:
    # While a descriptor is open its inode number can't be given to another file.
    lock = FileLock(path)
    await lock.acquire()
    inode = path.stat().st_ino
    path.unlink()
    path.touch()
    assert path.stat().st_ino != inode
    assert lock_descriptors(path.parent) != []
    lock.release()


async def test_without_create_a_missing_file_is_an_error_and_nothing_is_made(
    path: Path,
) -> None:
    with pytest.raises(FileNotFoundError):
        await FileLock(path, create=False).acquire()
    with pytest.raises(FileNotFoundError):
        FileLock(path, create=False).try_acquire()
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_without_create_a_file_that_vanishes_while_waiting_is_an_error(
    path: Path, where: str
) -> None:
    here = FileLock(path)
    await here.acquire()  # makes file and gate
    holder: Elsewhere | FileLock = here
    if where == "elsewhere":
        here.release()
        holder = Elsewhere(path)
    lock = FileLock(path, create=False)
    waiting = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0.05 if where == "elsewhere" else 0)
    os.unlink(f"{path}.queue")
    path.unlink()
    holder.release()
    with pytest.raises(FileNotFoundError):
        await waiting
    assert os.listdir(path.parent) == []


async def test_one_waiter_may_create_while_another_may_not(path: Path) -> None:
    here = FileLock(path)
    await here.acquire()
    picky, easy = FileLock(path, create=False), FileLock(path)
    picking = asyncio.create_task(picky.acquire())
    await asyncio.sleep(0)
    taking = asyncio.create_task(easy.acquire())
    await asyncio.sleep(0)
    path.unlink()
    here.release()
    with pytest.raises(FileNotFoundError):
        await picking
    await taking
    easy.release()


async def test_hazard_44_a_planted_link_is_refused(path: Path) -> None:
    target = path.parent / "precious"
    target.write_text("x")
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        await FileLock(path).acquire()
    path.unlink()
    (path.parent / "a.lock.queue").unlink(missing_ok=True)
    (path.parent / "a.lock.queue").symlink_to(path.parent / "made-through-the-link")
    with pytest.raises(OSError, match="symbolic link"):
        await FileLock(path).acquire(shared=True)
    assert not (path.parent / "made-through-the-link").exists()
    assert lock_descriptors(path.parent) == []


async def test_hazard_9_a_failed_acquire_leaks_no_descriptor(path: Path) -> None:
    with held_elsewhere(path):
        before = len(lock_descriptors(path.parent))
        for _ in range(20):
            assert not FileLock(path).try_acquire()
            assert not FileLock(path).try_acquire(shared=True)
        assert len(lock_descriptors(path.parent)) == before
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        await FileLock(path).acquire()
    assert lock_descriptors(path.parent) == []


# What stays open


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
    monkeypatch.setattr(_queue, "_is_remote", lambda _: in_thread)
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
        await asyncio.sleep(0.01)
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


# Network file systems


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes every path remote; names the threads that made flock calls."""
    threads: list[str] = []
    real = _flock.Flock.try_lock

    def spy(self: _flock.Flock, fd: int, *, shared: bool) -> bool:
        threads.append(threading.current_thread().name)
        return real(self, fd, shared=shared)

    monkeypatch.setattr(_queue, "_is_remote", lambda _: True)
    monkeypatch.setattr(_flock.Flock, "try_lock", spy)
    return threads


async def test_on_a_network_file_system_nothing_is_tried_on_the_loop(
    path: Path, remote: list[str]
) -> None:
    locks = [FileLock(path) for _ in range(5)]

    async def work(lock: FileLock, shared: bool) -> None:
        await lock.acquire(shared=shared)
        await asyncio.sleep(0)
        lock.release()

    await asyncio.gather(*(work(lock, shared) for lock in locks for shared in (False,)))
    await asyncio.gather(*(work(lock, shared) for lock in locks for shared in (True,)))
    assert threading.current_thread().name not in remote
    await locks[0].acquire(timeout=0)
    with pytest.raises(LockTimeout):
        await locks[1].acquire(timeout=0)
    locks[0].release()
    with held_elsewhere(path), pytest.raises(LockTimeout):
        await locks[1].acquire(timeout=0)
    assert threading.current_thread().name not in remote
    assert lock_descriptors(path.parent) == []


# Registry, threads, ends


async def test_nothing_remains_of_many_paths(tmp_path: Path) -> None:
    gc.collect()
    before = len(_queue._queues), len(_queue._all)
    for number in range(3_000):
        lock = FileLock(tmp_path / f"{number % 100}-{number}", gate=tmp_path / "gate")
        assert lock.try_acquire()
        os.unlink(lock.path)
        lock.release()
        if number % 2:
            lock.close()
        del lock
    gc.collect()
    assert (len(_queue._queues), len(_queue._all)) == before
    assert lock_descriptors(tmp_path) == []


async def test_a_lock_lost_while_held_warns_and_is_released(path: Path) -> None:
    lock = FileLock(path)
    await lock.acquire()
    with pytest.warns(ResourceWarning, match="lost while held"):
        del lock
    await asyncio.sleep(0)
    assert is_free(path)


async def test_hazard_1_a_hundred_waiters_leave_threads_for_the_holders(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(60)]
    holders = [Elsewhere(path) for path in paths]
    locks = [FileLock(path) for path in paths for _ in range(3)]
    waiting = [asyncio.create_task(lock.acquire()) for lock in locks]
    await settled(lambda: len(lock_threads()) >= 60)
    assert len(lock_threads()) == 60  # one for each contended path
    assert await asyncio.wait_for(_threads.run_blocking(len, "abc"), 5) == 3
    assert await asyncio.get_running_loop().run_in_executor(None, len, "abc") == 3
    for holder in holders:
        holder.release()
    for task, lock in zip(waiting, locks, strict=True):
        await task
        lock.release()


async def test_hazard_2_two_hundred_cancelled_waits_leave_one_thread_and_no_lock(
    path: Path,
) -> None:
    await settled(lambda: len(lock_threads()) == 0)
    with held_elsewhere(path):
        for _ in range(4):
            tasks = [asyncio.create_task(FileLock(path).acquire()) for _ in range(50)]
            await asyncio.sleep(0.001)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            del task, tasks, results
        assert len(lock_threads()) == 1
    gc.collect()
    await settled(lambda: is_free(path) and lock_descriptors(path.parent) == [])


@pytest.mark.parametrize("factory", LOOPS)
def test_hazard_2_a_grant_that_finds_its_loop_closed_is_released(
    path: Path, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    lock = FileLock(path)

    async def main() -> None:
        with pytest.raises(LockTimeout):
            await lock.acquire(timeout=0.02)

    with held_elsewhere(path):
        run(main(), factory)
    run(settled(lambda: is_free(path) and lock_descriptors(path.parent) == []), factory)


@pytest.mark.parametrize("factory", LOOPS)
def test_a_grant_on_its_way_to_a_loop_that_is_closed_then_is_released(
    path: Path, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    loop = factory()
    holder = Elsewhere(path)

    async def wait_a_little() -> None:
        waiting = asyncio.create_task(FileLock(path).acquire())
        await settled(lambda: is_waited_for(path))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    loop.run_until_complete(wait_a_little())
    holder.release()
    run(settled(lambda: not is_free(path)))  # the thread has it, the loop stands still
    loop.close()
    gc.collect()
    run(settled(lambda: is_free(path)))  # the thread may be about to hear that the loop is closed


def test_a_lock_may_be_used_in_one_loop_after_the_other(path: Path) -> None:
    lock = FileLock(path)

    async def main() -> None:
        async with lock:
            assert not is_free(path)

    run(main())
    run(main())


def test_a_lock_still_held_when_its_loop_was_closed_can_be_released(path: Path) -> None:
    lock = FileLock(path)
    run(lock.acquire())
    assert not is_free(path)
    lock.release()
    assert is_free(path)


# holder_pid


async def test_holder_pid_names_the_holder_and_not_a_waiter(path: Path) -> None:
    assert holder_pid(path) is None
    async with FileLock(path):
        assert holder_pid(path) == os.getpid()
    assert holder_pid(path) is None
