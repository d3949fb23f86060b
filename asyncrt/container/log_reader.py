"""One stream's log, read forward from a place, through the beginning of new files and the end of old.

The format and the names are asyncrt.supervisor.log_files'. Reading goes through aiofiles with an
executor of daemon threads, so that a disk that hangs keeps no interpreter from ending.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import aiofiles
import msgspec

from asyncrt._threads import finish
from asyncrt.container import file_threads
from asyncrt.supervisor.log_files import HEADER_BYTES, STAMP_BYTES, generations, name_of

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncBufferedReader

    from asyncrt.container.context import Context

_log = logging.getLogger("asyncrt.container")

StreamName = Literal["stdout", "stderr"]

LONGEST_LINE = 1 << 20
_BLOCK = 1 << 18
_UNFINISHED = ord("P")


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a container's output, byte for byte: joined, a stream's lines are what it wrote.

    `data` has its newline, unless the workload wrote none: at the end of its output, or so far when
    following. A line of more than 1 MiB comes in several. `time` is when it came, None in a log
    without timestamps.
    """

    stream: StreamName
    time: datetime | None
    data: bytes

    @property
    def text(self) -> str:
        """The line without its end; what isn't UTF-8 is replaced."""
        return self.data.decode(errors="replace").removesuffix("\n")


class File:
    """One file of a log, open for reading."""

    def __init__(self, context: Context, path: str) -> None:
        self._turns = context.readers
        self._path = path
        self._file: AsyncBufferedReader | None = None
        self.offset = 0

    async def open(self) -> bool:
        """Whether it is there. If cancelled, close is still to be called."""
        try:
            await finish(self._open())
        except FileNotFoundError:
            return False
        return True

    async def _open(self) -> None:
        async with self._turns:
            self._file = await aiofiles.open(
                self._path, "rb", executor=file_threads.executor, opener=_opener
            )

    @property
    def _opened(self) -> AsyncBufferedReader:
        assert self._file is not None  # noqa: S101 - open comes first
        return self._file

    async def read(self, size: int = _BLOCK) -> bytes:
        """What comes next, b"" at its end for now. If cancelled, it may be lost."""
        data: bytes = await finish(self._read(size))
        return data

    async def _read(self, size: int) -> bytes:
        async with self._turns:
            data: bytes = await self._opened.read(size)
        self.offset += len(data)
        return data

    async def read_at(self, offset: int, size: int) -> bytes:
        """What is there. If cancelled, nothing has changed but the place."""
        await self.seek(offset)
        return await self.read(size)

    async def seek(self, offset: int) -> None:
        """Go there. If cancelled, it may have gone."""
        await finish(self._seek(offset))

    async def _seek(self, offset: int) -> None:
        async with self._turns:
            await self._opened.seek(offset)
        self.offset = offset

    def size(self) -> int:
        """In bytes, now."""
        return os.fstat(self._opened.fileno()).st_size

    async def close(self) -> None:
        """Let go of it. If cancelled, it is closed all the same."""
        file, self._file = self._file, None
        if file is not None:
            await finish(file.close())


def _opener(path: str, flags: int) -> int:
    # A planted link isn't followed and a planted FIFO doesn't hang.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


