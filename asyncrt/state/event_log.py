"""A root's log of events: reading on from a position, and rotating it when it has grown.

A position is a generation and an offset in that generation's file, always the beginning of a line.
Two generations are kept: ~events, and the one before as ~events.1. Nothing here stays open, and the
whole state of a reader is its position: it opens what it needs by name, and recognises it by the
header. Readers take no lock.

Rotating never leaves the log's name without a file, so that no writer sees a gap: the old file gets
its second name first, and then the new one is renamed over the first. What an appender wrote to the
old file after that it writes again (see asyncrt._events): a reader that has seen the new file has
all of the old one when it has come to its end.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from asyncrt import _events, _paths
from asyncrt.errors import EventsLost, InvalidPosition, SchemaTooNew, StorageFailed
from asyncrt.locking import attempt
from asyncrt.state.event import decode_event
from asyncrt.state.exit_record import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asyncrt.state.event import Event

_log = logging.getLogger("asyncrt.state")

ROTATE_BYTES = 8 << 20  # about 30,000 events; on /run this is memory, and there are two files
PAGE_BYTES = 64 << 10

OLDEST = "oldest"

_HEADER_BYTES = 512
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEXT = f".{_paths.EVENTS}~"  # written by who holds the lock
_KEPT = f".{_paths.EVENTS_OLD}~"
LEFT_BY_ROTATION = (_NEXT, _KEPT)
_POSITION = re.compile(r"([0-9a-f]{12}):(0|[1-9][0-9]{0,18})", re.ASCII)


class _Header(msgspec.Struct, kw_only=True, gc=False):
    schema: int
    generation: str
    previous: str
    time: Moment


_header_decoder = msgspec.json.Decoder(_Header)


class Position(NamedTuple):
    """A place between two lines of a generation."""

    generation: str
    offset: int

    def __str__(self) -> str:
        return f"{self.generation}:{self.offset}"


def parse_position(text: object) -> Position:
    """The position that a text is. Raises InvalidPosition."""
    found = _POSITION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidPosition(
            position=str(text), why="it isn't GENERATION:OFFSET, as 0123456789ab:42"
        )
    return Position(found[1], int(found[2]))


class _File(NamedTuple):
    """One generation, open."""

    fd: int
    generation: str
    previous: str
    begun_at: float  # by the wall clock
    header: bytes

    @property
    def begin(self) -> int:
        """Where its lines begin."""
        return len(self.header)

    @property
    def first(self) -> Position:
        return Position(self.generation, self.begin)


class Page(NamedTuple):
    """Some events, where it goes on after them, and whether more may be there already."""

    events: list[Event]
    position: Position
    more: bool


class EventLog:
    """The events of one root, for one reader. Blocks for reads of files; holds nothing open."""

    def __init__(self, root: str, on_change: Callable[[int], None] | None = None) -> None:
        """`on_change` gets the open file whose changes are what to wait for, whenever it is another."""
        self._root = root
        self._path = f"{root}/{_paths.EVENTS}"
        self._on_change = on_change
        self._awaited = ""  # the generation that on_change was given
        self._header = b""  # of that one

    def begin(self, after: str | None) -> Position | None:
        """Where to begin: at the end (None), at what is kept (OLDEST), or after a position.

        None when the log is being made anew just now, and changes are to be waited for. Raises
        InvalidPosition, EventsLost or StorageFailed.
        """
        wanted = None if after is None or after == OLDEST else parse_position(after)
        with self._open() as (current, old):
            if current is None:
                return None
            if wanted is None:
                if after is None:
                    return _end_of(current)
                return (old or current).first
            for file in (current, old):
                if file is not None and file.generation == wanted.generation:
                    _check(file, wanted)
                    return wanted
            raise self._lost(wanted, current, old)

    def read(self, at: Position) -> Page:
        """The next events after a position. Raises EventsLost, SchemaTooNew, StorageFailed."""
        page = self._read_on(at)
        if page is not None:
            return page
        with self._open() as (current, old):
            if current is None:
                return Page([], at, more=False)
            if at.generation == current.generation:
                return self._page(current, at, current, old)
            if old is None or at.generation != old.generation:
                raise self._lost(at, current, old)
            page = self._page(old, at, current, old)
            if page.more:
                return page
            # That was all of it, since it was renamed before it was read.
            if current.previous == old.generation:
                return page._replace(position=current.first, more=True)
            if page.events:
                return page
            raise self._lost(at, current, old)

    def _read_on(self, at: Position) -> Page | None:
        """The usual case, and what a follower's delay hangs on: more in the same file as before."""
        if at.generation != self._awaited:
            return None
        try:
            fd = os.open(self._path, _READ)
            try:
                if os.pread(fd, len(self._header), 0) == self._header:
                    data = os.pread(fd, PAGE_BYTES, at.offset)
                    if data:
                        return self._parse(data, at, len(self._header))
            finally:
                os.close(fd)
        except OSError:
            pass  # it is told by whoever looks closer
        return None

    def everything(self) -> tuple[float, list[bytes]]:
        """Since when lines are kept, by the wall clock, and all of them. Raises as read does.

        Changes nothing: of a log that isn't there, or isn't one, it is infinitely late.
        """
        with self._open(make=False) as (current, old):
            files = [each for each in (old, current) if each is not None]
            since = min((each.begun_at for each in files), default=math.inf)
            return since, [line for each in files for line in _lines_of(each)]

    def _page(self, file: _File, at: Position, current: _File, old: _File | None) -> Page:
        data = os.pread(file.fd, PAGE_BYTES, at.offset)
        if not data and at.offset > os.fstat(file.fd).st_size:
            raise self._lost(at, current, old)  # somebody truncated it
        return self._parse(data, at, file.begin)

    def _parse(self, data: bytes, at: Position, begin: int) -> Page:
        generation = at.generation
        more = len(data) == PAGE_BYTES
        *lines, rest = data.split(b"\n")
        if not lines and more:
            _log.warning("%s: no line ends in %d bytes after %s", self._path, PAGE_BYTES, at)
            return Page([], Position(generation, at.offset + len(rest)), more=True)
        events = []
        offset = at.offset
        for line in lines:
            begins, offset = offset, offset + len(line) + 1
            if begins < begin:
                continue  # the header
            position = Position(generation, offset)
            event = decode_event(line, path=self._path, position=str(position))
            if event is None:
                _log.warning("%s: no event in the line that ends at %s", self._path, position)
            else:
                events.append(event)
        return Page(events, Position(generation, offset), more=more)

    @contextlib.contextmanager
    def _open(self, *, make: bool = True) -> Iterator[tuple[_File | None, _File | None]]:
        """The log, made if missing, and the generation before, if there is one.

        The log is None when it isn't one, and somebody else is replacing it just now. Unless it is
        to be made, also when it is missing, or isn't one.
        """
        with contextlib.ExitStack() as stack, _translated(self._path):
            directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, directory)
            while True:
                fd = _open(directory, _paths.EVENTS)
                if fd < 0:
                    if not make:
                        yield None, self._old(directory, stack)
                        return
                    _events.begin(directory)
                    continue
                with contextlib.ExitStack() as opened:
                    opened.callback(os.close, fd)
                    current = self._file(fd)
                    generation = current.generation if current else "none"
                    if self._on_change is not None and self._awaited != generation:
                        self._on_change(fd)
                        self._awaited = generation
                        self._header = current.header if current else b""
                        if not _events.is_at(fd, _paths.EVENTS, directory):
                            continue  # the change that tells of that came before we listened
                    if make and current is None and rotate(self._root, anyway=True):
                        continue
                    stack.push(opened.pop_all())
                    break
            yield current, self._old(directory, stack)

    def _old(self, directory: int, stack: contextlib.ExitStack) -> _File | None:
        fd = _open(directory, _paths.EVENTS_OLD)
        if fd < 0:
            return None
        stack.callback(os.close, fd)
        return self._file(fd)

    def _file(self, fd: int) -> _File | None:
        line, newline, _ = os.pread(fd, _HEADER_BYTES, 0).partition(b"\n")
        try:
            header = _header_decoder.decode(line)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        if header.schema > _events.SCHEMA:
            raise SchemaTooNew(path=self._path, schema=header.schema, supported=_events.SCHEMA)
        if not newline:
            return None
        begun_at = header.time.timestamp()
        return _File(fd, header.generation, header.previous, begun_at, line + b"\n")

    def _lost(self, at: Position, current: _File, old: _File | None) -> EventsLost:
        return EventsLost(position=str(at), oldest=str((old or current).first))


