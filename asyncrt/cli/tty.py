"""The user's own terminal, lent to a container: raw while it lasts, and put back however we end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Self

from asyncrt.cli import errors, tty_guard
from asyncrt.cli.detach_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from asyncrt.container import Attachment, TerminalChoice


_END_KEY = b"\x04"  # Ctrl-D, with which terminals are made


class Raw:
    """The terminal at a descriptor, raw inside a `with`; no terminal there: nothing happens.

    A small process beside us puts it back if we are killed.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[object] | None = None
        self._raw: list[object] = []
        self._guard = -1
        self._pipe = -1

    def __enter__(self) -> Self:
        if not os.isatty(self._fd):
            return self
        before = termios.tcgetattr(self._fd)
        # What the guard is to compare with is what the terminal makes of it.
        self._before = tty_guard.plain(before)
        tty.setraw(self._fd, termios.TCSANOW)
        try:
            self._raw = tty_guard.plain(termios.tcgetattr(self._fd))
            self._watch(self._raw)
        except BaseException:
            self._put_back()
            raise
        return self

    def _watch(self, after: list[object]) -> None:
        theirs, ours = os.pipe()
        try:
            self._guard = os.posix_spawn(
                sys.executable,
                [
                    *(sys.executable, "-I", "-S", tty_guard.__file__),
                    json.dumps([self._before, after]),
                ],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self._fd, 0),
                    (os.POSIX_SPAWN_DUP2, theirs, 3),
                    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
                ],
                setsid=True,  # not for it is what the terminal's keys and its hang-up mean
                setsigmask=[],
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._pipe = ours

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._put_back()
        if self._pipe >= 0:
            with contextlib.suppress(OSError):  # it was killed
                os.write(self._pipe, b".")
            os.close(self._pipe)
            self._pipe = -1
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._guard, 0)

    def again(self) -> None:
        """As raw as it was, should a shell have put it back while we were stopped.

        In the background it stays the shell's; to change it there would stop us again (SIGTTOU).
        """
        if self._before is not None:
            with contextlib.suppress(termios.error, OSError):  # it is gone
                if os.tcgetpgrp(self._fd) == os.getpgrp():
                    termios.tcsetattr(self._fd, termios.TCSANOW, self._raw)  # type: ignore[arg-type]  # as tcgetattr gave it

    def _put_back(self) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error):  # it is gone
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]  # as tcgetattr gave it
            self._before = None


def own_size() -> TerminalChoice:
    """The rows and columns of the terminal on our stdin, for one like it; True: none is known."""
    try:
        rows, columns = termios.tcgetwinsize(0)
    except termios.error:
        return True
    return (rows, columns) if rows and columns else True


@contextlib.contextmanager
def _own_stdin() -> Iterator[int]:
    """Our terminal, opened anew so as never to block; 0, which the shell has open too, else."""
    fd = 0
    if os.isatty(0):
        with contextlib.suppress(OSError):  # another user's since an su
            fd = os.open(
                "/proc/self/fd/0", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            )
    try:
        yield fd
    finally:
        if fd:
            os.close(fd)


class Lent:
    """Our stdin and stdout, connected to a container's terminal."""

    def __init__(self, attachment: Attachment, keys: bytes, *, ours: bool) -> None:
        """`ours`: the program is for this input only, and is told the end of it."""
        self._attachment = attachment
        self._ours = ours
        self._keys = Keys(keys)
        self._loop = asyncio.get_running_loop()
        self._detached = asyncio.Event()
        self._raw = Raw(0)
        self._stdin = 0

    async def until_end(self) -> bool:
        """Whether the terminal has ended; False when the user typed the detach keys.

        If cancelled, the user's terminal is put back first.
        """
        with self._raw, _own_stdin() as self._stdin:
            await self.resize()
            tasks = [
                asyncio.create_task(each)
                for each in (self._show(), self._detached.wait(), self._type())
            ]
            try:
                await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in tasks:
                    each.cancel()
                await asyncio.wait(tasks)
            if not tasks[0].cancelled():
                tasks[0].result()
            return not self._detached.is_set()

    def continued(self) -> None:
        """We were stopped and go on."""
        self._raw.again()

    def close(self) -> None:
        """Let go of the container's terminal."""
        self._attachment.close()

    async def resize(self) -> None:
        """Tell the container's terminal the size of ours. If cancelled, it may have been told."""
        size = own_size()
        if isinstance(size, tuple):
            await self._attachment.resize(*size)

    async def _type(self) -> None:
        """Pass on what is typed, no faster than it is taken; ends at the end of it or the keys."""
        last = b"\n"
        while data := await self._input():
            passed, detached = self._keys.take(data)
            if passed:
                await self._attachment.write(passed)
                last = passed[-1:]
            if detached:
                self._detached.set()
                return
        if self._ours and not os.isatty(0):
            # A terminal has no end but by the key: within a line the first gives that line only (termios(3), VEOF).
            await self._attachment.write(_END_KEY if last == b"\n" else _END_KEY * 2)

    async def _input(self) -> bytes:
        """What is typed next; b"" at its end."""
        while True:
            ready = asyncio.Event()
            try:
                self._loop.add_reader(self._stdin, ready.set)
            except PermissionError:
                await asyncio.sleep(0)  # a file: epoll knows nothing of it, it is always readable
            else:
                try:
                    await ready.wait()
                finally:
                    self._loop.remove_reader(self._stdin)
            try:
                return os.read(self._stdin, 4096)
            except BlockingIOError:
                continue  # a shell has read it, while we were in the background
            except OSError:
                return b""  # our terminal is gone

    async def _show(self) -> None:
        try:
            while data := await self._attachment.read():
                view = memoryview(data)
                while view:
                    view = view[os.write(1, view) :]
        except OSError as error:
            raise errors.output_failed(error) from error