class StreamReader:
    """Reads one stream forward. `ready` has what was read and not taken yet."""

    def __init__(
        self, context: Context, directory: str, stream: StreamName, *, stamped: bool
    ) -> None:
        self.stream = stream
        self.stamped = stamped
        self.ready: deque[LogLine] = deque()
        self.taken = 0
        self.since: bytes | None = (
            None  # a stamp; lines before the first of then or later are dropped
        )
        self._context = context
        self.directory = directory
        self._generation = 0
        self._file: File | None = None
        self._rest = b""  # of the file: no line yet
        self._line: list[bytes] = []  # of the workload's: a line that isn't at its end
        self._line_size = 0
        self._line_time: datetime | None = None

    async def start(self, generation: int, offset: int) -> None:
        """Begin there instead of at the beginning. If cancelled, close is still to be called."""
        if await self._open(generation):
            assert self._file is not None  # noqa: S101 - opened right now
            await self._file.seek(offset)

    async def files(self) -> list[int]:
        """The numbers of its files now. If cancelled, nothing has changed."""
        return await self._context.run(generations, self.directory, self.stream)

    def file(self, generation: int) -> File:
        """One of its files, to be opened and closed by the caller."""
        return File(self._context, f"{self.directory}/{name_of(self.stream, generation)}")

    async def _open(self, generation: int) -> bool:
        await self.close()
        self._file = self.file(generation)
        self._rest = b""
        if not await self._file.open():
            self._file = None
            return False
        self._generation = generation
        return True

    async def fill(self) -> bool:
        """Read until `ready` isn't empty; False at the end of what there is now.

        If cancelled, what was being read is lost to this reader.
        """
        while not self.ready:
            block = await self._block()
            if block is None:
                return False
            if self.stamped:
                self._take_stamped(block)
            else:
                self._take_raw(block)
        return True

    async def _block(self) -> bytes | None:
        while True:
            file = self._file
            if file is not None:
                block = await file.read()
                if not block and file.size() < file.offset:
                    _log.warning("%s was truncated under its reader", file._path)  # noqa: SLF001 - ours
                    await file.seek(0)
                    self._rest = b""
                    block = await file.read()
                if block:
                    return block
            newer = [each for each in await self.files() if each > self._generation]
            if not newer:
                return None
            if file is not None:
                # Its writer has gone on: what it wrote here is complete by now.
                block = await file.read()
                if block:
                    return block
                self._end_of_file()
            if self._generation and newer[0] > self._generation + 1:
                _log.warning("%s: a part was rotated away unread", self.directory)
            await self._open(newer[0])

    def _end_of_file(self) -> None:
        """A killed writer's last line may lack its end, or half of its header.

        Whoever came after it went on with the rest of the line (see asyncrt.supervisor.log_taken).
        """
        if self.stamped and len(self._rest) >= HEADER_BYTES:
            self._take_line(self._rest, end=b"", torn=True)
        if self.stamped:
            self._rest = b""

    def _take_raw(self, block: bytes) -> None:
        *lines, self._rest = (self._rest + block).split(b"\n")
        for each in lines:
            self._give(None, each + b"\n")
        if len(self._rest) >= LONGEST_LINE:
            self._give(None, self._rest)
            self._rest = b""

    def _take_stamped(self, block: bytes) -> None:
        *lines, self._rest = (self._rest + block).split(b"\n")
        for each in lines:
            self._take_line(each, end=b"\n")

    def _take_line(self, line: bytes, *, end: bytes, torn: bool = False) -> None:
        """A line of the file: one of the workload's, or a part of one."""
        if self.since is not None:
            if line[:STAMP_BYTES] < self.since:
                return
            self.since = None
        try:
            time: datetime | None = datetime.fromisoformat(line[:STAMP_BYTES].decode())
            data = line[HEADER_BYTES:]
            goes_on = torn or line[HEADER_BYTES - 2] == _UNFINISHED
        except (ValueError, IndexError):
            # Not ours: somebody has written in the file.
            time, data, goes_on = None, line, False
        if not goes_on and not self._line:
            self._give(time, data + end)
            return
        self._line.append(data if goes_on else data + end)
        self._line_size += len(data)
        self._line_time = self._line_time or time
        if not goes_on or self._line_size >= LONGEST_LINE:
            self._give_line()

    def _give_line(self) -> None:
        self._give(self._line_time, b"".join(self._line))
        self._line.clear()
        self._line_size = 0
        self._line_time = None

    def _give(self, time: datetime | None, data: bytes) -> None:
        self.ready.append(LogLine(self.stream, time, data))

    @property
    def unfinished(self) -> bool:
        """Whether there is a line without its end so far."""
        return bool(self._line) or (not self.stamped and bool(self._rest))

    def flush(self) -> None:
        """Give what there is of a line without its end."""
        if self._line:
            self._give_line()
        if not self.stamped and self._rest:
            self._give(None, self._rest)
            self._rest = b""

    def close_line(self) -> None:
        """Nothing more will come: a torn end counts too."""
        self._end_of_file()
        self.flush()

    async def close(self) -> None:
        """Let go of its file. If cancelled, it is closed all the same."""
        if self._file is not None:
            file, self._file = self._file, None
            await file.close()