def _open(directory: int, name: str) -> int:
    try:
        return os.open(name, _READ, dir_fd=directory)
    except FileNotFoundError:
        return -1


def _lines_of(file: _File) -> Iterator[bytes]:
    with open(file.fd, "rb", closefd=False) as lines:
        lines.seek(file.begin)
        yield from lines


def _check(file: _File, wanted: Position) -> None:
    size = os.fstat(file.fd).st_size
    if wanted.offset > size:
        why = f"its generation ends at {size}"
    elif wanted.offset and os.pread(file.fd, 1, wanted.offset - 1) != b"\n":
        why = "it is in the middle of a line"
    else:
        return
    raise InvalidPosition(position=str(wanted), why=why)


def _end_of(file: _File) -> Position:
    """Behind the last whole line: the rest of another one may be on its way."""
    end = os.fstat(file.fd).st_size
    while end > file.begin:
        start = max(file.begin, end - PAGE_BYTES)
        newline = os.pread(file.fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return Position(file.generation, start + newline + 1)
        end = start
    return file.first


def is_full(root: str) -> bool:
    """Whether the log has grown beyond ROTATE_BYTES. Blocks for one stat."""
    try:
        return os.lstat(f"{root}/{_paths.EVENTS}").st_size > ROTATE_BYTES
    except OSError:
        return False


def remove_left(root: str, name: str) -> bool:
    """Remove what a killed rotation left, unless one is under way; whether it is gone by this."""
    with attempt(f"{root}/{_paths.EVENTS_LOCK}") as alone:
        if not alone:
            return False
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _discard(directory, name)
        finally:
            os.close(directory)


def remove_old(path: str, seconds: float, *, dry_run: bool) -> bool:
    """Remove what somebody who made the log left, unless it is younger than that; whether it is so.

    Nobody writes one for as long, and to who is stopped in the middle its loss does no harm.
    """
    try:
        if os.lstat(path).st_mtime > datetime.now(UTC).timestamp() - seconds:
            return False
        if not dry_run:
            os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def rotate(root: str, *, anyway: bool = False) -> bool:
    """Begin a new generation if the log has grown beyond ROTATE_BYTES; whether one was begun.

    `anyway`: also if it is small, but has no header that can be read. Nothing happens while
    somebody else does it. Raises OSError; the log is whole then. Blocks for a few short calls.
    """
    with attempt(f"{root}/{_paths.EVENTS_LOCK}") as alone:
        if not alone:
            return False
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _rotate(root, directory, anyway=anyway)
        finally:
            os.close(directory)


def _rotate(root: str, directory: int, *, anyway: bool) -> bool:
    fd = _open(directory, _paths.EVENTS)
    if fd < 0:
        return False
    try:
        current = EventLog(root)._file(fd)  # noqa: SLF001 - of this very module
        if os.fstat(fd).st_size <= ROTATE_BYTES and not (anyway and current is None):
            return False
    finally:
        os.close(fd)
    for name in (_NEXT, _KEPT):
        _discard(directory, name)  # of a killed one
    _events.write_new(directory, _NEXT, previous=current.generation if current else "")
    try:
        os.link(_paths.EVENTS, _KEPT, src_dir_fd=directory, dst_dir_fd=directory)
        os.rename(_KEPT, _paths.EVENTS_OLD, src_dir_fd=directory, dst_dir_fd=directory)
        os.rename(_NEXT, _paths.EVENTS, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        # The first does nothing where both names lead to one file already: a killed one came that far.
        for name in (_NEXT, _KEPT):
            _discard(directory, name)
    return True


def _discard(directory: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except StorageFailed:
        raise
    except OSError as error:
        raise StorageFailed(path=path, errno=error.errno or 0) from error
