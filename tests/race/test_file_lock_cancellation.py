"""A waiter cancelled, or timed out, at every tick around its grant: nothing is lost."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import anyio
import pytest

from asyncrt.errors import LockTimeout
from asyncrt.locking import FileLock
from asyncrt.locking._queues import queue_for
from asyncrt.locking._take import Wish
from tests.helpers.lock_elsewhere import (
    Elsewhere,
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

EXCLUSIVE, SHARED = Wish(False, 0o600), Wish(True, 0o600)


async def ticks(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


class Waiter:
    """A task that wants the lock, holds it until told to go on, and can be cancelled two ways."""

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.lock = FileLock(path)
        self.held = asyncio.Event()
        self.scope = anyio.CancelScope()
        self.task = asyncio.create_task(self._run(shared))

    async def _run(self, shared: bool) -> None:
        with self.scope:
            await self.lock.acquire(shared=shared)
            try:
                self.held.set()
                await asyncio.sleep(0)
            finally:
                self.lock.release()

    def cancel(self, native: bool) -> None:
        if native:
            self.task.cancel()
        else:
            self.scope.cancel()


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("native", [True, False], ids=["native", "scope"])
@pytest.mark.parametrize("shared", [False, True], ids=["writer", "reader"])
def test_hazard_2_cancelled_at_any_tick_around_a_hand_over_the_next_one_gets_the_lock(
    tmp_path: Path,
    factory: Callable[[], asyncio.AbstractEventLoop],
    native: bool,
    shared: bool,
) -> None:
    async def play(path: Path, release_at: int, cancel_at: int, *, release_first: bool) -> None:
        holder = FileLock(path)
        await holder.acquire()
        victim, next_one = Waiter(path, shared=shared), Waiter(path)
        for tick in range(max(release_at, cancel_at) + 1):
            if tick == release_at and release_first:
                holder.release()
            if tick == cancel_at:
                victim.cancel(native)
            if tick == release_at and not release_first:
                holder.release()
            await asyncio.sleep(0)
        await asyncio.wait_for(next_one.task, 5)
        await asyncio.wait([victim.task])
        assert next_one.held.is_set()
        assert not victim.lock.locked
        assert is_free(path)

    async def main() -> None:
        for release_at in range(4):
            for cancel_at in range(8):
                for first in (True, False):
                    await play(tmp_path / "lock", release_at, cancel_at, release_first=first)
        gc.collect()  # a cancelled task's error and its frames, with the lock in them, are a cycle
        assert lock_descriptors(tmp_path) == []

    run(main(), factory)


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("native", [True, False], ids=["native", "scope"])
@pytest.mark.parametrize("alone", [False, True], ids=["with a next one", "alone"])
def test_hazard_2_cancelled_at_any_tick_around_a_grant_from_the_kernel_it_is_passed_on(
    tmp_path: Path,
    factory: Callable[[], asyncio.AbstractEventLoop],
    native: bool,
    alone: bool,
) -> None:
    async def play(cancel_at: int) -> None:
        # The thread of one may still be about to get its lock when the next begins.
        path = tmp_path / f"lock {cancel_at}"
        elsewhere = Elsewhere(path)
        victim = Waiter(path)
        next_one = None if alone else Waiter(path)
        await settled(lambda: is_waited_for(path))
        elsewhere.release()
        await ticks(cancel_at)
        victim.cancel(native)
        if next_one is not None:
            await asyncio.wait_for(next_one.task, 5)
        await asyncio.wait([victim.task])
        async with asyncio.timeout(5):  # a late grant to nobody is released
            while not is_free(path):
                await asyncio.sleep(0)

    async def main() -> None:
        for cancel_at in range(0, 60, 2):
            await play(cancel_at)

    run(main(), factory)
    for thread in lock_threads():
        thread.join(5)
    gc.collect()
    assert lock_descriptors(tmp_path) == []


async def test_hazard_9_a_grant_and_a_timeout_in_one_tick_are_one_grant(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    queue = queue_for(path, f"{path}.queue", asyncio.get_running_loop())
    assert queue.try_take(EXCLUSIVE)
    first, second = queue.enqueue(EXCLUSIVE), queue.enqueue(EXCLUSIVE)
    queue.release()
    queue.expire(first)  # too late
    assert await first.future
    queue.release()
    assert await second.future
    queue.release()
    assert is_free(path)


async def test_hazard_9_a_timeout_before_the_grant_in_one_tick_gives_it_to_the_next(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "lock")
    queue = queue_for(path, f"{path}.queue", asyncio.get_running_loop())
    assert queue.try_take(EXCLUSIVE)
    first, second = queue.enqueue(EXCLUSIVE), queue.enqueue(EXCLUSIVE)
    queue.expire(first)
    queue.release()
    assert not await first.future
    assert await second.future
    queue.release()
    assert is_free(path)


async def test_a_cancellation_a_timeout_and_a_grant_in_one_tick_lose_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lock"
    holder, victim, patient = FileLock(path), FileLock(path), FileLock(path)
    await holder.acquire()
    task = asyncio.create_task(victim.acquire(timeout=0.01))
    next_one = asyncio.create_task(patient.acquire())
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, holder.release)
    loop.call_later(0.01, task.cancel)
    results = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError | LockTimeout)
    await asyncio.wait_for(next_one, 5)
    patient.release()


async def test_a_waiter_cancelled_with_all_others_leaves_the_lock_to_a_newcomer(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lock"
    elsewhere = Elsewhere(path)
    waiters = [Waiter(path) for _ in range(20)]
    await settled(lambda: is_waited_for(path))
    for waiter in waiters:
        waiter.cancel(native=True)
    elsewhere.release()
    newcomer = Waiter(path)
    await asyncio.wait_for(newcomer.task, 5)
    await asyncio.wait([waiter.task for waiter in waiters])


async def test_waiters_cancelled_in_thousands_leave_no_trace_in_the_queue(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    queue = queue_for(str(path), f"{path}.queue", asyncio.get_running_loop())
    assert queue.try_take(EXCLUSIVE)
    tickets = [queue.enqueue(EXCLUSIVE) for _ in range(2_000)]
    for ticket in tickets[:1_999]:
        ticket.future.cancel()
        queue.withdraw(ticket)
    assert len(queue._waiting) == 1
    queue.release()
    assert await tickets[-1].future
    queue.release()


async def test_a_shared_grant_for_a_writer_that_took_the_place_is_not_used(
    tmp_path: Path,
) -> None:
    """The thread asked for a reader, who left; a writer is first now, and another reader is in."""
    path = tmp_path / "lock"
    elsewhere = Elsewhere(path)
    reader = FileLock(path)
    reading = asyncio.create_task(reader.acquire(shared=True))
    await settled(lambda: is_waited_for(path))
    writer = FileLock(path)
    writing = asyncio.create_task(writer.acquire())
    reading.cancel()
    await asyncio.sleep(0)
    elsewhere.release()
    other = await _shared_elsewhere(path)
    # Once the reader's late grant has come, the thread asks again, for the writer.
    await settled(lambda: writer.locked or is_waited_for(path))
    assert not writer.locked
    other.release()
    await asyncio.wait_for(writing, 5)
    writer.release()


async def _shared_elsewhere(path: Path) -> Elsewhere:
    return Elsewhere(path, shared=True)
