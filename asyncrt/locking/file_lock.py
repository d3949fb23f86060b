"""A lock between tasks, loops, threads and processes, held on a file, that an event loop can await.

The algorithm. Each event loop keeps one FIFO queue per lock file (`_queues`), and each queue one
open file description, so that two queues exclude each other by flock(2) wherever they live. A
free lock is taken by a non-blocking flock on the loop, which costs a few microseconds where a hop
to a thread costs a hundred, and while it is free its file stays open for the next time (`_idle`).
Whoever doesn't get it queues, and for the whole queue one daemon thread of our own waits in the
kernel, first for the gate (a second file), then for the lock, and lets go of the gate as soon as it
has the lock. A holder that leaves hands the lock to the next in its queue without the kernel, at
most `BATCH` (16) times before it asks whether somebody stands at the gate; then they get it. An
exclusive acquire of a lock nobody is seen at may pass by the gate, at most `SKIPS` (8) times in a
row; shared ones never do, and a reader joins its loop's readers only when the gate is free.

What it guarantees, and what that rests on. *Exclusion*: only flock lets a queue in, and inside a
queue the count of holders, changed on the loop's thread alone; after every acquire, hand-over and
join the descriptor's device and inode are compared with the path's, again and again, so that a
lock on an unlinked file is never taken for the lock. An open descriptor keeps its inode number from
being given to another file, for which reason one that stayed open is as good as a new one.
*Bounded waiting*: who stands first at the gate is overtaken only by what is inside already: at most
`BATCH` turns of the holding queue, and `SKIPS` acquires of each other process; the kernel serves
those at the gate in their order, and a queue is FIFO. Readers stop coming in as soon as a writer
has the gate. *No lost wake-up*: whenever somebody waits in a queue there is a holder inside it or a
thread under way, and both end by serving its head. A grant that meets a cancellation, a timeout
that came first or a closed loop goes to the next waiter or back to the kernel. A killed process
loses its locks with its descriptors, and a forked child closes its copies of them.
"""

from __future__ import annotations

import asyncio
import math
import os
import warnings
from typing import TYPE_CHECKING, Self

from asyncrt._seconds import refuse_no_number
from asyncrt.errors import LockTimeout
from asyncrt.locking._flock import holder_pid, owner
from asyncrt.locking._queues import queue_for
from asyncrt.locking._take import Wish

if TYPE_CHECKING:
    from types import TracebackType

    from asyncrt.locking._queue import PathQueue


# Directories resolved before. An answer is used while both names still lead to one directory.
_resolved: dict[str, str] = {}


def _real(path: str | os.PathLike[str]) -> str:
    """The path with its directory resolved. A link in the last place is refused later, not here."""
    directory, name = os.path.split(os.path.abspath(os.fspath(path)))
    real = _resolved.get(directory)
    if real is None or (real != directory and not _same(real, directory)):
        if len(_resolved) >= 256:
            _resolved.clear()
        real = _resolved[directory] = os.path.realpath(directory)
    return os.path.join(real, name)


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


