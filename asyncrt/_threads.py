"""Blocking calls that leave the event loop, through two doors with budgets of our own.

`run_blocking` is for short file work. A cancelled caller waits for its thread and then knows what
became of the call: a worker that goes on behind a cancelled caller's back takes locks and writes
files nobody answers for. Waiting needs both halves of `drain`: the shielded anyio scope, because a
cancelled scope cancels its task again at every tick (a spin of 150,000 wake-ups a second was seen),
and the loop, because a second native `task.cancel()` goes through any anyio shield.

`submit` is for waits without an end (flock). Its threads are daemons: a thread sitting in flock
can't be woken, not even by closing the descriptor, and one of anyio's or asyncio's executors would
keep the interpreter from exiting until somebody else releases the lock. Its number is not capped:
one waiter would then depend on the release of a lock it has nothing to do with. Callers bound it,
FileLock to one per contended (path, loop).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread

from asyncrt.errors import NoThread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVarTuple

    Args = TypeVarTuple("Args")

T = TypeVar("T")

_log = logging.getLogger("asyncrt.threads")

WORKERS = 16  # short file work at once, per loop; more would only queue in the disk
IDLE_SECONDS = 2.0  # how long a daemon thread waits for its next job

_limiters: WeakKeyDictionary[asyncio.AbstractEventLoop, anyio.CapacityLimiter]
_limiters = WeakKeyDictionary()


async def drain(future: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until `future` is done, whatever its outcome.

    If cancelled, however often, goes on waiting; the first cancellation is returned to be raised.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            with anyio.CancelScope(shield=True):
                # Like asyncio.shield, this leaves the future alone when we are cancelled; unlike
                # it, it doesn't raise what is the future's own.
                await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
    return cancelled


class _Call(Generic[T]):
    """One blocking call. Which came first of begin, end and cancellation is decided in `_mutex`.

    anyio drops a job that hasn't begun when its caller is cancelled natively, and doesn't tell; so
    the thread asks here before it begins, and the caller waits only for what did begin.
    """

    __slots__ = ("_begun", "_cancelled", "_func", "_loop", "_mutex", "_undo", "_waiter", "ended")

    def __init__(
        self,
        func: Callable[[], T],
        undo: Callable[[T], object] | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._func = func
        self._undo = undo
        self._loop = loop
        self._mutex = threading.Lock()
        self._begun = self._cancelled = False
        self._waiter: asyncio.Future[None] | None = None
        self.ended: list[T] | None = None  # the result, or nothing when it failed

    @property
    def begun(self) -> bool:
        """Whether a thread has taken it up."""
        return self._begun

    def run(self) -> T:
        with self._mutex:
            if self._cancelled:
                raise asyncio.CancelledError
            self._begun = True
        try:
            result = self._func()
            if not self._end([result]) and self._undo is not None:
                _undo_logged(self._undo, result)
            return result
        finally:
            with self._mutex:
                if self.ended is None:
                    self.ended = []
                waiter = self._waiter
            if waiter is not None:
                with contextlib.suppress(RuntimeError):  # a closed loop: nobody waits any more
                    self._loop.call_soon_threadsafe(_wake, waiter)

    def _end(self, ended: list[T]) -> bool:
        """Whether the end came before any cancellation; then a cancelled caller has to undo it."""
        with self._mutex:
            if not self._cancelled:
                self.ended = ended
            return not self._cancelled

    def cancel(self) -> asyncio.Future[None] | None:
        """What to wait for, when the call is under way; a call that hasn't begun never will."""
        with self._mutex:
            self._cancelled = True
            if self._begun and self.ended is None:
                self._waiter = self._loop.create_future()
            return self._waiter


def _undo_logged(undo: Callable[[T], object], result: T) -> None:
    try:
        undo(result)
    except Exception:  # noqa: BLE001  # any failure is told, none may replace the CancelledError
        # The caller gets its CancelledError; this is the only place where the failure can be told.
        _log.exception("a cancelled call's result could not be undone")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _limiter(loop: asyncio.AbstractEventLoop) -> anyio.CapacityLimiter:
    try:
        return _limiters[loop]
    except KeyError:
        return _limiters.setdefault(loop, anyio.CapacityLimiter(WORKERS))


