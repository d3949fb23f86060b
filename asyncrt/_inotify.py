"""To hear of changes of a file or of directories, by one descriptor, without a thread and without polling.

What inotify says is not looked at: the file is. So nothing hangs on how the kernel merges, orders or
drops notifications, and a binding that decodes each of them would only cost time. What is needed of
the system are three calls, in asyncrt._libc.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from typing import TYPE_CHECKING

from asyncrt import _libc

if TYPE_CHECKING:
    from collections.abc import Callable

_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows (inotify(7))


class Changes:
    """The changes of the file that was followed last, for one task of the running event loop.

    Close it: it holds a descriptor. Raises OSError when there is no instance to be had; a user may
    have 128 (inotify(7), max_user_instances).
    """

    def __init__(self, callback: Callable[[], None] | None = None) -> None:
        """`callback` is called, too, when something has happened."""
        self._fd = _libc.inotify()
        self._watch = -1
        self._callback = callback
        self._happened = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._ready)

    def follow(self, fd: int) -> None:
        """From now on tell of this open file instead of another. May be called in any thread."""
        watch = _libc.watch_changes(self._fd, fd)
        if self._watch not in {-1, watch}:
            _libc.forget_watch(self._fd, self._watch)
        self._watch = watch

    async def wait(self) -> None:
        """Return when something has happened since the last return.

        If cancelled, nothing that happened is forgotten.
        """
        await self._happened.wait()
        self._happened.clear()

    def wake(self) -> None:
        """Have `wait` return as if something had happened."""
        self._happened.set()
        if self._callback is not None:
            self._callback()

    def close(self) -> None:
        """Let go of the descriptor; idempotent. A task that waits goes on waiting."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _ready(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 4096)  # what is left has this called again
        self.wake()


class Directories:
    """Any number of watches of directories by one descriptor, open while somebody watches.

    A user may have 128 instances, so everybody on one event loop shares one.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._callbacks: dict[int, list[Callable[[], None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, directory: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after changes in the directory until what is returned is called.

        Raises OSError: no such directory, or no watch left (fs.inotify.max_user_watches).
        """
        if self._fd < 0:
            self._fd = _libc.inotify()
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._fd, self._readable)
        try:
            number = _libc.watch_directory(self._fd, directory)
        except OSError:
            self._close_if_unused()
            raise
        self._callbacks.setdefault(number, []).append(callback)
        stopped = False

        def stop() -> None:
            nonlocal stopped
            if not stopped:
                stopped = True
                self._forget(number, callback)

        return stop

    def _forget(self, number: int, callback: Callable[[], None]) -> None:
        callbacks = self._callbacks.get(number, [])
        with contextlib.suppress(ValueError):
            callbacks.remove(callback)
        if not callbacks and self._callbacks.pop(number, None) is not None:
            _libc.forget_watch(self._fd, number)
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._fd >= 0 and not self._callbacks:
            assert self._loop is not None  # noqa: S101 - set with the descriptor
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        numbers: set[int] = set()
        offset = 0
        while offset < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size + length
            if mask & _OVERFLOW:
                numbers.update(self._callbacks)
            else:
                numbers.add(number)
        for number in numbers:
            # The directory itself may have gone (IN_IGNORED): that is news to them as well.
            for callback in list(self._callbacks.get(number, ())):
                callback()
