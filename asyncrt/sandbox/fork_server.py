"""The engine's fork server: started when first needed, restarted if killed, ended with its engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from asyncrt import _forks
from asyncrt.launch import frames
from asyncrt.sandbox import interpreter, strays
from asyncrt.sandbox.pidfd import watch_child

_log = logging.getLogger("asyncrt.sandbox")

_PACKAGES = str(Path(__file__).resolve().parents[2])
_CODE = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from asyncrt.supervisor.fork_server import main; main()"
)
# The dynamic linker writes each function's address down when it is first called, and what it writes to
# is a page that each child would have to copy. At the start it does all of it at once, in under a millisecond.
_ENVIRONMENT = {"LD_BIND_NOW": "1"}
_END_SECONDS = 5.0


class ForkServer:
    """A handle to at most one fork server that takes requests. Belongs to one event loop."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._requests: socket.socket | None = None
        self._pid = 0
        self._running: dict[int, int] = {}  # pids by pidfd, of those that end as well
        self._ended = asyncio.Event()  # set when there is none
        self._closed = False

    @property
    def pid(self) -> int:
        """Of the process that takes requests, 0 while there is none."""
        return self._pid

    def hand(self, role: bytes, theirs: socket.socket) -> None:
        """Give the socket to a new process in that role, which takes it as soon as it comes to it.

        Blocks only for the start of the fork server (a posix_spawn of under a millisecond), the
        first time. The caller closes its copy. Raises OSError when no process can be started.

        Once this is closed each has a fork server of its own, which ends when it has served.
        """
        try:
            self._ask(role, theirs)
        except (BrokenPipeError, ConnectionResetError):
            _log.warning("the fork server is gone; starting another")
            self._let_go()
            self._ask(role, theirs)
        if self._closed:
            self._let_go()

    def _ask(self, role: bytes, theirs: socket.socket) -> None:
        if self._requests is None:
            self._start()
        assert self._requests is not None  # noqa: S101 - narrows the type
        frames.send(self._requests, role, [theirs.fileno()])

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            with interpreter.guarded() as program:
                pid = os.posix_spawn(
                    program,
                    [
                        sys.executable,
                        "-I",
                        "-S",
                        "-X",
                        "utf8",
                        "-c",
                        _CODE,
                        _PACKAGES,
                        *strays.mark(self._root),
                    ],
                    _ENVIRONMENT,
                    file_actions=[
                        # First of all: where our own 0, 1, 2 are closed it may be one of these.
                        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
                        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                        (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
                    ],
                    setsid=True,  # a Ctrl-C at our terminal isn't for it
                    setsigmask=[],
                    setsigdef=_ALL_SIGNALS,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            self._watch(pid)
        except OSError:
            ours.close()
            raise
        self._requests = _forks.close_in_children(ours, socket.socket.close)

    def _watch(self, pid: int) -> None:
        def reap() -> None:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)
            del self._running[pidfd]
            # Somebody else's reaper may have been first: that is no error of anybody's.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            if self._pid == pid:
                self._pid = 0
            if not self._running:
                self._ended.set()

        pidfd = watch_child(pid, reap)
        self._running[pidfd] = self._pid = pid
        self._ended.clear()

    def _let_go(self) -> None:
        """Of one that is to end, or whose end of the socket shows that it is ending."""
        self._pid = 0
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    async def close(self) -> None:
        """End the process; what it forked stays. If cancelled, it ends by itself soon after."""
        self._closed = True
        self._let_go()
        if not self._running:
            return
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            for pidfd in self._running:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await self._ended.wait()


_ALL_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
