"""A lock's threads and registry, also for network file systems, and who holds it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from typing import TYPE_CHECKING

import pytest

from asyncrt import _threads
from asyncrt.errors import LockTimeout
from asyncrt.locking import FileLock, _flock, _queues, holder_pid
from tests.helpers.lock_elsewhere import (
    Elsewhere,
    held_elsewhere,
    is_free,
    is_waited_for,
    lock_descriptors,
    lock_threads,
    settled,
)
from tests.helpers.lock_loops import LOOPS, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.lock"


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes every path remote; names the threads that made flock calls."""
    threads: list[str] = []
    real = _flock.Flock.try_lock

    def spy(self: _flock.Flock, fd: int, *, shared: bool) -> bool:
        threads.append(threading.current_thread().name)
        return real(self, fd, shared=shared)

    monkeypatch.setattr(_queues, "_is_remote", lambda _: True)
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


async def test_nothing_remains_of_many_paths(tmp_path: Path) -> None:
    gc.collect()
    before = len(_queues._queues), len(_queues._all)
    for number in range(3_000):
        lock = FileLock(tmp_path / f"{number % 100}-{number}", gate=tmp_path / "gate")
        assert lock.try_acquire()
        os.unlink(lock.path)
        lock.release()
        if number % 2:
            lock.close()
        del lock
    gc.collect()
    assert (len(_queues._queues), len(_queues._all)) == before
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
            await asyncio.sleep(0)  # all of them queue
            await settled(lambda: is_waited_for(path))
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


async def test_holder_pid_names_the_holder_and_not_a_waiter(path: Path) -> None:
    assert holder_pid(path) is None
    async with FileLock(path):
        assert holder_pid(path) == os.getpid()
    assert holder_pid(path) is None
