"""What the lock asks of the operating system: the one seam between it and the kernel.

Everything above this file is decisions. A test that puts another `System` in its place can play
every order of events without a file, a thread or a second process.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Protocol

from portalocker import LockFlags
from portalocker.exceptions import AlreadyLocked, LockException
from portalocker.portalocker import FlockLocker

from asyncrt import _threads

if TYPE_CHECKING:
    from collections.abc import Callable

    Inode = tuple[int, int]
    """Device and inode number: both, for inode numbers repeat on other devices."""


class System(Protocol):
    """Files, flocks and threads, as the lock uses them. OSError is the only error."""

    def open(self, path: str, mode: int | None) -> int:
        """A descriptor of the file; `mode` creates it when it is missing."""

    def close(self, fd: int) -> None:
        """Close, which also unlocks when no copy of the descriptor is left."""

    def try_lock(self, fd: int, *, shared: bool) -> bool:
        """Lock without waiting; whether it succeeded."""

    def lock(self, fd: int, *, shared: bool) -> None:
        """Lock, waiting without an end. Only called in a thread of `submit`'s."""

    def unlock(self, fd: int) -> None:
        """Unlock, also for every copy of the descriptor."""

    def inode(self, fd: int) -> Inode:
        """The open file's identity."""

    def inode_at(self, path: str) -> Inode | None:
        """The identity of what the path names now; None when nothing."""

    def submit(
        self, func: Callable[[], None], callback: Callable[[None, BaseException | None], object]
    ) -> None:
        """Run `func`, then `callback(None, error)`, in a thread that never delays an exit."""


# Composed once: combining flags of an enum costs more than the system call.
_TRY = LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING
_TRY_SHARED = LockFlags.SHARED | LockFlags.NON_BLOCKING

# A planted link isn't followed, an exec inherits nothing, a planted FIFO or terminal doesn't hang.
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_locker = FlockLocker()


def _os_error(error: LockException) -> BaseException:
    return error.__cause__ or error


class Flock:
    """The real thing."""

    def open(self, path: str, mode: int | None) -> int:
        if mode is None:
            return os.open(path, _OPEN)
        return os.open(path, _OPEN | os.O_CREAT, mode)

    def close(self, fd: int) -> None:
        # On Linux close frees the descriptor even when it reports an error (close(2)).
        with contextlib.suppress(OSError):
            os.close(fd)

    def try_lock(self, fd: int, *, shared: bool) -> bool:
        try:
            _locker.lock(fd, _TRY_SHARED if shared else _TRY)
        except AlreadyLocked:
            return False
        except LockException as error:
            raise _os_error(error) from error
        return True

    def lock(self, fd: int, *, shared: bool) -> None:
        try:
            _locker.lock(fd, LockFlags.SHARED if shared else LockFlags.EXCLUSIVE)
        except LockException as error:
            raise _os_error(error) from error

    def unlock(self, fd: int) -> None:
        # A failure (a network file system that went away) leaves it to the close that follows.
        with contextlib.suppress(LockException):
            _locker.unlock(fd)

    def inode(self, fd: int) -> Inode:
        found = os.fstat(fd)
        return found.st_dev, found.st_ino

    def inode_at(self, path: str) -> Inode | None:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def submit(
        self, func: Callable[[], None], callback: Callable[[None, BaseException | None], object]
    ) -> None:
        _threads.submit(func, callback)


def holder_pid(path: str | os.PathLike[str]) -> int | None:
    """The process that holds a flock on the file, or one of them; None when nobody does.

    Also None when the kernel hides it (the holder is in another pid namespace, or there is no
    /proc). Source: /proc/locks, proc(5), which names device and inode.
    """
    try:
        found = os.stat(path, follow_symlinks=False)
        with open("/proc/locks", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    device = found.st_dev
    file_id = f"{os.major(device):02x}:{os.minor(device):02x}:{found.st_ino}".encode()
    for line in lines:
        # "1: FLOCK ADVISORY WRITE 4711 08:01:2345 0 EOF"; a waiter has "->" after the number.
        fields = line.split()
        if len(fields) > 5 and fields[1] == b"FLOCK" and fields[5] == file_id:
            pid = int(fields[4])
            return pid if pid > 0 else None
    return None