class FileLock:
    """A lock on `path`: exclusive, or shared between readers. Not re-entrant.

    Two objects on the same path exclude each other wherever they are, in one task too. The file
    is made when missing, with `mode`; with `create=False` that is FileNotFoundError instead, also
    when the file is removed while waiting. Whoever holds the lock may remove the file, the gate
    first: waiters then start over. The file's content is nobody's business here.

    `gate` is the file that keeps the order between processes, by default `path` + ".queue". All
    that use one lock must name the same one.

    An object belongs to the loop that waits with it, and isn't for several threads at once. It has
    one holder at a time: another task of the same loop makes its own object.

    After a release the file stays open, unlocked, for the next acquire: until `close` or the end of
    the last object on that path in that loop, and for at most 16 free locks of a process, fewer when
    descriptors run out. Nothing stays open on a network file system.
    """

    __slots__ = ("_gate", "_held", "_path", "_pending", "_pid", "_queue", "_wish", "_wish_shared")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        mode: int = 0o600,
        gate: str | os.PathLike[str] | None = None,
    ) -> None:
        self._held = False
        self._pending = False
        self._path = _real(path)
        self._gate = self._path + ".queue" if gate is None else _real(gate)
        self._wish = Wish(False, mode if create else None)
        self._wish_shared = Wish(True, mode if create else None)
        self._pid = owner.pid
        self._queue: PathQueue | None = None

    @property
    def path(self) -> str:
        """The lock file's path, its directory resolved."""
        return self._path

    @property
    def locked(self) -> bool:
        """Whether this object holds the lock, in this process."""
        return self._held and self._pid == owner.pid

    async def acquire(self, *, timeout: float | None = None, shared: bool = False) -> None:
        """Hold the lock, exclusively or together with other readers, when this returns.

        `timeout` is in seconds of the monotonic clock; None waits without an end, 0 tries once.
        Raises LockTimeout, SpecInvalid for a timeout that is no number, FileNotFoundError (see `create`), OSError when the file can't be opened
        or isn't a plain file, and RuntimeError when this object holds the lock or waits for it
        already; after all of these the lock isn't held.

        If cancelled, the lock isn't held: a grant that came in the same tick goes to the next.
        """
        loop = asyncio.get_running_loop()
        queue = self._queue
        if (
            queue is None
            or queue.loop is not loop
            or self._held
            or self._pending
            or self._pid != owner.pid
        ):
            queue = self._enter(loop)
        if timeout is not None:
            refuse_no_number(timeout, "timeout")
        wish = self._wish_shared if shared else self._wish
        if queue.inline and queue.try_take(wish):
            self._held = True
            return
        self._pending = True
        try:
            if timeout is None:
                self._held = await self._wait(queue, wish, None)
            elif timeout > 0:
                self._held = await self._wait(queue, wish, timeout)
            elif not queue.inline:
                self._held = await queue.try_take_remote(wish)
        finally:
            self._pending = False
        if not self._held:
            assert timeout is not None  # noqa: S101  # otherwise the wait ends with the lock
            raise LockTimeout(path=self._path, timeout=timeout, holder=holder_pid(self._path))

    async def _wait(self, queue: PathQueue, wish: Wish, timeout: float | None) -> bool:
        ticket = queue.enqueue(wish)
        timer = None
        if timeout is not None and timeout != math.inf:
            timer = asyncio.get_running_loop().call_later(timeout, queue.expire, ticket)
        try:
            return await ticket.future
        except BaseException:
            queue.withdraw(ticket)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Hold the lock if it can be had at once; whether it could. Works outside of a loop too.

        Raises as acquire does. Never waits for another holder, but makes its system calls here and
        now, also on a network file system.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        queue = self._enter(loop)
        self._held = queue.try_take(self._wish_shared if shared else self._wish)
        return self._held

    def release(self) -> None:
        """Let the next one have the lock. Never blocks; called where the lock was acquired.

        Raises RuntimeError when this object doesn't hold the lock. In a forked child the parent's
        lock isn't held, and stays as it is.
        """
        if self._pid != owner.pid and self._forget_parent():
            return
        queue = self._queue
        if not self._held or queue is None:
            raise RuntimeError(f"{self!r} isn't held: nothing to release")
        self._held = False
        queue.release()

    def close(self) -> None:
        """Release the lock if it is held, and leave nothing open. The object may be used again.

        The file stays open while other objects of the loop use its path.
        """
        if self._pid != owner.pid:
            self._forget_parent()
        elif self._held:
            self.release()
        if not self._pending:
            self._queue = None

    async def __aenter__(self) -> Self:
        """Acquire it, exclusively and without a timeout.

        If cancelled, it isn't held.
        """
        await self.acquire()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release it.

        If cancelled: it never waits.
        """
        self.release()

    def __repr__(self) -> str:
        state = "held" if self.locked else "waiting" if self._pending else "free"
        return f"<FileLock {self._path!r} {state}>"

    def __del__(self) -> None:
        if not getattr(self, "_held", False) or self._pid != owner.pid:
            return
        queue = self._queue
        if queue is None:
            return
        warnings.warn(f"{self!r} was lost while held", ResourceWarning, source=self, stacklevel=2)
        # This can run anywhere, in the middle of the queue's own work too.
        if queue.loop is None:
            queue.release()
            return
        try:
            queue.loop.call_soon_threadsafe(queue.release)
        except RuntimeError:  # the loop is closed
            queue.release()

    def _enter(self, loop: asyncio.AbstractEventLoop | None) -> PathQueue:
        """The queue to ask, when this object is free to ask."""
        if self._pid != owner.pid:
            self._forget_parent()
        if self._held or self._pending:
            raise RuntimeError(f"{self!r} can't be acquired again: it isn't re-entrant")
        queue = self._queue
        if queue is None or queue.loop is not loop:
            queue = self._queue = queue_for(self._path, self._gate, loop)
        return queue

    def _forget_parent(self) -> bool:
        """In a forked child: nothing is held here. Whether it was, by the parent at the fork."""
        was_held, self._held, self._pending = self._held, False, False
        if self._queue is not None:
            self._queue.forsake()
        self._queue = None
        self._pid = owner.pid
        return was_held
