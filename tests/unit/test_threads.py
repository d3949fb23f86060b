from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from asyncrt import _threads
from asyncrt._threads import DaemonThreads, finish, run_blocking
from tests.helpers.lock_loops import LOOPS, run
from tests.helpers.processes import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


async def test_a_call_gives_its_result_or_raises_its_error() -> None:
    assert await run_blocking(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await run_blocking(divmod, 7, 0)


async def test_without_a_thread_both_doors_raise_the_error_of_a_system_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    called: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(BlockingIOError, match="can't start new thread"):
            DaemonThreads().submit(lambda: called.append(1), lambda _, error: called.append(error))
        with pytest.raises(BlockingIOError, match="can't start new thread"):
            await run_blocking(called.append, 1)
    assert called == []
    with pytest.raises(RuntimeError, match="its own"):
        await run_blocking(_fail)


def _fail() -> None:
    raise RuntimeError("its own")


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("cancels", [1, 2, 5])
def test_hazard_2_a_cancelled_caller_waits_for_its_thread_and_the_result_is_undone(
    factory: Callable[[], asyncio.AbstractEventLoop], cancels: int
) -> None:
    async def main() -> None:
        begun, go_on = threading.Event(), threading.Event()
        undone: list[str] = []

        def work() -> str:
            begun.set()
            go_on.wait(10)
            return "made"

        task = asyncio.create_task(run_blocking(work, undo=undone.append))
        await run_blocking(begun.wait, 10)
        for _ in range(cancels):
            task.cancel()
            for _ in range(3):
                await asyncio.sleep(0)
            assert not task.done()
        assert undone == []
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert undone == ["made"]

    run(main(), factory)


async def test_hazard_3_draining_in_a_cancelled_scope_does_not_spin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    waits = 0
    real = asyncio.wait

    def counted(*args: Any) -> Any:
        nonlocal waits
        waits += 1
        return real(*args)

    def work() -> None:
        begun.set()
        go_on.wait(10)

    async def call(scope: anyio.CancelScope) -> None:
        with scope:
            await run_blocking(work)

    scope = anyio.CancelScope()
    task = asyncio.create_task(call(scope))
    await run_blocking(begun.wait, 10)
    scope.cancel()
    await asyncio.sleep(0)
    monkeypatch.setattr(asyncio, "wait", counted)
    task.cancel()  # natively too: the drain now stands in a cancelled scope
    for _ in range(100):
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 1 <= waits <= 3


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("tick", range(8))
async def test_cancelled_at_any_tick_a_result_is_kept_or_undone(
    tick: int, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def work() -> int:
        made.append(1)
        return 1

    kept: list[int] = []
    scope = anyio.CancelScope()
    loop = asyncio.get_running_loop()
    told = threading.Event()  # the loop, of the thread's end
    call_soon_threadsafe = loop.call_soon_threadsafe

    def tell(*args: Any, **kwargs: Any) -> asyncio.Handle:
        handle = call_soon_threadsafe(*args, **kwargs)
        told.set()
        return handle

    monkeypatch.setattr(loop, "call_soon_threadsafe", tell)

    async def call() -> None:
        with scope:
            kept.append(await run_blocking(work, undo=made.remove))

    task = asyncio.create_task(call())
    for _ in range(tick):
        await asyncio.sleep(0)
    if tick > 3:
        told.wait(5)  # result and cancellation meet in one tick
    task.cancel() if native else scope.cancel()
    await asyncio.wait([task])
    assert made == kept


async def test_a_cancelled_call_that_has_not_begun_never_runs() -> None:
    release = threading.Event()
    ran: list[int] = []
    loop = asyncio.get_running_loop()
    begun: asyncio.Queue[None] = asyncio.Queue()

    def work() -> None:
        loop.call_soon_threadsafe(begun.put_nowait, None)
        release.wait(10)

    busy = [asyncio.create_task(run_blocking(work)) for _ in range(_threads.WORKERS)]
    for _ in busy:
        await asyncio.wait_for(begun.get(), 10)
    queued = asyncio.create_task(run_blocking(ran.append, 1))
    await asyncio.sleep(0)  # it queues
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    release.set()
    await asyncio.gather(*busy)
    assert ran == []


async def test_a_thread_that_begins_after_the_cancellation_does_nothing() -> None:
    ran: list[int] = []
    call = _threads._Call(lambda: ran.append(1), None, asyncio.get_running_loop())
    assert call.cancel() is None
    with pytest.raises(asyncio.CancelledError):
        call.run()
    assert ran == []


async def test_hazard_1_the_budget_is_our_own() -> None:
    release = threading.Event()
    limiter = anyio.to_thread.current_default_thread_limiter()
    others = [
        asyncio.create_task(anyio.to_thread.run_sync(release.wait, 10))  # noqa: TID251  # a stranger
        for _ in range(int(limiter.total_tokens))
    ]
    await until(lambda: limiter.available_tokens == 0, "each has its token")
    assert await asyncio.wait_for(run_blocking(len, "abc"), 5) == 3
    release.set()
    await asyncio.gather(*others)


async def test_an_undo_that_fails_is_told_and_does_not_hide_the_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        go_on.wait(10)
        return 0

    task = asyncio.create_task(run_blocking(work, undo=lambda result: 1 // result))
    await run_blocking(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with caplog.at_level(logging.ERROR, "asyncrt"), pytest.raises(asyncio.CancelledError):
        await task
    assert "could not be undone" in caplog.text


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("tick", range(8))
async def test_finish_runs_to_the_end_whenever_it_is_cancelled(tick: int, native: bool) -> None:
    ended: list[str] = []

    async def work() -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append("work")
        return "result"

    scope = anyio.CancelScope()

    async def call() -> None:
        with scope:
            ended.append(await finish(work()))

    task = asyncio.create_task(call())
    for _ in range(tick):
        await asyncio.sleep(0)
    for _ in range(2):
        task.cancel() if native else scope.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    if tick == 0 and native:
        assert ended == []  # cancelled before its first step
    else:
        assert ended[:1] == ["work"]


async def test_finish_raises_what_the_coroutine_raised_also_as_the_cause_of_a_cancellation() -> (
    None
):
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await finish(fail())
    task = asyncio.create_task(finish(fail()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, ValueError)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)  # threads end without an event


LONG = 1000  # a thread that should still rest when it is looked at, on however slow a machine


def _end(pool: DaemonThreads) -> None:
    """Have a resting thread end: it reads how long it may be idle after each job."""
    pool.idle_seconds = 0.01
    pool.submit(lambda: None, lambda *_: None)
    _wait_until(lambda: not pool._resting)


def test_daemon_threads_are_daemons_reused_and_end_when_idle() -> None:
    pool = DaemonThreads(idle_seconds=LONG)
    threads: list[threading.Thread] = []
    results: list[tuple[int | None, BaseException | None]] = []

    def work() -> int:
        threads.append(threading.current_thread())
        return len(threads)

    for _ in range(3):
        pool.submit(work, lambda result, error: results.append((result, error)))
        _wait_until(lambda: len(pool._resting) == 1)
    assert results == [(1, None), (2, None), (3, None)]
    assert len(set(threads)) == 1
    assert threads[0].daemon
    _end(pool)
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_a_resting_thread_keeps_nothing_of_its_last_job_alive() -> None:
    class Thing:
        def work(self) -> None:
            pass

    pool = DaemonThreads(idle_seconds=LONG)
    thing = Thing()
    gone = weakref.ref(thing)
    pool.submit(thing.work, lambda *_: None)
    del thing
    _wait_until(lambda: len(pool._resting) == 1)
    assert gone() is None
    assert pool._resting
    _end(pool)


def test_a_failing_job_is_reported_and_its_thread_goes_on() -> None:
    pool = DaemonThreads(idle_seconds=LONG)
    errors: list[BaseException | None] = []
    for _ in range(2):
        pool.submit(lambda: 1 // 0, lambda _, error: errors.append(error))
        _wait_until(lambda: len(pool._resting) == 1)
    assert [type(error) for error in errors] == [ZeroDivisionError] * 2
    _end(pool)


def test_no_job_is_lost_between_idling_and_ending() -> None:
    pool = DaemonThreads(idle_seconds=0.0005)
    done = threading.Semaphore(0)
    for number in range(300):
        pool.submit(lambda: None, lambda *_: done.release())
        assert done.acquire(timeout=10)
        time.sleep(number % 5 * 0.0002)  # jobs meet threads at every stage of going idle
    _wait_until(lambda: not pool._resting)
