"""logs: a container's output as lines, read from its files; of both streams in the order of time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from asyncrt import _durable, _paths
from asyncrt._threads import finish
from asyncrt.container.log_place import skip_before, start_at_tail
from asyncrt.container.log_reader import LogLine, StreamName, StreamReader
from asyncrt.container.takeover import drained
from asyncrt.container.wait import wait
from asyncrt.errors import ContainerNotFound, NoOutput, SpecInvalid, StorageFailed
from asyncrt.ids import ContainerId
from asyncrt.state import moment_of
from asyncrt.supervisor.log_files import lost_name, read_options

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
    from datetime import timedelta

    from asyncrt.container.context import Context
    from asyncrt.state import Record
    from asyncrt.supervisor.log_files import LogOptions

_log = logging.getLogger("asyncrt.container")

_SILENT_SECONDS = 0.1  # after so long a line without an end is given as it is

_STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"


async def read(
    context: Context,
    container_id: ContainerId,
    instance: str,
    *,
    follow: bool,
    since: datetime | timedelta | None,
    tail: int | None,
    stream: StreamName | None,
) -> AsyncGenerator[LogLine, None]:
    """The lines of a container's log; see Container.logs."""
    stamp = _stamp(since)
    if tail is not None:
        _check_tail(tail)
    if stream not in (None, "stdout", "stderr"):
        raise SpecInvalid(json_path="", why=f"stream is {stream!r}, must be stdout or stderr")
    record, _ = await context.look(container_id, instance)
    context.take_over(record)
    directory = f"{context.directory(container_id)}/{_paths.LOGS}"
    found = await _options(context, record, directory, stream)
    readers = [
        StreamReader(context, directory, name, stamped=options["timestamps"])
        for name, options in found.items()
    ]
    if stamp is not None and not all(each.stamped for each in readers):
        raise SpecInvalid(
            json_path="", why="since= needs a log with timestamps; this one was made without"
        )
    following = _Following(context, record) if follow else None
    try:
        if following is not None:
            following.start(directory)
        else:
            await drained(context, record)
        with _told_by_path(directory):
            skip = await _place(readers, stamp, tail)
        async for line in _lines(readers, following):
            if skip:
                skip -= 1
            else:
                yield line
        await _tell_lost(context, directory, readers)
    finally:
        await finish(_close(readers, following))


@contextlib.contextmanager
def _told_by_path(directory: str) -> Iterator[None]:
    """A file that can't be read, or something else in its place, is one error of ours."""
    try:
        yield
    except OSError as error:
        path = error.filename if isinstance(error.filename, str) else directory
        raise StorageFailed(path=path, errno=error.errno or errno.EIO) from error


async def _close(readers: Sequence[StreamReader], following: _Following | None) -> None:
    if following is not None:
        await following.stop()
    for each in readers:
        await each.close()


async def _options(
    context: Context, record: Record, directory: str, stream: StreamName | None
) -> dict[StreamName, LogOptions]:
    """The streams to be read, and how they are kept. Raises NoOutput when there are none."""
    if not record.logs or (stream is not None and stream not in record.logs):
        what = "its output doesn't" if stream is None else f"its {stream} doesn't"
        raise NoOutput(
            container_id=record.id,
            operation="read logs of",
            why=f"{what} go to a log; create it with LOG ('asyncrt run --log')",
        )
    try:
        options = await context.run(read_options, directory)
    except FileNotFoundError as error:
        await context.look(record.id, record.instance)  # else it was destroyed just now
        raise StorageFailed(path=f"{directory}/{_paths.LOG_OPTIONS}", errno=errno.ENOENT) from error
    except (OSError, ValueError) as error:
        number = error.errno or 0 if isinstance(error, OSError) else 0
        raise StorageFailed(
            path=f"{directory}/{_paths.LOG_OPTIONS}", errno=number or errno.EIO
        ) from error
    names: tuple[StreamName, ...] = ("stdout", "stderr")
    return {name: options[name] for name in names if name in options and stream in (None, name)}


def _check_tail(tail: object) -> None:
    if not isinstance(tail, int) or isinstance(tail, bool) or tail < 0:
        raise SpecInvalid(
            json_path="", why=f"tail is {tail!r}, must be a number of lines from 0 on"
        )


