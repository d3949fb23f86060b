"""Waiting for a process, most often not our child, by its pidfd on the event loop. Never polls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING

from asyncrt import _libc, _procid

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt._procid import Identified

_REAPING_SECONDS = 1.0  # how long a reaper may take before the exit status counts as unknowable


async def wait_gone(identity: Identified, timeout: float | None) -> bool:
    """Wait until exactly that process is gone; False when it isn't within `timeout` seconds.

    Raises PermissionError for one recorded in another pid namespace. If cancelled, nothing is left
    open.
    """
    pidfd = _procid.open_pidfd(identity)
    if pidfd is None:
        return True
    try:
        return await _readable(pidfd, timeout)
    finally:
        os.close(pidfd)


async def _readable(fd: int, timeout: float | None) -> bool:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def on_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, on_ready)
    try:
        async with asyncio.timeout(timeout):
            await ready
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True


def watch_child(pid: int, on_end: Callable[[], None]) -> int:
    """A pidfd of a child that was spawned just now; `on_end` is called when that has ended.

    Raises OSError when there is no descriptor for it: the child is killed then, and reaped.
    """
    pidfd = -1
    try:
        pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(pidfd, on_end)
    except OSError:
        if pidfd >= 0:
            os.close(pidfd)
        # Somebody else's reaper may have been first; then the pid may be anybody's.
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        raise
    return pidfd


class PidWatch:
    """The end of one process, for any number of waiters at the price of one descriptor."""

    def __init__(self, pidfd: int) -> None:
        """Take over the pidfd."""
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self.exit: dict[str, object] | None = None
        self.done = asyncio.Event()
        self.on_close: Callable[[], None] | None = None
        self._hang_up: select.epoll | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(pidfd, self._ended)

    @property
    def closed(self) -> bool:
        """Whether nothing is held open any more."""
        return self._pidfd < 0

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if self._read_status():
            return
        # It is a zombie still. A pidfd hangs up once reaped (Linux 6.9), and an epoll that asks for
        # nothing is told of hang-ups only, which the loop itself can't be asked for.
        self._hang_up = select.epoll()
        self._hang_up.register(self._pidfd, 0)
        self._loop.add_reader(self._hang_up.fileno(), self._reaped)
        self._timer = self._loop.call_later(_REAPING_SECONDS, self.close)

    def _reaped(self) -> None:
        if not self._read_status():
            self.close()

    def _read_status(self) -> bool:
        status = _libc.exit_status(self._pidfd)
        if status is None:
            return False
        code = os.waitstatus_to_exitcode(status)
        self.exit = {
            "exit_code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "reason": "exit" if code >= 0 else "signal",
        }
        self.close()
        return True

    def close(self) -> None:
        """Let go; waiters are woken. Idempotent."""
        if self.closed:
            return
        self._loop.remove_reader(self._pidfd)
        if self._hang_up is not None:
            self._loop.remove_reader(self._hang_up.fileno())
            self._hang_up.close()
        if self._timer is not None:
            self._timer.cancel()
        os.close(self._pidfd)
        self._pidfd = -1
        self.done.set()
        if self.on_close is not None:
            self.on_close()
