"""Standard streams of a new process: where each goes, and our ends of those that are pipes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from enum import Enum
from io import FileIO
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from asyncrt import _forks
from asyncrt._threads import finish
from asyncrt.container.log import Log
from asyncrt.errors import SpecInvalid, StartFailed

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Any

_Transport = TypeVar("_Transport", bound=asyncio.BaseTransport)


class Stream(Enum):
    """Where a standard stream goes, besides a descriptor of the caller's own."""

    INHERIT = "inherit"
    DEVNULL = "devnull"
    PIPE = "pipe"


INHERIT = Stream.INHERIT
DEVNULL = Stream.DEVNULL
PIPE = Stream.PIPE


class HasFileno(Protocol):
    """An open file or socket."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...


StreamTarget = Stream | Log | int | HasFileno

NAMES = ("stdin", "stdout", "stderr")
_NOT_YET = -1  # of a log: opened once there is a place for it


class Streams:
    """The three descriptors for a new process; used as a context, it closes what it opened.

    The pipes' own ends survive the context only if `connect` has made streams of them. `logs` has
    the streams, by number, that go to a log; who knows where that is puts a descriptor in `fds`.
    """

    def __init__(self, stdin: StreamTarget, stdout: StreamTarget, stderr: StreamTarget) -> None:
        """Open what is needed. Raises SpecInvalid for a bad target, OSError for want of descriptors."""
        self.fds: list[int] = []
        self.logs: dict[int, Log] = {}
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._theirs: list[int] = []
        self._ours: dict[int, int] = {}
        self._transports: list[asyncio.BaseTransport] = []
        try:
            for number, target in enumerate((stdin, stdout, stderr)):
                self.fds.append(self._open(number, target))
        except BaseException:
            self._close()
            raise

    def _open(self, number: int, target: StreamTarget) -> int:
        if target is Stream.INHERIT and _is_standard(number):
            return number
        if isinstance(target, Log):
            if number == 0:
                raise SpecInvalid(json_path="", why="stdin=LOG: nothing is read from a log")
            self.logs[number] = target
            return _NOT_YET
        if target is Stream.PIPE:
            read, write = os.pipe()
            ours, theirs = (write, read) if number == 0 else (read, write)
            self._ours[number] = ours
            self._theirs.append(theirs)
            return theirs
        if isinstance(target, Stream):
            fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            self._theirs.append(fd)
            return fd
        name = NAMES[number]
        try:
            fd = target if isinstance(target, int) else target.fileno()
            os.fstat(fd)
        except (OSError, ValueError, AttributeError, OverflowError) as error:
            why = f"{name}={target!r} isn't an open descriptor or file{_advice(number, target)}"
            raise SpecInvalid(json_path="", why=why) from error
        return fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        for fd in (*self._theirs, *self._ours.values()):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._theirs.clear()
        self._ours.clear()

    async def connect(self) -> None:
        """Make asyncio streams of our ends of the pipes.

        If cancelled, the streams made so far are closed.
        """
        try:
            for number in sorted(self._ours):
                if number == 0:
                    self.stdin = await self._writer()
                elif number == 1:
                    self.stdout = await self._reader(1)
                else:
                    self.stderr = await self._reader(2)
        except BaseException:
            self.disconnect()
            raise

    async def _reader(self, number: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        pipe = self._file(number, "rb")
        loop = asyncio.get_running_loop()
        await self._attach(
            pipe, loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        )
        return reader

    async def _writer(self) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        pipe = self._file(0, "wb")
        transport = await self._attach(pipe, loop.connect_write_pipe(lambda: protocol, pipe))
        return asyncio.StreamWriter(transport, protocol, None, loop)

    def _file(self, number: int, mode: str) -> FileIO:
        return _forks.close_in_children(FileIO(self._ours.pop(number), mode), FileIO.close)

    async def _attach(
        self, pipe: FileIO, connecting: Coroutine[Any, Any, tuple[_Transport, asyncio.BaseProtocol]]
    ) -> _Transport:
        """The transport, kept to be closed. It is undisturbed by a cancellation.

        uvloop closes the descriptor of a connect that was cancelled, asyncio leaves it to us; whom
        a second close would hit nobody knows.
        """

        async def attach() -> _Transport:
            try:
                transport, _ = await connecting
            except BaseException:
                pipe.close()
                raise
            self._transports.append(transport)
            return transport

        return await finish(attach())

    def disconnect(self) -> None:
        """Close our ends of the pipes; what wasn't read is lost."""
        for transport in self._transports:
            transport.close()
        self._transports.clear()


def _advice(number: int, target: object) -> str:
    """What to give instead of what people often give."""
    if isinstance(target, str | os.PathLike):
        return "; open() it" + (", or use asyncrt.LOG" if number else "")
    if target == subprocess.STDOUT and number == 2:
        return "; give it what stdout has, a file or LOG; of pipes each is read by itself"
    return "; give one that is, or asyncrt's INHERIT, DEVNULL or PIPE"


def open_streams(
    container_id: str,
    stdin: StreamTarget,
    stdout: StreamTarget,
    stderr: StreamTarget,
    *,
    terminal: bool = False,
) -> Streams:
    """The streams of a new process. Raises SpecInvalid for a bad target, StartFailed otherwise.

    Those of a process on a `terminal` are the terminal; what it writes may go to a log as well.
    """
    if terminal:
        for name, target in zip(NAMES, (stdin, stdout, stderr), strict=True):
            if not isinstance(target, Stream | Log) or target is Stream.PIPE:
                raise SpecInvalid(
                    json_path="",
                    why=f"{name}={target!r} with a terminal: its streams are the terminal",
                )
        stdin = stderr = Stream.DEVNULL
        stdout = stdout if isinstance(stdout, Log) else Stream.DEVNULL
    try:
        return Streams(stdin, stdout, stderr)
    except OSError as error:
        raise StartFailed(
            container_id=container_id, what="streams", path="", errno=error.errno or 0
        ) from error


def _is_standard(fd: int) -> bool:
    """Whether 0, 1 or 2 is really a standard stream.

    Where the embedding process has closed one, its number goes to the next that is opened, say the
    event loop's own wake-up socket; but that one isn't inheritable, as a standard stream is.
    """
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False
