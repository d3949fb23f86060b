"""What the lock asks of the operating system: the one seam between it and the kernel.

Everything above this file is decisions. A test that puts another `System` in its place can play
every order of events without a file, a thread or a second process.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol

from portalocker import LockFlags
from portalocker.portalocker import FlockLocker

from asyncrt import _threads
from asyncrt.locking._idle import Idle

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt.locking._idle import Inode


class Owner:
    """This process's pid, looked up once and again after a fork: what is held belongs to it."""

    __slots__ = ("pid",)

    def __init__(self) -> None:
        self.look_up()

    def look_up(self) -> None:
        self.pid = os.getpid()


owner = Owner()
os.register_at_fork(after_in_child=owner.look_up)


class System(Protocol):
    """Files, flocks and threads, as the lock uses them. OSError is the only error."""

    idle: Idle

    def open(self, path: str) -> int:
        """A descriptor of the file that is there."""

    def create(self, path: str, mode: int) -> int:
        """A descriptor of a new file; FileExistsError when there is one."""

    def unlink(self, path: str) -> None:
        """Remove the file."""

    def close(self, fd: int) -> None:
        """Close, which also unlocks when no copy of the descriptor is left."""

    def try_lock(self, fd: int, *, shared: bool) -> bool:
        """Lock without waiting; whether it succeeded."""

    def lock(self, fd: int, *, shared: bool) -> None:
        """Lock, waiting without an end. Only called in a thread of `submit`'s."""

    def unlock(self, fd: int) -> bool:
        """Unlock, also for every copy of the descriptor; whether it succeeded."""

    def inode_of(self, fd: int) -> Inode:
        """The open file's identity. No other file can have it until the descriptor is closed."""

    def is_at(self, inode: Inode, path: str) -> bool:
        """Whether the path names that file now."""

    def submit(
        self, func: Callable[[], None], callback: Callable[[None, BaseException | None], object]
    ) -> None:
        """Run `func`, then `callback(None, error)`, in a thread that never delays an exit."""


# A planted link isn't followed, an exec inherits nothing, a planted FIFO or terminal doesn't hang.
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

# portalocker's own flock, without the enum arithmetic and the translation of errors that its lock()
# wraps around it: those take twice the time of the system call, on the loop.
_flock = FlockLocker().locker

_EXCLUSIVE = LockFlags.EXCLUSIVE.value
_SHARED = LockFlags.SHARED.value
_TRY_EXCLUSIVE = _EXCLUSIVE | LockFlags.NON_BLOCKING.value
_TRY_SHARED = _SHARED | LockFlags.NON_BLOCKING.value
_UNLOCK = LockFlags.UNBLOCK.value


_TOO_MANY_OPEN = frozenset({errno.EMFILE, errno.ENFILE})


class Flock:
    """The real thing."""

    def __init__(self) -> None:
        self.idle = Idle(self.close)

    def open(self, path: str) -> int:
        try:
            return os.open(path, _OPEN)
        except OSError as error:
            if error.errno not in _TOO_MANY_OPEN or not self.idle.give_up():
                raise
            return os.open(path, _OPEN)

    def create(self, path: str, mode: int) -> int:
        return os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, mode)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def close(self, fd: int) -> None:
        try:  # noqa: SIM105  # a context manager's making costs as much as the close
            os.close(fd)
        except OSError:
            pass  # the descriptor is free all the same (close(2)), and nobody could do more

    def try_lock(self, fd: int, *, shared: bool) -> bool:
        try:
            _flock(fd, _TRY_SHARED if shared else _TRY_EXCLUSIVE)
        except BlockingIOError:
            return False
        return True

    def lock(self, fd: int, *, shared: bool) -> None:
        _flock(fd, _SHARED if shared else _EXCLUSIVE)

    def unlock(self, fd: int) -> bool:
        try:
            _flock(fd, _UNLOCK)
        except OSError:
            return False  # a network file system that went away: a close has to do
        return True

    def inode_of(self, fd: int) -> Inode:
        found = os.fstat(fd)
        return found.st_dev, found.st_ino

    def is_at(self, inode: Inode, path: str) -> bool:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == inode

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
