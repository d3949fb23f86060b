"""How a line comes into the root's log of events. Standard library only: supervisors append too.

Lines are appended by name, one write each, under no lock, while an engine may be rotating the log:
renaming another file over its name. A line that went to a file which is not the log any more might be
read by nobody, since followers leave that file once they have seen the rename. So every writer looks
whether the name still leads to what it wrote to, and else writes again: delivery is at least once.

The first line of a file is its header and says which generation it is, drawn at random, and which
one came before. So a position in the log can't be mistaken for one in another root's, or in that of
another boot. A file comes into being whole, by link(2): nobody sees one without its header.
"""

from __future__ import annotations

import contextlib
import errno
import os

from asyncrt import _durable, _paths, clock

SCHEMA = 1

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o640


def append(directory: int, line: bytes, *, below: str = "") -> int:
    """Append a line, its newline included; the log's size afterwards.

    The log is in the open directory, or where the path `below` leads from there. It is made if
    missing. Raises OSError when the line couldn't be written; a part of it may have been.
    """
    name = below + _paths.EVENTS
    while True:
        try:
            fd = os.open(name, _APPEND, dir_fd=directory)
        except FileNotFoundError:
            begin(directory, below=below)
            continue
        try:
            if os.write(fd, line) != len(line):
                # No second try for the rest: somebody else's line may stand in between. Readers
                # know how to leave out a torn one, whatever follows it.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            mine = os.fstat(fd)
            if _is(mine, name, directory):
                return mine.st_size
        finally:
            os.close(fd)


def is_at(fd: int, name: str, directory: int) -> bool:
    """Whether a name in a directory leads to that open file."""
    return _is(os.fstat(fd), name, directory)


def _is(mine: os.stat_result, name: str, directory: int) -> bool:
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return mine.st_ino == there.st_ino and mine.st_dev == there.st_dev


def begin(directory: int, *, below: str = "") -> None:
    """Make a log where there is none. Raises OSError; that somebody else was faster is fine.

    So is that gc took us for dead in the middle of this and removed what we wrote: then there may
    still be none.
    """
    temporary = below + _paths.temporary(_paths.EVENTS)
    write_new(directory, temporary, previous="")
    with contextlib.suppress(FileNotFoundError):
        try:
            with contextlib.suppress(FileExistsError):
                name = below + _paths.EVENTS
                os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            os.unlink(temporary, dir_fd=directory)


def write_new(directory: int, name: str, *, previous: str) -> None:
    """Write a file that has nothing but the header of a new generation. Raises OSError."""
    header = (
        f'{{"schema":{SCHEMA},"generation":"{os.urandom(6).hex()}",'
        f'"previous":"{previous}","time":"{clock.stamp()}"}}\n'
    )
    fd = os.open(name, _NEW, _MODE, dir_fd=directory)
    try:
        _durable.write_all(fd, header.encode())
    except BaseException:
        os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(fd)