def _stamp(since: datetime | timedelta | None) -> bytes | None:
    moment = moment_of(since, "since")
    return None if moment is None else moment.astimezone(UTC).strftime(_STAMP).encode()


async def _place(readers: Sequence[StreamReader], stamp: bytes | None, tail: int | None) -> int:
    """Put each at its place; how many of the first lines of all aren't wanted."""
    skip = 0
    if tail is not None:
        counts = [await start_at_tail(each, tail) for each in readers]
        # What has no times has no order between streams: so many of each, then.
        if all(each.stamped for each in readers):
            skip = max(0, sum(counts) - tail)
    if stamp is not None:
        for each in readers:
            each.since = stamp
            if tail is None:
                await skip_before(each, stamp)
    return 0 if stamp is not None else skip


async def _lines(
    readers: Sequence[StreamReader], following: _Following | None
) -> AsyncIterator[LogLine]:
    while True:
        over = following is None or following.ended
        if following is not None:
            following.changed.clear()
        async for line in _there(readers):
            yield line
        if following is None or over:
            break
        quiet = not await following.change(any(each.unfinished for each in readers))
        if quiet:
            for each in readers:
                each.flush()
    for each in readers:
        each.close_line()
    async for line in _there(readers):
        yield line
    if following is not None:
        following.raise_failure()


async def _there(readers: Sequence[StreamReader]) -> AsyncIterator[LogLine]:
    """All that is there now, in the order of time where that is known, else in turns."""
    while True:
        for each in readers:
            if not each.ready:
                with _told_by_path(each.directory):
                    await each.fill()
        ready = [each for each in readers if each.ready]
        if not ready:
            return
        first = ready[0] if len(ready) == 1 else min(ready, key=_order)
        first.taken += 1
        yield first.ready.popleft()


def _order(reader: StreamReader) -> tuple[datetime, int]:
    return reader.ready[0].time or _BEFORE_ALL, reader.taken


_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class _Following:
    """Wakes a reader when something was written, or the container has ended."""

    def __init__(self, context: Context, record: Record) -> None:
        self.changed = asyncio.Event()
        self._context = context
        self._record = record
        self._unwatch: Callable[[], None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def start(self, directory: str) -> None:
        """Begin to listen; before the first look, or a change in between would be missed."""
        try:
            self._unwatch = self._context.directories.watch(directory, self.changed.set)
        except FileNotFoundError:
            raise ContainerNotFound(container_id=self._record.id, root=self._context.root) from None
        except OSError as error:
            raise StorageFailed(path=directory, errno=error.errno or 0) from error
        self._ending = asyncio.create_task(self._end())
        self._ending.add_done_callback(lambda _: self.changed.set())

    async def _end(self) -> None:
        with contextlib.suppress(ContainerNotFound):  # destroyed, so it ended
            await wait(self._context, ContainerId(self._record.id), self._record.instance, None)
        await drained(self._context, self._record)

    @property
    def ended(self) -> bool:
        """Whether the container has ended, and all of its output is in the files."""
        return self._ending is not None and self._ending.done()

    async def change(self, unfinished: bool) -> bool:  # noqa: FBT001 - passed on
        """Wait for the next change; False when there is none while a line lacks its end."""
        try:
            async with asyncio.timeout(_SILENT_SECONDS if unfinished else None):
                await self.changed.wait()
        except TimeoutError:
            return False
        return True

    def raise_failure(self) -> None:
        """If the end couldn't be waited for, say why."""
        if self._ending is not None and self._ending.done():
            self._ending.result()

    async def stop(self) -> None:
        """Let go. If cancelled, it is let go of all the same."""
        if self._unwatch is not None:
            self._unwatch()
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.wait((self._ending,))
            if not self._ending.cancelled():
                self._ending.exception()  # looked at


async def _tell_lost(context: Context, directory: str, readers: Sequence[StreamReader]) -> None:
    for each in readers:
        path = f"{directory}/{lost_name(each.stream)}"
        with contextlib.suppress(OSError):
            lost = await context.run(_durable.read, path)
            _log.warning(
                "container's %s: %s bytes couldn't be written to the log",
                each.stream,
                lost.decode(),
            )
