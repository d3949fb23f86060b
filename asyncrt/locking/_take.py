"""Taking the kernel's lock: gate, then lock file, then the proof that it is still the same file."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from asyncrt.locking._flock import owner
from asyncrt.locking._idle import Hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt.locking._flock import System


class Place:
    """Which lock: its file, its gate, and what makes system calls for it."""

    __slots__ = ("gate", "path", "system")

    def __init__(self, system: System, path: str, gate: str) -> None:
        self.system = system
        self.path = path
        self.gate = gate


class Wish(NamedTuple):
    """How somebody wants it. `mode` None: a lock file that isn't there isn't created."""

    shared: bool
    mode: int | None


# A gate that can't be had because of these leaves the lock without fairness between processes,
# which is better than without a lock.
_NO_GATE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT})


def open_lock(place: Place, mode: int | None) -> tuple[Hold, bool]:
    """The lock file, open, and whether it was made here; `mode` None makes none."""
    system = place.system
    while True:
        made = False
        try:
            fd = system.open(place.path)
        except FileNotFoundError:
            if mode is None:
                raise
            try:
                fd = system.create(place.path, mode)
            except FileExistsError:
                continue  # made by somebody else in between
            made = True
        try:
            return Hold(fd, system.inode_of(fd)), made
        except BaseException:
            system.close(fd)
            raise


def _open_gate(place: Place, mode: int | None) -> int | None:
    # Somebody who may not create the lock file may not create the gate either: a destroy going on
    # (gate first, lock file last) would leave it behind.
    while True:
        try:
            return place.system.open(place.gate)
        except OSError as error:
            if error.errno not in _NO_GATE:
                raise
            if error.errno != errno.ENOENT or mode is None:
                return None
        try:
            return place.system.create(place.gate, mode)
        except FileExistsError:
            pass  # made by somebody else in between
        except OSError as error:
            if error.errno in _NO_GATE:
                return None
            raise


def _add_gate(place: Place, mode: int | None, hold: Hold) -> int | None:
    """The gate, open, of a lock file that was made just now; or take that away again."""
    system = place.system
    try:
        return _open_gate(place, mode)
    except BaseException:
        # Only who holds it may; and who got it meanwhile can do with it.
        with contextlib.suppress(OSError):
            if system.try_lock(hold.fd, shared=False) and system.is_at(hold.inode, place.path):
                system.unlink(place.path)
        raise


def drop(system: System, fd: int) -> None:
    """Unlock and close. The unlock counts where a forked child has a copy of the descriptor."""
    system.unlock(fd)
    system.close(fd)


def someone_waits(place: Place) -> bool:
    """Whether another process or loop stands at the gate. Never blocks, and makes no file.

    Who asks locks the gate shared, so that two who ask don't take each other for a waiter.
    """
    system = place.system
    gate = _open_gate(place, None)
    if gate is None:
        return False
    try:
        # An unlinked gate stops nobody and counts as none: the lock file goes with it.
        return not system.try_lock(gate, shared=True)
    finally:
        drop(system, gate)


def try_take(place: Place, wish: Wish) -> Hold | None:
    """The kernel's lock if it is free; None when it isn't. Never blocks.

    Raises OSError as open(2) does; then no file is left that wasn't there.
    """
    system = place.system
    while True:
        hold, made = open_lock(place, wish.mode)
        fd = hold.fd
        try:
            if not system.try_lock(fd, shared=wish.shared):
                system.close(fd)
                return None
            if system.is_at(hold.inode, place.path):
                if made:
                    # After the lock file, so that what is left by a kill in between can be found,
                    # and while it is held, so that no destroy is under way.
                    gate = _add_gate(place, wish.mode, hold)
                    if gate is not None:
                        system.close(gate)
                hold.shared = wish.shared
                return hold
        except BaseException:
            drop(system, fd)
            raise
        drop(system, fd)


# Descriptors that only a thread knows of: a forked child must close its copies, or it would keep
# alive what the thread goes on to lock in the parent.
_attempts: WeakSet[Attempt] = WeakSet()


class Attempt:
    """One wait for the kernel's lock, in a thread. It owns its descriptors until `detach`.

    `kept` is an open lock file to begin with. With `check` the proof that the lock is on the
    path's file is brought in the thread; otherwise that is left to who detaches it.

    When nobody takes what it got (a loop was closed with the message on its way), the end of the
    object gives it back.
    """

    __slots__ = (
        "__weakref__",
        "_check",
        "_gate",
        "_got",
        "_hold",
        "_pid",
        "_place",
        "_wanted",
        "wish",
    )

    def __init__(
        self,
        place: Place,
        wish: Wish,
        wanted: Callable[[], bool],
        *,
        kept: Hold | None = None,
        check: bool = False,
    ) -> None:
        self._place = place
        self._wanted = wanted
        self._check = check
        self._pid = owner.pid
        self._hold = kept
        self._gate = -1
        self._got = False
        self.wish = wish
        _attempts.add(self)

    def run(self) -> None:
        """Wait for gate and lock. It ends without the lock when nobody wants it any more."""
        try:
            while not self._got and self._wanted():
                self._pass_gate()
            if not self._got:
                self.give_back()
        except BaseException:
            self.give_back()
            raise

    def _pass_gate(self) -> None:
        place, wish = self._place, self.wish
        system = place.system
        hold, made = self._hold, False
        if hold is None:
            hold, made = open_lock(place, wish.mode)
            self._hold = hold
        opened = _add_gate(place, wish.mode, hold) if made else _open_gate(place, wish.mode)
        gate = self._gate = -1 if opened is None else opened
        if gate >= 0:
            system.lock(gate, shared=False)
        # All who stand behind lose the time between the wake-up at the gate and its unlocking, so
        # what else is to be looked at is looked at when the lock isn't free anyway.
        if not system.try_lock(hold.fd, shared=wish.shared):
            if not self._wanted() or not self._is_gate_current():
                self.leave_gate()
                return
            system.lock(hold.fd, shared=wish.shared)
        if gate >= 0:
            system.unlock(gate)
        if self._check and not system.is_at(hold.inode, place.path):
            self.give_back()
            return
        hold.shared = wish.shared
        self._got = True

    def _is_gate_current(self) -> bool:
        system, gate = self._place.system, self._gate
        return gate < 0 or system.is_at(system.inode_of(gate), self._place.gate)

    def leave_gate(self) -> None:
        """Close the gate. Left to who reports: that others wait less for."""
        gate, self._gate = self._gate, -1
        if gate >= 0:
            drop(self._place.system, gate)

    def detach(self) -> Hold | None:
        """What was got, and with it the duty to release it."""
        if not self._got:
            return None
        hold, self._hold, self._got = self._hold, None, False
        return hold

    def give_back(self) -> None:
        """Release what is held. In a forked child the copies are closed, nothing is unlocked."""
        system = self._place.system
        hold, self._hold, self._got = self._hold, None, False
        gate, self._gate = self._gate, -1
        for fd in (-1 if hold is None else hold.fd, gate):
            if fd < 0:
                continue
            if self._pid == owner.pid:
                drop(system, fd)
            else:
                system.close(fd)

    def __del__(self) -> None:
        self.give_back()


def _close_copies_in_child() -> None:
    for attempt in list(_attempts):
        attempt.give_back()


os.register_at_fork(after_in_child=_close_copies_in_child)
