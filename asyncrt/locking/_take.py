"""Taking the kernel's lock: gate, then lock file, then the proof that it is still the same file."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from asyncrt.locking._flock import owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt.locking._flock import Inode, System


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


class Hold:
    """A kernel lock that is held: its descriptor, the file's identity, and whether it is shared."""

    __slots__ = ("fd", "inode", "shared")

    def __init__(self, fd: int, inode: Inode, *, shared: bool) -> None:
        self.fd = fd
        self.inode = inode
        self.shared = shared


# A gate that can't be had because of these leaves the lock without fairness between processes,
# which is better than without a lock.
_NO_GATE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT})


def _open_gate(place: Place, mode: int | None) -> int | None:
    # Somebody who may not create the lock file may not create the gate either: a destroy going on
    # (gate first, lock file last) would leave it behind.
    try:
        return place.system.open(place.gate, mode)
    except OSError as error:
        if error.errno in _NO_GATE:
            return None
        raise


def _add_gate(place: Place, mode: int) -> None:
    """Make the gate's file. Only while holding the lock: then no destroy is under way."""
    gate = _open_gate(place, mode)
    if gate is not None:
        place.system.close(gate)


def someone_waits(place: Place) -> bool:
    """Whether another process or loop stands at the gate. Never blocks."""
    system = place.system
    gate = _open_gate(place, None)
    if gate is None:
        return False
    try:
        if not system.try_lock(gate, shared=False):
            return True
        # An unlinked gate stops nobody and counts as none: the lock file goes with it.
        system.unlock(gate)
        return False
    finally:
        system.close(gate)


def try_take(place: Place, wish: Wish, *, gated: bool) -> Hold | None:
    """The kernel's lock if it is free; None when it isn't. Never blocks.

    Raises OSError as open(2) does. `gated` asks at the gate first and so never overtakes a waiter.
    """
    system = place.system
    if not gated:
        return _try_lock_file(place, wish)
    while True:
        # Not made here: nobody stands at a gate that isn't there, and where a lock file can't be
        # had a gate must not be left alone.
        gate = _open_gate(place, None)
        if gate is None:
            return _try_lock_file(place, wish)
        try:
            if not system.try_lock(gate, shared=False):
                return None
            if system.inode_if_at(gate, place.gate) is not None:
                return _try_lock_file(place, wish)
        finally:
            system.drop(gate)


def _try_lock_file(place: Place, wish: Wish) -> Hold | None:
    system = place.system
    path = place.path
    while True:
        created = False
        try:
            fd = system.open(path, None)
        except FileNotFoundError:
            if wish.mode is None:
                raise
            fd = system.open(path, wish.mode)
            created = True  # by us, or by somebody else in the same instant
        try:
            if not system.try_lock(fd, shared=wish.shared):
                system.close(fd)
                return None
            inode = system.inode_if_at(fd, path)
            if inode is not None:
                if created and wish.mode is not None:
                    _add_gate(place, wish.mode)
                return Hold(fd, inode, shared=wish.shared)
        except BaseException:
            system.drop(fd)
            raise
        system.drop(fd)


# Descriptors that only a thread knows of: a forked child must close its copies, or it would keep
# alive what the thread goes on to lock in the parent.
_attempts: WeakSet[Attempt] = WeakSet()


class Attempt:
    """One wait for the kernel's lock, in a thread. It owns its descriptors until `detach`.

    When nobody takes what it got (a loop was closed with the message on its way), the end of the
    object gives it back.
    """

    __slots__ = ("__weakref__", "_gate", "_lock", "_pid", "_place", "_wanted", "hold", "wish")

    def __init__(self, place: Place, wish: Wish, wanted: Callable[[], bool]) -> None:
        self._place = place
        self._wanted = wanted
        self._pid = owner.pid
        self._gate = -1
        self._lock = -1
        self.wish = wish
        self.hold: Hold | None = None
        _attempts.add(self)

    def run(self) -> None:
        """Wait for gate and lock. `hold` stays None when nobody wants it any more."""
        try:
            while self.hold is None and self._wanted():
                try:
                    self._pass_gate()
                finally:
                    self._leave_gate()
        except BaseException:
            self.give_back()
            raise

    def _pass_gate(self) -> None:
        place, wish = self._place, self.wish
        system = place.system
        gate = _open_gate(place, wish.mode)
        if gate is not None:
            self._gate = gate
            system.lock(gate, shared=False)
            if system.inode_if_at(gate, place.gate) is None or not self._wanted():
                return
        self._lock = system.open(place.path, wish.mode)
        system.lock(self._lock, shared=wish.shared)
        inode = system.inode_if_at(self._lock, place.path)
        if inode is None:
            self.give_back()
            return
        if wish.mode is not None and gate is None:
            _add_gate(place, wish.mode)
        self.hold = Hold(self._lock, inode, shared=wish.shared)

    def _leave_gate(self) -> None:
        gate, self._gate = self._gate, -1
        if gate >= 0:
            self._place.system.drop(gate)

    def detach(self) -> Hold | None:
        """What was got, and with it the duty to release it."""
        hold, self.hold, self._lock = self.hold, None, -1
        return hold

    def give_back(self) -> None:
        """Release what is held. In a forked child the copies are closed, nothing is unlocked."""
        system = self._place.system
        end = system.drop if self._pid == owner.pid else system.close
        for fd in (self._lock, self._gate):
            if fd >= 0:
                end(fd)
        self._lock = self._gate = -1
        self.hold = None

    def __del__(self) -> None:
        self.give_back()


def _close_copies_in_child() -> None:
    for attempt in list(_attempts):
        attempt.give_back()


os.register_at_fork(after_in_child=_close_copies_in_child)
