"""watch: the lifecycle events of every process on a root, as they come, from wherever one likes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from asyncrt.container.feed import Feed
from asyncrt.errors import SpecInvalid
from asyncrt.ids import check_id
from asyncrt.state import DESTROYED
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from asyncrt.container.context import Context
    from asyncrt.state import Event

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
        self._feed = Feed(context)
        self._after = after
        self._ids = frozenset(check_id(each) for each in _several(ids))
        self._statuses = frozenset(_check_status(each) for each in _several(status))

    @property
    def position(self) -> str:
        """Where to resume when all that came out of this watch is dealt with; "" until it began."""
        return self._feed.position

    async def __aenter__(self) -> Self:
        """Begin. Raises InvalidPosition, EventsLost, StorageFailed.

        If cancelled, nothing is left open.
        """
        if self._feed.is_open:
            raise RuntimeError("this watch has begun already: make one for each use")
        await self._feed.begin(self._after)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Let go of it. If cancelled: it never waits."""
        self._feed.end()

    def __aiter__(self) -> AsyncGenerator[Event]:
        """The events, each once. Raises EventsLost when it can't keep up, and what entering raises.

        If cancelled, no event is lost to a watch that goes on after `position`.
        """
        return self._events()

    async def _events(self) -> AsyncGenerator[Event]:
        begun_here = not self._feed.is_open
        if begun_here:
            await self._feed.begin(self._after)
        try:
            while self._feed.is_open:
                event = await self._feed.next_nowait()
                if event is None:
                    await self._feed.wait()
                elif self._is_wanted(event):
                    yield event
        finally:
            if begun_here:
                self._feed.end()

    def _is_wanted(self, event: Event) -> bool:
        return (not self._ids or event.id in self._ids) and (
            not self._statuses or event.status in self._statuses
        )


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
