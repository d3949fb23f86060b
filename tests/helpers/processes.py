"""Helper interpreters: other processes that use asyncrt, talk by lines, and can be killed.

Order between processes comes from lines and from a `Gate`, never from sleeping.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.capabilities import User

REPOSITORY = str(Path(__file__).parents[2])

_PRELUDE = "from __future__ import annotations\n"


class Gate:
    """A starting gun: children that got `fd` block in `Gate.wait(fd)` until open() lets all go."""

    def __init__(self) -> None:
        self.fd, self._write_end = os.pipe()

    def open(self) -> None:
        """Let everybody go at once: an end-of-file reaches all readers."""
        os.close(self._write_end)
        os.close(self.fd)

    @staticmethod
    def wait(fd: int) -> None:
        """Block, in the child, until the parent opens the gate (or is gone)."""
        os.read(fd, 1)


class Interpreter:
    """A child Python running `code`, with the repository importable; `args` are its sys.argv[1:].

    Its stdin and stdout are ours to talk by lines, its stderr goes where ours goes. Leaving the
    `with` block kills and reaps it.
    """

    def __init__(
        self,
        code: str,
        *args: object,
        flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        user: int | None = None,
        group: int | None = None,
    ) -> None:
        full_env = {**os.environ, **(env or {}), "PYTHONPATH": REPOSITORY, "PYTHONUNBUFFERED": "1"}
        self._popen = subprocess.Popen(
            [sys.executable, *flags, "-c", _PRELUDE + code, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=full_env,
            pass_fds=pass_fds,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            bufsize=0,
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._stdin = self._popen.stdin
        self._stdout = self._popen.stdout
        self._unread = b""

    @property
    def pid(self) -> int:
        return self._popen.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def line(self, *, timeout: float = 20.0) -> str:
        """The next line it prints, without its end. EOFError when it ends, TimeoutError."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            poller = select.poll()
            poller.register(self._stdout, select.POLLIN)
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError(f"no line from pid {self.pid} in {timeout} s: {self._unread!r}")
            self._read_some()
        return self._take_line()

    async def next_line(self, *, timeout: float = 20.0) -> str:
        """As line(), without blocking the loop. If cancelled, nothing it printed is lost."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout):
            while b"\n" not in self._unread:
                readable = loop.create_future()
                loop.add_reader(self._stdout.fileno(), _resolve, readable)
                try:
                    await readable
                finally:
                    loop.remove_reader(self._stdout.fileno())
                self._read_some()
        return self._take_line()

    def say(self, text: str) -> None:
        """Send it one line."""
        self._stdin.write(text.encode() + b"\n")

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def kill(self) -> int:
        """SIGKILL it, reap it, close its pipes; its status as subprocess gives it. Idempotent."""
        self._popen.kill()
        return self._end(self._popen.wait())

    def wait(self, *, timeout: float = 20.0) -> int:
        """Wait until it ends by itself; its status. Its stdin is closed first."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        return self._end(self._popen.wait(timeout))

    def _end(self, status: int) -> int:
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._stdout.close()
        return status

    def _read_some(self) -> None:
        data = os.read(self._stdout.fileno(), 65536)
        if not data:
            raise EOFError(f"pid {self.pid} ended its output; unread: {self._unread!r}")
        self._unread += data

    def _take_line(self) -> str:
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()


def run_python(
    code: str, *args: object, flags: Sequence[str] = (), timeout: float = 30.0
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter with the repository importable; its status and output."""
    return subprocess.run(
        [sys.executable, *flags, "-c", code, *map(str, args)],
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def asyncrt_as(user: User, *words: str) -> subprocess.CompletedProcess[str]:
    """The command `asyncrt` with these words as that user, run to its end."""
    return subprocess.run(
        [sys.executable, "-B", "-m", "asyncrt", *words],
        env={**os.environ, "PYTHONPATH": REPOSITORY, "HOME": "/"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        timeout=50,
    )


def wait_gone(pid: int, *, timeout: float = 20.0) -> None:
    """Wait until a process has ended (it may still be a zombie), by pidfd. TimeoutError."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(timeout * 1000):
            raise TimeoutError(f"pid {pid} still lives after {timeout} s")
    finally:
        os.close(pidfd)


def kill_hard(pid: int) -> None:
    """SIGKILL any process and wait until it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_gone(pid)


def wait_until(fact: Callable[[], bool], what: str, *, timeout: float = 20.0) -> None:
    """Wait for an outside fact that no event tells of (a task's state in /proc, a flock waiter).

    Everything that has an event (a line, a pidfd, a future) is waited for by that event instead.
    TimeoutError names `what`.
    """
    deadline = time.monotonic() + timeout
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {timeout} s: {what}")
        time.sleep(0.002)


async def until(fact: Callable[[], bool], what: str, *, timeout: float = 20.0) -> None:
    """As wait_until, without blocking the loop. If cancelled, nothing happens."""
    deadline = time.monotonic() + timeout
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {timeout} s: {what}")
        await asyncio.sleep(0.002)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
