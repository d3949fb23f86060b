"""A root's log of events as it grows: what is news in it, and a call when there may be more.

Holds one descriptor and at most a page of events, however slow its user is; no writer ever waits for
it. A user so slow that the log was rotated twice meanwhile is told that events were lost.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from asyncrt._inotify import Changes
from asyncrt.errors import StorageFailed
from asyncrt.state import EventLog, Told

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt.container.context import Context
    from asyncrt.state import Event, Position


class Feed:
    """The events of a root from a position on, each once, for one task."""

    def __init__(self, context: Context, on_change: Callable[[], None] | None = None) -> None:
        """`on_change` is called when there may be news."""
        self._context = context
        self._on_change = on_change
        self._told = Told()
        self._changes: Changes | None = None
        self._log: EventLog | None = None
        self._at: Position | None = None
        self.page: deque[Event] = deque()  # read, and not given out yet
        self.position = ""  # where to resume when all that was given out is dealt with

    @property
    def is_open(self) -> bool:
        """Whether it has begun and not ended; an engine that is closed ends it."""
        return self._changes is not None

    async def begin(self, after: str | None) -> None:
        """Begin after a position. Raises InvalidPosition, EventsLost, StorageFailed.

        If cancelled, nothing is left open.
        """
        try:
            self._changes = Changes(self._on_change)
        except OSError as error:
            raise StorageFailed(path="inotify", errno=error.errno or 0) from error
        self._context.watchers.add(self.end)
        try:
            self._log = EventLog(self._context.root, self._changes.follow)
            while (at := await self._context.run(self._log.begin, after)) is None:
                await self._changes.wait()
            self._at = at
            self.position = str(at)
        except BaseException:
            self.end()
            raise

    async def next_nowait(self) -> Event | None:
        """The next event, or None when there is none yet, or it has ended.

        Raises EventsLost, StorageFailed. If cancelled, no event is lost.
        """
        while self._log is not None and self._at is not None:
            while self.page:
                event = self.page.popleft()
                self.position = event.position
                if self._told.is_news(event):
                    return event
            try:
                page = await self._context.run(self._log.read, self._at)
            except StorageFailed:
                if not self.is_open:
                    return None  # its engine was closed meanwhile, and what it waits with
                raise
            self.page.extend(page.events)
            self._at = page.position
            if not page.events and not page.more:
                self.position = str(page.position)
                return None
        return None

    async def wait(self) -> None:
        """Return when there may be news. If cancelled, none is forgotten."""
        if self._changes is not None:
            await self._changes.wait()

    def end(self) -> None:
        """Let go of its descriptor; whoever waits is woken."""
        changes, self._changes, self._log = self._changes, None, None
        self._context.watchers.discard(self.end)
        if changes is not None:
            changes.close()
            changes.wake()
