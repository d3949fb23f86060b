"""To hear of changes of one file, by one descriptor, without a thread and without polling.

What inotify says is not looked at: the file is. So nothing hangs on how the kernel merges, orders or
drops notifications, and a binding that decodes each of them would only cost time. What is needed of
the system are three calls, in asyncrt._libc.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from asyncrt import _libc


class Changes:
    """The changes of the file that was followed last, for one task of the running event loop.

    Close it: it holds a descriptor. Raises OSError when there is no instance to be had; a user may
    have 128 (inotify(7), max_user_instances).
    """

    def __init__(self) -> None:
        self._fd = _libc.inotify()
        self._watch = -1
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

    def close(self) -> None:
        """Let go of the descriptor; idempotent. A task that waits goes on waiting."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _ready(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 4096)  # what is left has this called again
        self._happened.set()
