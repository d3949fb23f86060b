"""watch: the lifecycle events of every process on a root, as they come, from wherever one likes.

It reads the log of events (asyncrt.state.event_log) and waits for changes of that one file, so it
holds one descriptor and at most a page of events, however slow its user is, and no writer ever waits
for it. A user so slow that the log was rotated twice meanwhile is told that events were lost.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Self

from asyncrt._inotify import Changes
from asyncrt.errors import SpecInvalid, StorageFailed
from asyncrt.ids import check_id
from asyncrt.state import DESTROYED, EventLog, Told
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from asyncrt.container import Context
    from asyncrt.state import Event, Position

_STATUSES = (*(each.value for each in Status), DESTROYED)


class Watch:
    """The events of a root, to be iterated over by one task; made by Engine.watch.

    `async for` alone begins with what happens from its first step on; inside `async with`, from the
    entering on. Leaving the block, or the loop where there is no block, lets go of its descriptor.
    It ends when its engine is closed.
    """

    def __init__(
        self,
        context: Context,
        after: str | None,
        ids: str | Iterable[str] | None,
        status: str | Iterable[str] | None,
    ) -> None:
        self._context = context
        self._after = after
        self._ids = frozenset(check_id(each) for each in _several(ids))
        self._statuses = frozenset(_check_status(each) for each in _several(status))
        self._told = Told()
        self._changes: Changes | None = None
        self._log: EventLog | None = None
        self._at: Position | None = None
        self._page: deque[Event] = deque()  # read, and not given out yet
        self._position = ""

    @property
    def position(self) -> str:
        """Where to resume when all that came out of this watch is dealt with; "" until it began."""
        return self._position

    async def __aenter__(self) -> Self:
        """Begin. Raises InvalidPosition, EventsLost, StorageFailed.

        If cancelled, nothing is left open.
        """
        if self._changes is not None:
            raise RuntimeError("this watch has begun already: make one for each use")
        await self._begin()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Let go of it. If cancelled: it never waits."""
        self._end()

    def __aiter__(self) -> AsyncGenerator[Event]:
        """The events, each once. Raises EventsLost when it can't keep up, and what entering raises.

        If cancelled, no event is lost to a watch that goes on after `position`.
        """
        return self._events()

    async def _events(self) -> AsyncGenerator[Event]:
        begun_here = self._changes is None
        if begun_here:
            await self._begin()
        try:
            while self._log is not None and self._changes is not None and self._at is not None:
                while self._page:
                    event = self._page.popleft()
                    self._position = event.position
                    if self._told.is_news(event) and self._is_wanted(event):
                        yield event
                try:
                    page = await self._context.run(self._log.read, self._at)
                except StorageFailed:
                    if self._has_ended():
                        return  # its engine was closed meanwhile, and what it waits with
                    raise
                self._page.extend(page.events)
                self._at = page.position
                if not page.events and not page.more:
                    self._position = str(page.position)
                    await self._changes.wait()
        finally:
            if begun_here:
                self._end()

    def _has_ended(self) -> bool:
        return self._changes is None

    def _is_wanted(self, event: Event) -> bool:
        return (not self._ids or event.id in self._ids) and (
            not self._statuses or event.status in self._statuses
        )

    async def _begin(self) -> None:
        try:
            self._changes = Changes()
        except OSError as error:
            raise StorageFailed(path="inotify", errno=error.errno or 0) from error
        self._context.watchers.add(self._end)
        try:
            self._log = EventLog(self._context.root, self._changes.follow)
            while (at := await self._context.run(self._log.begin, self._after)) is None:
                await self._changes.wait()
            self._at = at
            self._position = str(at)
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        changes, self._changes, self._log = self._changes, None, None
        self._context.watchers.discard(self._end)
        if changes is not None:
            changes.close()
            changes.wake()  # whoever still waits, of a closed engine


def _several(names: str | Iterable[str] | None) -> Iterable[str]:
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else names


def _check_status(text: str) -> str:
    if text not in _STATUSES:
        raise SpecInvalid(
            json_path="", why=f"there is no status {text!r}; choose of {', '.join(_STATUSES)}"
        )
    return str(text)
