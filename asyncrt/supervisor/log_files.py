"""A stream's log on disk: numbered files, appended to, the oldest taken away.

`logs/STREAM.N.log`, N counting up: nothing is ever renamed, so that a reader's place, a number and
an offset, stays true while files come and go. Whoever begins to write goes on in the last file,
or begins another where that ends in a line that a killed writer left torn: so what is torn is the
end of a file and nowhere else.

With timestamps the format is the one of Kubernetes' CRI, which log collectors read and podman
writes too: `TIME STREAM F|P TEXT`, a line each. P: the line of the workload's goes on in the next
one; F: here it ends. So every byte of the workload's is there, whether or not its last line has an
end, and nothing waits in memory for the end of a line. Without timestamps it is byte for byte what
the workload wrote.

A disk that is full, or fails, costs log and nothing else: the workload goes on, what couldn't be
written is counted in `STREAM.lost`, and writing goes on as soon as there is room.
"""

from __future__ import annotations

import contextlib
import os

from asyncrt import _cjson, _durable, _paths, clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypedDict

    class LogOptions(TypedDict):
        """How one stream is kept; sizes in bytes, None is unlimited."""

        max_bytes: int | None
        files: int
        timestamps: bool


STREAMS = ("stdout", "stderr")
NUMBERS = {"stdout": 1, "stderr": 2}
STAMP_BYTES = 27  # of clock.stamp()
HEADER_BYTES = STAMP_BYTES + 1 + 6 + 1 + 1 + 1  # both streams' names have six letters

_MOST_AT_ONCE = 1 << 22  # 64 KiB of empty lines, with their headers

_RESUME = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def name_of(stream: str, generation: int) -> str:
    """The name of a stream's file in `logs/`."""
    return f"{stream}.{generation}.log"


def lost_name(stream: str) -> str:
    """The file in `logs/` that says how many bytes couldn't be written."""
    return f"{stream}.lost"


