"""FileLock in one process."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import threading
from typing import TYPE_CHECKING

import pytest

from asyncrt.errors import LockTimeout
from asyncrt.locking import FileLock, _queue
from tests.helpers.lock_elsewhere import (
    held_elsewhere,
    is_free,
)
from tests.helpers.lock_loops import LOOPS, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
