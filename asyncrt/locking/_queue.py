"""The tasks of one loop that want one lock: a FIFO queue in front of the kernel's lock.

Lives on its loop's thread; only `_report` runs elsewhere. See asyncrt.locking.file_lock for the
algorithm as a whole.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from asyncrt._threads import run_blocking
from asyncrt.locking._flock import owner
from asyncrt.locking._take import Attempt, Place, Wish, drop, someone_waits, try_take

if TYPE_CHECKING:
    from asyncrt.locking._flock import System
    from asyncrt.locking._idle import Hold

BATCH = 16  # grants under one kernel lock before other processes and loops are asked after
SKIPS = 8  # acquires in a row that may pass by the gate

# How often in a row this process passed by the gate. It outlives the queues, which come and go with
# every FileLock, at a fixed size: paths that share a count only ask at the gate more evenly.
_skips = [0] * 1024


class Ticket:
    """A place in the queue. Its future becomes True when the lock is granted, False on timeout."""

    __slots__ = ("future", "wish")

    def __init__(self, future: asyncio.Future[bool], wish: Wish) -> None:
        self.future = future
        self.wish = wish


class PathQueue:
    """Who of one loop holds and who waits for one lock file.

    `_hold` is the open lock file: the kernel's lock while there is a holder inside, idle otherwise
    and then perhaps closed by now. `_holders` counts the tasks inside: one, or several when they
    are `_readers`. `_attempt` is for whom a thread waits for the kernel's lock; then we have no
    `_hold`. Every method leaves it so that somebody waiting implies a holder inside or a
    thread under way: that is why no wake-up is lost.
    """

    __slots__ = (
        "__weakref__",
        "_attempt",
        "_hold",
        "_holders",
        "_pid",
        "_place",
        "_readers",
        "_slot",
        "_system",
        "_turns",
        "_waiting",
        "inline",
        "loop",
    )

    def __init__(
        self,
        system: System,
        path: str,
        gate: str,
        *,
        loop: asyncio.AbstractEventLoop | None,
        inline: bool = True,
    ) -> None:
        self.loop = loop  # that its tasks run in; None for calls made outside of any
        self.inline = inline  # whether the lock may be tried here: not on a network file system
        self._system = system
        self._place = Place(system, path, gate)
        self._pid = owner.pid
        self._hold: Hold | None = None
        self._holders = 0
        self._readers = False
        self._waiting: OrderedDict[Ticket, None] = OrderedDict()
        self._attempt: Ticket | None = None
        self._turns = 0
        self._slot = hash(path) % len(_skips)

    # Taking

    def try_take(self, wish: Wish) -> bool:
        """Become a holder without waiting and without overtaking anybody of this loop.

        Raises OSError as open(2) does.
        """
        if self._holders:
            return wish.shared and self._join()
        if self._waiting or self._attempt is not None:
            return False
        slot = self._slot
        skips = _skips[slot]
        if skips < SKIPS and not wish.shared:
            skips += 1
        elif someone_waits(self._place):
            _skips[slot] = SKIPS
            return False
        else:
            skips = 0
        if not self._lock(wish):
            _skips[slot] = SKIPS
            return False
        _skips[slot] = skips
        self._holders = self._turns = 1
        self._readers = wish.shared
        return True

    def _join(self) -> bool:
        if not self._readers or self._waiting or not self._may_join():
            return False
        self._holders += 1
        return True

    def _lock(self, wish: Wish) -> bool:
        """Have the kernel's lock if it is free, on the file that was left open if that will do."""
        hold = self._hold
        if hold is not None and self._system.idle.take(hold):
            system = self._system
            try:
                if not system.try_lock(hold.fd, shared=wish.shared):
                    system.idle.keep(hold)
                    return False
                if system.is_at(hold.inode, self._place.path):
                    hold.shared = wish.shared
                    return True
            except BaseException:
                self._drop()
                raise
            self._drop()
        self._hold = try_take(self._place, wish)
        return self._hold is not None

    async def try_take_remote(self, wish: Wish) -> bool:
        """As try_take, but in a thread.

        If cancelled, the lock isn't held.
        """
        if self._holders or self._waiting or self._attempt is not None:
            return False
        self._attempt = Ticket(asyncio.get_running_loop().create_future(), wish)
        hold: Hold | None = None
        try:
            hold = await run_blocking(partial(self._try_take_apart, wish), undo=self._undo_take)
        finally:
            self._attempt = None
            if hold is None:
                self._advance()  # for those who came meanwhile
        if hold is None:
            return False
        self._hold = hold
        self._holders = 1
        self._readers = wish.shared
        return True

    def _try_take_apart(self, wish: Wish) -> Hold | None:
        return None if someone_waits(self._place) else try_take(self._place, wish)

    def _undo_take(self, hold: Hold | None) -> None:
        if hold is not None:
            drop(self._system, hold.fd)

    def enqueue(self, wish: Wish) -> Ticket:
        """A place at the end of the queue. Only in a loop."""
        assert self.loop is not None  # noqa: S101  # FileLock's doing
        ticket = Ticket(self.loop.create_future(), wish)
        self._waiting[ticket] = None
        if not self._holders and self._attempt is None:
            try:
                self._begin_attempt(ticket)
            except BaseException:
                del self._waiting[ticket]
                raise
        return ticket

    def expire(self, ticket: Ticket) -> None:
        """The ticket's time is up. A grant in the same tick wins."""
        if not ticket.future.done():
            ticket.future.set_result(False)
            self._leave(ticket)

    def withdraw(self, ticket: Ticket) -> None:
        """The ticket's owner was cancelled. A grant that came first goes to the next waiter."""
        future = ticket.future
        if future.done() and not future.cancelled():
            if future.exception() is None and future.result():
                self.release()
            return
        self._leave(ticket)

    def _leave(self, ticket: Ticket) -> None:
        first = next(iter(self._waiting), None) is ticket
        self._waiting.pop(ticket, None)
        # Readers that queued behind a writer needn't wait for it any more.
        if first and self._holders and self._readers:
            while (head := self._head()) is not None and head.wish.shared and self._may_join():
                self._holders += 1
                self._grant(head)

    # Releasing

    def release(self) -> None:
        """One holder goes; the next ones in the queue come, or the kernel's lock is given back."""
        self._holders -= 1
        if self._holders:
            return
        if not self._waiting:
            self._rest()
            return
        if self.loop is not None and self.loop.is_closed():
            self._waiting.clear()
        if self._head() is None:
            self._rest()
        elif self._may_hand_over():
            self._serve()
        else:
            self._rest()
            self._advance()

    def forsake(self) -> None:
        """In a forked child: close our copy of the descriptor. The parent's lock isn't touched."""
        hold, self._hold = self._hold, None
        self._holders = 0
        self._waiting.clear()
        if hold is not None and hold.fd >= 0:
            self._system.idle.close(hold)

    def _rest(self) -> None:
        """Let others have the kernel's lock; the file stays open for the next time."""
        hold = self._hold
        if hold is not None:
            if self.inline and self._system.unlock(hold.fd):
                self._system.idle.keep(hold)
            else:
                self._drop()

    def _drop(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            self._system.unlock(hold.fd)
            self._system.idle.close(hold)

    # The queue

    def _head(self) -> Ticket | None:
        while self._waiting:
            ticket = next(iter(self._waiting))
            if not ticket.future.done():
                return ticket
            del self._waiting[ticket]  # cancelled, its task hasn't run yet
        return None

    def _grant(self, ticket: Ticket) -> None:
        del self._waiting[ticket]
        self._turns += 1
        ticket.future.set_result(True)

    def _serve(self) -> None:
        """Let the first waiters in: one writer, or the readers up to the next writer."""
        head = self._head()
        assert head is not None  # noqa: S101  # the callers looked
        self._readers = head.wish.shared
        self._holders = 1
        self._grant(head)
        if self._readers:
            while self._holders < BATCH and (head := self._head()) is not None and head.wish.shared:
                self._holders += 1
                self._grant(head)

    def _is_at_path(self, hold: Hold) -> bool:
        return self._system.is_at(hold.inode, self._place.path)

    def _someone_waits(self) -> bool:
        try:
            return someone_waits(self._place)
        except OSError:
            return True  # no descriptor to ask with, say: the kernel serves whoever it may be

    def _may_join(self) -> bool:
        """Whether a reader may join ours: no writer elsewhere waits for them to end."""
        hold = self._hold
        try:
            return (
                self.inline
                and hold is not None
                and not self._someone_waits()
                and self._is_at_path(hold)
            )
        except OSError:
            return False  # it queues, and hears of the error when its turn comes

    def _may_hand_over(self) -> bool:
        """Whether the next one in the queue may have the kernel's lock without letting go of it."""
        hold, head = self._hold, self._head()
        if not self.inline or hold is None or head is None:
            return False
        if hold.shared and not head.wish.shared:
            return False
        try:
            if hold.shared or self._turns >= BATCH:
                if self._someone_waits():
                    return False
                self._turns = 0
            return self._is_at_path(hold)
        except OSError:
            return False  # a release must not fail for that

    def _advance(self) -> None:
        """Get the kernel's lock for the head of the queue, if there is one."""
        while (head := self._head()) is not None:
            try:
                if self.inline and not self._someone_waits() and self._lock(head.wish):
                    self._enter()
                    return
                self._begin_attempt(head)
            except BaseException as error:  # noqa: BLE001  # it's the waiter's, who raises it
                self._fail(head, error)
            else:
                return

    def _enter(self) -> None:
        self._turns = 0
        self._serve()

    def _fail(self, ticket: Ticket, error: BaseException) -> None:
        del self._waiting[ticket]
        ticket.future.set_exception(error)

    # The one thread

    def _begin_attempt(self, ticket: Ticket) -> None:
        kept, self._hold = self._hold, None
        if kept is not None and not self._system.idle.take(kept):
            kept = None
        attempt = Attempt(
            self._place, ticket.wish, self._is_wanted, kept=kept, check=not self.inline
        )
        self._attempt = ticket
        try:
            self._system.submit(attempt.run, lambda _, error: self._report(attempt, error))
        except BaseException:
            self._attempt = None
            raise

    def _is_wanted(self) -> bool:
        return bool(self._waiting)

    def _report(self, attempt: Attempt, error: BaseException | None) -> None:
        # In the thread.
        assert self.loop is not None  # noqa: S101  # set since enqueue
        try:
            self.loop.call_soon_threadsafe(self._arrived, attempt, error)
        except RuntimeError:
            attempt.give_back()  # the loop is closed
        attempt.leave_gate()

    def _arrived(self, attempt: Attempt, error: BaseException | None) -> None:
        """The thread has ended: with the lock, with an error, or because nobody wanted it."""
        asked, self._attempt = self._attempt, None
        _skips[self._slot] = SKIPS  # somebody else was there: the next one asks at the gate
        hold = self._hold = attempt.detach()
        head = self._head()
        if hold is not None:
            # The thread didn't look, or the file is gone since.
            try:
                there = not self.inline or self._is_at_path(hold)
            except OSError as problem:
                there, error = False, problem
            if not there:
                self._drop()
            elif head is None or (hold.shared and not head.wish.shared):
                self._rest()
            else:
                self._enter()
                return
        if error is not None and head is not None and head is asked:
            self._fail(head, error)
        self._advance()

    def __del__(self) -> None:
        hold = getattr(self, "_hold", None)
        if hold is None:
            return
        if self._pid != owner.pid:
            self.forsake()
        elif self._holders:
            self._drop()
        elif self._system.idle.take(hold):
            self._system.idle.close(hold)
