"""Replace a file so that a reader, or a crash at any instant, sees the old one or the new one.

Standard library only, and blocking: the supervisor calls it, and the event loop's side runs it
inline on memory-backed file systems and in one worker thread's hop elsewhere.
"""

from __future__ import annotations

import contextlib
import os

from asyncrt import _paths


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`; os.write may stop short (write(2): a signal, a disk nearly full)."""
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def replace(
    dir_fd: int,
    name: str,
    data: bytes,
    *,
    mode: int = 0o640,
    durable: bool = True,
    temporary: str | None = None,
) -> None:
    """Make `name` in the open directory hold `data`, by a temporary file and rename.

    With `durable` the file is synced before the rename and the directory after it, so the new
    content survives a power loss from the return on. On an OSError the old file stands and the
    temporary one is gone. Writers that exclude each other may give the name of the temporary file:
    one that is there is of a killed writer, and taken away.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    if temporary is None:
        temporary = _paths.temporary(name)
        fd = os.open(temporary, flags, mode, dir_fd=dir_fd)
    else:
        try:
            fd = os.open(temporary, flags, mode, dir_fd=dir_fd)
        except FileExistsError:
            os.unlink(temporary, dir_fd=dir_fd)
            fd = os.open(temporary, flags, mode, dir_fd=dir_fd)
    try:
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=dir_fd)
        raise
    if durable:
        os.fsync(dir_fd)


def read(path: str, *, dir_fd: int | None = None, limit: int = 1 << 24) -> bytes:
    """The whole of a file that is only ever replaced. Beyond `limit` bytes it is cut off somewhere."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=dir_fd)
    try:
        data = os.read(fd, 65536)
        if len(data) < 65536:
            return data
        parts = [data]
        size = len(data)
        while size <= limit and (data := os.read(fd, 1 << 20)):
            parts.append(data)
            size += len(data)
        return b"".join(parts)
    finally:
        os.close(fd)


def read_cached(path: str) -> bytes | None:
    """The whole of such a file without waiting for a disk; None when that can't be had.

    Only for a local file system: opening a file on another may hang.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size = os.fstat(fd).st_size
        if size > 65536:
            return None
        data = bytearray(size)
        try:
            # Source: preadv2(2), RWF_NOWAIT. It may stop where the next page isn't in memory.
            count = os.preadv(fd, [data], 0, os.RWF_NOWAIT)
        except OSError:
            return None  # nothing of it is in memory, or this file system doesn't know
        return bytes(data) if count == size else None
    finally:
        os.close(fd)
