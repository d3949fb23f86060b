"""What was taken out of a FIFO and may not be in the log yet, kept where a kill doesn't reach it.

splice(2) moves what a FIFO holds into a file in one call, which a SIGKILL doesn't divide: each byte
is in the one or in the other. So that goes first, into `logs/STREAM.taken`, behind a head that says
where in the log it is going to be; then into the log; then the file is emptied. A pump that finds
something there goes on behind as much of it as its killed predecessor had written. So of what a
workload wrote nothing is lost, and nothing is in the log twice, whoever is killed.

Where a disk is full, or doesn't know splice, it goes through memory, and a kill may cost that.
"""

from __future__ import annotations

import contextlib
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.supervisor.log_files import LogWriter

CHUNK = 65536  # what a FIFO holds

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_HEAD_BYTES = 40
_FOR_NOW = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.ENOMEM, errno.ENOENT}


def name_of(stream: str) -> str:
    """The file's name in `logs/`."""
    return f"{stream}.taken"


class Taken:
    """One stream's."""

    def __init__(self, directory: int, stream: str, writer: LogWriter) -> None:
        """Have what a killed predecessor left written to the log. The directory stays the caller's."""
        self._directory = directory
        self._name = name_of(stream)
        self._writer = writer
        self._fd = -1
        self._head = b""  # as it is in the file
        self._before = 0  # of what is in the file that many bytes aren't our writer's to write
        self._usable = True  # as far as we know
        writer.on_next = self._note
        with contextlib.suppress(OSError):
            self._open()
            self._go_on()

    def _open(self) -> None:
        self._fd = os.open(self._name, _FLAGS, 0o600, dir_fd=self._directory)

    def _go_on(self) -> None:
        data = os.pread(self._fd, _HEAD_BYTES + CHUNK, 0)
        if len(data) > _HEAD_BYTES:
            with contextlib.suppress(ValueError):  # it isn't ours
                generation, size, skipped = map(int, data[:_HEAD_BYTES].split())
                self._before = skipped + self._writer.written_since(generation, size)
                left = data[_HEAD_BYTES + self._before :]
                if left:
                    self._note(*self._writer.place(), 0)
                    self._writer.write(left)
                self._before = 0
        self._empty()

    def _empty(self) -> None:
        if self._fd >= 0:
            try:
                os.ftruncate(self._fd, 0)
            except OSError as error:
                self._give_up(error)
            self._head = b""

    def _note(self, generation: int, size: int, skipped: int) -> None:
        """From there on in the log goes what is behind the first `skipped` bytes."""
        head = b"%10d %18d %9d\n" % (generation, size, self._before + skipped)
        if self._fd < 0 or head == self._head:
            return
        try:
            if len(head) > _HEAD_BYTES:  # somebody has put a file of an absurd number there
                raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW))
            os.pwrite(self._fd, head, 0)
        except OSError as error:
            self._give_up(error)
        else:
            self._head = head

    def pump(self, fifo: int) -> bool:
        """Write to the log what the FIFO has, a chunk at most; False at its end.

        Raises BlockingIOError when it has nothing now.
        """
        count = self._writer.splice(fifo, CHUNK)  # as exact, and faster
        if count is not None:
            return count > 0
        data = self._take(fifo)
        if not data:
            return False
        self._writer.write(data)
        self._empty()
        return True

    def _take(self, fifo: int) -> bytes:
        if self._usable:
            try:
                if self._fd < 0:
                    self._open()
                self._note(*self._writer.place(), 0)
                if self._fd >= 0:
                    count = os.splice(
                        fifo, self._fd, CHUNK, offset_dst=_HEAD_BYTES, flags=os.SPLICE_F_NONBLOCK
                    )
                    return os.pread(self._fd, count, _HEAD_BYTES)
            except BlockingIOError:
                raise
            except OSError as error:
                self._give_up(error)
        return os.read(fifo, CHUNK)

    def _give_up(self, error: OSError) -> None:
        """What it says mustn't be believed by whoever comes after us."""
        self._usable = error.errno in _FOR_NOW
        self.close()

    def close(self) -> None:
        """Nothing is left to be written."""
        fd, self._fd, self._head = self._fd, -1, b""
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._directory)