def generations(directory: str | int, stream: str) -> list[int]:
    """The numbers of a stream's files, oldest first; none when the directory is gone."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        head, _, rest = name.partition(".")
        number, _, tail = rest.partition(".")
        if head == stream and tail == "log" and number.isdecimal():
            found.append(int(number))
    return sorted(found)


def read_options(directory: str | int) -> dict[str, LogOptions]:
    """The options of each stream that is logged. Raises OSError or ValueError."""
    if isinstance(directory, int):
        raw = _durable.read(_paths.LOG_OPTIONS, dir_fd=directory)
    else:
        raw = _durable.read(f"{directory}/{_paths.LOG_OPTIONS}")
    found: dict[str, LogOptions] = _cjson.loads(raw)
    try:
        for each in found.values():
            each["max_bytes"], each["files"], each["timestamps"]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("not as it was written") from error
    return {stream: found[stream] for stream in STREAMS if stream in found}


def stamped(data: bytes, stream: str) -> bytes:
    """What the workload wrote, as lines with time, stream and tag."""
    head = f"{clock.stamp()} {stream} ".encode()
    whole, end, rest = data.rpartition(b"\n")
    lines = b""
    if end:
        full = head + b"F "
        lines = full + whole.replace(b"\n", b"\n" + full) + b"\n"
    if rest:
        lines += head + b"P " + rest + b"\n"
    return lines


class LogWriter:
    """Appends to one stream's files. Never raises for a disk that refuses."""

    def __init__(self, directory: int, stream: str, options: LogOptions) -> None:
        """Write to files in the open directory, which stays the caller's."""
        self._directory = directory
        self._stream = stream
        self._max = options["max_bytes"]
        self._files = options["files"]
        self._stamps = options["timestamps"]
        self._generation = max(generations(directory, stream), default=0)
        self._fd = -1
        with contextlib.suppress(OSError):
            self._resume()
        self._lost = 0
        self._lost_before = 0
        self._lost_told = 0
        self._done = 0  # bytes of the workload's, of those being written
        self.on_next: Callable[[int, int, int], None] | None = None  # see Taken
        with contextlib.suppress(OSError, ValueError):
            self._lost_before = int(_durable.read(lost_name(stream), dir_fd=directory))

    def _resume(self) -> None:
        fd = os.open(name_of(self._stream, self._generation), _RESUME, dir_fd=self._directory)
        size = os.fstat(fd).st_size
        if self._stamps and size and os.pread(fd, 1, size - 1) != b"\n":
            os.close(fd)
        else:
            self._fd = fd

    def write(self, data: bytes) -> None:
        """Append what the workload wrote, or count it as lost."""
        if self._stamps:
            data = stamped(data, self._stream)
        left = data
        self._done = 0
        try:
            while left:
                piece = self._fitting(left)
                self._append(piece)
                left = left[len(piece) :]
                if left:
                    self._done += self._count(piece)
        except OSError:
            self._lost += len(left)
        if self._lost > self._lost_told and not left:
            self._tell_lost()

    def _fitting(self, data: bytes) -> bytes:
        """As much as goes into the open file, whole lines if possible; opens the next if need be."""
        size = self._size()
        if size < 0:
            self._next()
            size = 0
        if self._max is None or size + len(data) <= self._max:
            return data
        cut = data.rfind(b"\n", 0, max(0, self._max - size)) + 1
        if not cut and size:
            self._next()
            size = 0
            if len(data) <= self._max:
                return data
            cut = data.rfind(b"\n", 0, self._max) + 1
        if not cut:
            # A line longer than a file may be. One with a header can't be cut: it is as good as whole.
            cut = data.find(b"\n") + 1 if self._stamps else self._max
        return data[:cut]

    def _size(self) -> int:
        """Of the open file; negative if none is open, or somebody has removed it."""
        if self._fd < 0:
            return -1
        found = os.fstat(self._fd)
        return found.st_size if found.st_nlink else -1

    def _next(self) -> None:
        """Begin another file and take away what is too many. Raises OSError; the old one stays open."""
        fd = os.open(
            name_of(self._stream, self._generation + 1), _CREATE, 0o600, dir_fd=self._directory
        )
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._generation += 1
        if self.on_next is not None:
            self.on_next(self._generation, 0, self._done)
        if self._max is None:
            return  # everything is kept
        for each in generations(self._directory, self._stream):
            if each <= self._generation - self._files:
                with contextlib.suppress(OSError):
                    os.unlink(name_of(self._stream, each), dir_fd=self._directory)

    def splice(self, fifo: int, most: int) -> int | None:
        """Move what a FIFO has straight to the end of the open file, where nothing is added or cut.

        How many bytes; None if they have to be written. Raises BlockingIOError.
        """
        if self._stamps or self._fd < 0 or self._lost > self._lost_told:
            return None
        size = self._size()
        if size < 0 or (self._max is not None and size + most > self._max):
            return None
        try:
            return os.splice(fifo, self._fd, most, offset_dst=size, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            raise
        except OSError:
            return None  # a write will tell why

    def place(self) -> tuple[int, int]:
        """The number of the file, and where in it, that what is written next goes to at first."""
        size = self._size()
        return (self._generation + 1, 0) if size < 0 else (self._generation, size)

    def written_since(self, generation: int, size: int) -> int:
        """How many bytes of the workload's a killed writer has appended behind `size`. Raises OSError."""
        try:
            fd = os.open(name_of(self._stream, generation), _READ, dir_fd=self._directory)
        except FileNotFoundError:
            return 0
        try:
            found = os.pread(fd, _MOST_AT_ONCE, size)
        finally:
            os.close(fd)
        whole, _, torn = found.rpartition(b"\n")
        count = self._count(found[: len(found) - len(torn)])
        if self._stamps:
            unfinished = whole.rpartition(b"\n")[2][HEADER_BYTES - 2 : HEADER_BYTES - 1] == b"P"
            count += max(0, len(torn) - HEADER_BYTES) - unfinished
        else:
            count += len(torn)
        return count

    def _count(self, lines: bytes) -> int:
        """How many bytes of the workload's are in whole lines none of which goes on in the next."""
        return len(lines) - (lines.count(b"\n") * HEADER_BYTES if self._stamps else 0)

    def _append(self, data: bytes) -> None:
        written = 0
        os.lseek(self._fd, 0, os.SEEK_END)  # O_APPEND forbids a splice
        try:
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:] if written else data)
        except OSError:
            if self._stamps and written:
                # Half a line would run into the next one's header.
                end = data.rfind(b"\n", 0, written) + 1
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, os.fstat(self._fd).st_size - (written - end))
                written = end
            self._lost -= written  # the caller counts all of this piece
            raise

    def _tell_lost(self) -> None:
        """Say what was lost, once there is room again."""
        total = str(self._lost_before + self._lost).encode()
        with contextlib.suppress(OSError):
            _durable.replace(self._directory, lost_name(self._stream), total, durable=False)
            self._lost_told = self._lost

    def close(self) -> None:
        """Close the file, with what was lost told if that is possible."""
        if self._lost > self._lost_told:
            self._tell_lost()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
