"""Lock files that stay open, unlocked, for the next acquire: opening one takes a third of its time.

Few of a process, and never the last descriptor it has: the oldest is given up for a newer one, and
all are when descriptors run out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Inode = tuple[int, int]
    """Device and inode number: both, for inode numbers repeat on other devices."""

LIMIT = 16


class Hold:
    """An open lock file: its descriptor (-1 once closed), its identity, how it is locked."""

    __slots__ = ("fd", "inode", "shared")

    def __init__(self, fd: int, inode: Inode) -> None:
        self.fd = fd
        self.inode = inode
        self.shared = False


class Idle:
    """What is open and unlocked. Whoever takes one away owns it; any thread may.

    Every single operation on the dict is atomic, which makes a mutex, that a forked child might
    find taken for ever, unnecessary.
    """

    __slots__ = ("_close", "_kept", "limit")

    def __init__(self, close: Callable[[int], None], limit: int = LIMIT) -> None:
        self._close = close
        self._kept: dict[Hold, bool] = {}
        self.limit = limit

    def keep(self, hold: Hold) -> None:
        """Put it here, unlocked. From now on it may be closed at any time."""
        kept = self._kept
        kept[hold] = True
        if len(kept) > self.limit:
            self._close_oldest()

    def take(self, hold: Hold) -> bool:
        """Whether it is still here, and so open; then it is the caller's again."""
        return self._kept.pop(hold, False)

    def give_up(self) -> bool:
        """Close all; whether there was any."""
        gave_up = False
        while self._close_oldest():
            gave_up = True
        return gave_up

    def _close_oldest(self) -> bool:
        while True:
            try:
                oldest = next(iter(self._kept))
            except StopIteration:
                return False
            except RuntimeError:
                continue  # another thread changed the dict in between
            if self.take(oldest):
                self.close(oldest)
                return True

    def close(self, hold: Hold) -> None:
        """Close one that was taken."""
        fd, hold.fd = hold.fd, -1
        self._close(fd)

    def forget(self) -> None:
        """In a forked child, once their owners have closed its copies: none is here."""
        self._kept.clear()