async def run_blocking(
    func: Callable[[*Args], T],
    *args: *Args,
    undo: Callable[[T], object] | None = None,
) -> T:
    """What `func(*args)` returns, run in a worker thread; what it raises is raised.

    For short file work only. At most `WORKERS` calls run at once in a loop, apart from those whose
    callers were cancelled and are waiting for their end. Raises NoThread, an OSError (EAGAIN), when
    none can be started.

    If cancelled, waits for the thread, calls `undo(result)` in a thread when one was given and
    `func` succeeded, and raises CancelledError; a call that hasn't begun is dropped.
    """
    loop = asyncio.get_running_loop()
    call = _Call(partial(func, *args), undo, loop)
    try:
        return await anyio.to_thread.run_sync(call.run, limiter=_limiter(loop))
    except RuntimeError as error:
        if call.begun:
            raise  # its own
        raise NoThread(why=str(error)) from error
    except asyncio.CancelledError:
        waiter = call.cancel()
        if waiter is not None:
            await drain(waiter)
        elif undo is not None and call.ended:
            # Result and cancellation came in the same tick.
            await finish(run_blocking(_undo_logged, undo, call.ended[0]))
        raise


async def finish(coro: Coroutine[Any, Any, T]) -> T:
    """What `coro` returns or raises; it runs in a task of its own, to its end.

    If cancelled, however often, waits for the coroutine's end and then raises CancelledError;
    what the coroutine raised meanwhile is the cause of that.
    """
    task = asyncio.get_running_loop().create_task(coro)
    cancelled = await drain(task)
    if cancelled is None:
        return task.result()
    error = None if task.cancelled() else task.exception()
    raise cancelled from error


class _Worker(threading.Thread):
    """A daemon thread that runs jobs until none came for a while."""

    def __init__(self, pool: DaemonThreads) -> None:
        super().__init__(name="asyncrt flock", daemon=True)
        self.jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._pool = pool

    def run(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=self._pool.idle_seconds)
            except Empty:
                if self._pool.retire(self):
                    return
                job = self.jobs.get()  # given to us in the same instant
            job()
            del job  # what a finished job holds must not live until the next one comes
            self._pool.rest(self)


class DaemonThreads:
    """Daemon threads for calls that may block for ever. They never delay the interpreter's exit."""

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self.idle_seconds = idle_seconds
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Start afresh: in a forked child the threads don't exist."""
        self._mutex = threading.Lock()
        self._resting: list[_Worker] = []

    def submit(
        self, func: Callable[[], T], callback: Callable[[T | None, BaseException | None], object]
    ) -> None:
        """Run `func` in a thread and then, in the same thread, `callback(result, error)`.

        Raises NoThread, an OSError (EAGAIN), when no thread can be started; then neither will be called.
        """

        def job() -> None:
            try:
                result = func()
            except BaseException as error:  # noqa: BLE001  # handed over, not lost
                callback(None, error)
            else:
                callback(result, None)

        with self._mutex:
            worker = self._resting.pop() if self._resting else None
        if worker is None:
            worker = _Worker(self)
            try:
                worker.start()
            except RuntimeError as error:
                raise NoThread(why=str(error)) from error
        worker.jobs.put(job)

    def rest(self, worker: _Worker) -> None:
        """A worker is free again."""
        with self._mutex:
            self._resting.append(worker)

    def retire(self, worker: _Worker) -> bool:
        """Whether the idle worker may end; False when a job is on its way to it."""
        with self._mutex:
            if worker in self._resting:
                self._resting.remove(worker)
                return True
        return False


_pool = DaemonThreads()
submit = _pool.submit


__all__ = ["DaemonThreads", "drain", "finish", "run_blocking", "submit"]
