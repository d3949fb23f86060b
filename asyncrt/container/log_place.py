"""Where in a stream's log to begin: a number of lines before its end, or at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncrt.container.log_reader import LONGEST_LINE
from asyncrt.supervisor.log_files import HEADER_BYTES, STAMP_BYTES

if TYPE_CHECKING:
    from asyncrt.container.log_reader import File, StreamReader

_BLOCK = 1 << 16
_FINISHED = ord("F")


async def start_at_tail(reader: StreamReader, lines: int) -> int:
    """Have the reader begin so many lines before the end; how many lines there are, if fewer.

    Reads backwards from the end, so its time depends on the lines wanted, not on the log. If
    cancelled, the reader is still to be closed.
    """
    count = _Count(lines, stamped=reader.stamped)
    for generation in reversed(await reader.files()):
        file = reader.file(generation)
        try:
            offset = await _back(file, count) if await file.open() else None
        finally:
            await file.close()
        if offset is not None:
            await reader.start(generation, offset)
            return lines
    return count.seen + (count.unfinished or 0)


class _Count:
    """Lines of the workload's seen so far, from the last one on."""

    def __init__(self, wanted: int, *, stamped: bool) -> None:
        self.seen = 0
        self.unfinished: int | None = None  # 1: the log ends in a line without an end
        self._wanted = wanted
        self._stamped = stamped

    def take(self, line: bytes, *, ended: bool) -> bool:
        """A line of the file, the last first; whether what is wanted begins right behind it."""
        if self._stamped and not ended and len(line) < HEADER_BYTES:
            return False  # torn in its header
        if self._stamped and len(line) >= HEADER_BYTES:
            ended = ended and line[HEADER_BYTES - 2] == _FINISHED
        if self.unfinished is None:
            self.unfinished = 0 if ended else 1
        if not ended:
            return False  # the beginning of a line that was counted already
        if self.seen + self.unfinished >= self._wanted:
            return True
        self.seen += 1
        return False


async def _back(file: File, count: _Count) -> int | None:
    """The offset where the wanted lines begin; None when some are in earlier files."""
    begin = line_end = file.size()  # `line_end` is behind the newline of the line at hand
    line = b""  # its bytes from `begin` on, without the newline
    ended = False  # whether it has one
    while begin > 0:
        size = min(_BLOCK, begin)
        begin -= size
        block = await file.read_at(begin, size)
        stop = len(block)
        while (newline := block.rfind(b"\n", 0, stop)) >= 0:
            line = block[newline + 1 : stop] + line
            if (line or ended) and count.take(line, ended=ended):
                return line_end
            line, line_end, ended, stop = b"", begin + newline + 1, True, newline
        line = block[:stop] + line
        if len(line) >= LONGEST_LINE:  # it comes in several pieces, each as good as a line
            if count.take(line, ended=True):
                return line_end
            line, line_end, ended = b"", begin, True
    if (line or ended) and count.take(line, ended=ended):
        return line_end
    return None


async def skip_before(reader: StreamReader, since: bytes) -> None:
    """Have the reader begin in the last file that begins before the stamp `since`.

    If cancelled, the reader is still to be closed.
    """
    for generation in reversed((await reader.files())[1:]):
        file = reader.file(generation)
        try:
            earlier = await file.open() and await file.read_at(0, STAMP_BYTES) < since
        finally:
            await file.close()
        if earlier:
            await reader.start(generation, 0)
            return
