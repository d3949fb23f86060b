"""events: what containers use, run out of and become, as it comes, until they have ended.

One task, and what it waits for are events of the kernel: a change of the root's log, of memory.events
or an eventfd, the end of a connection, a timer. Nothing is queued. What happened is read when the user
asks for the next: transitions from the log, kills from the cgroup's count, and a user who takes longer
than an interval gets the next stats later. So it costs a page and some numbers for each container.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from asyncrt import status as statuses
from asyncrt._threads import finish, run_blocking
from asyncrt.container.context import refuse_foreign
from asyncrt.container.feed import Feed
from asyncrt.container.memory_watch import MemoryWatch
from asyncrt.container.stats import Stats, stats
from asyncrt.container.wait import wait
from asyncrt.errors import (
    AsyncrtError,
    ContainerNotFound,
    InvalidTransition,
    SchemaTooNew,
    SpecInvalid,
    StateCorrupted,
    StorageFailed,
)
from asyncrt.ids import ContainerId
from asyncrt.state import Event, ExitResult, list_views, read_members
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from asyncrt.container.context import Context
    from asyncrt.state import Record

_LIVE = {Status.CREATED.value, Status.RUNNING.value, Status.PAUSED.value}

Key = tuple[str, str]  # id and instance


class OutOfMemory(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A container has run out of its memory.

    `kills` is how many of its processes the kernel has killed for that since it was made; None when it
    was gone before anybody could count. `hangs`: nobody is killed, as its killer is disabled.
    """

    id: str
    instance: str
    time: datetime
    kills: int | None
    hangs: bool


Happening = Stats | OutOfMemory | Event


class _Followed:
    """One container that is followed."""

    def __init__(self, record: Record, memory: MemoryWatch) -> None:
        self.id = ContainerId(record.id)
        self.instance = record.instance
        self.memory = memory
        self.ended: asyncio.Task[ExitResult] | None = None
        self._told = memory.kills or 0
        self._hung = False

    def check_ended(self) -> bool:
        """Whether it has; raises what went wrong with the wait for it."""
        if self.ended is None or not self.ended.done():
            return False
        with contextlib.suppress(ContainerNotFound):  # destroyed is ended
            self.ended.result()
        return True

    def news_of_memory(self) -> OutOfMemory | None:
        """That it ran out of memory since this was asked last; None if it didn't."""
        kills, before = self.memory.look(), self._told
        hung, self._hung = self._hung, self.memory.hangs
        self._told = max(before, kills or 0)
        if self._told == before and (hung or not self._hung):
            return None
        return self._out_of_memory(self._told, hangs=self._hung)

    def last_news(self) -> OutOfMemory | None:
        """The same for one that has ended, whose cgroup may be gone."""
        news = self.news_of_memory()
        if news is not None or self.ended is None or self.ended.cancelled():
            return news
        if self.ended.exception() is None and self.ended.result().oom_killed and not self._told:
            self._told = 1
            return self._out_of_memory(None, hangs=False)
        return None

    def _out_of_memory(self, kills: int | None, *, hangs: bool) -> OutOfMemory:
        now = datetime.now(UTC)
        return OutOfMemory(id=self.id, instance=self.instance, time=now, kills=kills, hangs=hangs)

    def wait_for_end(self, context: Context, callback: Callable[[], None]) -> None:
        """Have its end told at once, which costs a descriptor."""
        self.ended = asyncio.get_running_loop().create_task(
            wait(context, self.id, self.instance, None)
        )
        self.ended.add_done_callback(lambda _: callback())

    async def close(self) -> None:
        self.memory.close()
        if self.ended is not None:
            self.ended.cancel()
            await asyncio.wait((self.ended,))
            if not self.ended.cancelled():
                self.ended.exception()  # looked at, in case that nobody is left to raise it to


class Following:
    """What happens to some containers of a root, or to all that are there and come."""

    def __init__(self, context: Context, interval: float | None) -> None:
        """`interval` is the seconds between stats; None: none of them. Raises SpecInvalid."""
        given: object = interval
        if interval is not None and (
            not isinstance(given, int | float) or not 0 < interval < float("inf")
        ):
            raise SpecInvalid(
                json_path="", why=f"interval is {given!r:.40}, must be more than 0 seconds"
            )
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._interval = interval
        self._due = self._loop.time()
        self._wake = asyncio.Event()
        self._feed = Feed(context, self._wake.set)
        self._followed: dict[Key, _Followed] = {}

    def some(self, wanted: Iterable[Key]) -> AsyncGenerator[Happening]:
        """Of these, by id and instance, until the last of them has ended.

        Raises InvalidTransition for one that is stopped, ContainerNotFound for one that is gone. If
        cancelled, nothing is left open.
        """
        return self._until_all_ended(dict.fromkeys(wanted))

    def sandbox(self, root: Key) -> AsyncGenerator[Happening]:
        """Of a sandbox's root container, of those in it and of those that come, until all have ended.

        Raises as `some` does, of the root. If cancelled, nothing is left open.
        """
        return self._until_all_ended({root: None}, root)

    async def _until_all_ended(
        self, keys: dict[Key, None], root: Key | None = None
    ) -> AsyncGenerator[Happening]:
        try:
            await self._feed.begin(None)
            for key in keys:
                await self._follow_to_its_end(key)
            if root is not None:
                await self._follow_members(root, keys)
            while self._followed and self._feed.is_open:
                self._wake.clear()
                async for event in self._transitions():
                    if await self._is_of(event, keys, root):
                        yield event
                async for each in self._figures():
                    yield each
                for each in self._take_ended():
                    yield each
                if self._followed:
                    await self._until_something()
            # What an end is told by is in the log before anybody hears of the end.
            async for event in self._transitions():
                if (event.id, event.instance) in keys:
                    yield event
        finally:
            await finish(self._close())

    async def _follow_members(self, root: Key, keys: dict[Key, None]) -> None:
        record, _ = await self._context.look(*root)
        for each in await self._context.run(read_members, self._context.root, record):
            with contextlib.suppress(AsyncrtError):  # it has ended, or is broken
                await self._follow_to_its_end((each.id, each.instance))
                keys[each.id, each.instance] = None

    async def _is_of(
        self, event: Event | OutOfMemory, keys: dict[Key, None], root: Key | None
    ) -> bool:
        """Whether it is of one of them, or of one that has come into the sandbox."""
        key = event.id, event.instance
        if isinstance(event, Event) and root is not None and event.sandbox == root[0]:
            keys[key] = None
            if event.status in _LIVE and key not in self._followed:
                with contextlib.suppress(AsyncrtError):
                    await self._follow_to_its_end(key)
        return key in keys

    async def all(self) -> AsyncGenerator[Happening]:
        """Of all that there are and all that come, until the engine is closed.

        If cancelled, nothing is left open.
        """
        try:
            await self._feed.begin(None)
            for view in await run_blocking(list_views, self._context.root):
                if view.status in _LIVE:
                    await self._try_to_follow((view.id, view.instance))
            while self._feed.is_open:
                self._wake.clear()
                async for event in self._transitions():
                    yield event
                    key = event.id, event.instance
                    if isinstance(event, OutOfMemory):
                        continue
                    if event.status in _LIVE:
                        await self._try_to_follow(key)
                    elif key in self._followed:
                        await self._followed.pop(key).close()
                async for each in self._figures():
                    yield each
                await self._until_something()
        finally:
            await finish(self._close())

    async def _transitions(self) -> AsyncGenerator[Event | OutOfMemory]:
        """What is in the log by now. What killed it comes before the end."""
        while (event := await self._feed.next_nowait()) is not None:
            found = self._followed.get((event.id, event.instance))
            if found is not None and event.status not in _LIVE:
                news = found.news_of_memory()
                if news is not None:
                    yield news
            yield event

    async def _figures(self) -> AsyncGenerator[Stats | OutOfMemory]:
        for each in list(self._followed.values()):
            news = each.news_of_memory()
            if news is not None:
                yield news
        if self._interval is None or self._loop.time() < self._due:
            return
        # One that is late delays those that follow, and isn't made up for by a burst.
        self._due = max(self._due + self._interval, self._loop.time())
        for key, each in list(self._followed.items()):
            try:
                found = await stats(self._context, each.id, each.instance, "events")
            except (InvalidTransition, ContainerNotFound):
                if each.ended is None:  # else the wait for that tells of it
                    await self._followed.pop(key).close()
            except (StateCorrupted, StorageFailed, SchemaTooNew):
                if each.ended is not None:
                    raise
            else:
                if found.pids:  # else it ended while we looked
                    yield found

    def _take_ended(self) -> Iterator[OutOfMemory]:
        for key, each in list(self._followed.items()):
            if each.check_ended():
                news = each.last_news()
                if news is not None:
                    yield news
                del self._followed[key]
                each.memory.close()

    async def _until_something(self) -> None:
        timeout = None if self._interval is None else self._due - self._loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    async def _follow(self, key: Key) -> None:
        record, observed = await self._context.look(*key)
        statuses.require(record.id, "events", observed.status)
        refuse_foreign(record, "events")
        if key not in self._followed:
            memory = MemoryWatch(record, self._context.directories, self._wake.set)
            self._followed[key] = _Followed(record, memory)

    async def _follow_to_its_end(self, key: Key) -> None:
        await self._follow(key)
        if self._followed[key].ended is None:
            self._followed[key].wait_for_end(self._context, self._wake.set)

    async def _try_to_follow(self, key: Key) -> None:
        """One of all: that it is broken, gone or another namespace's is no concern of the others."""
        if key not in self._followed:
            with contextlib.suppress(AsyncrtError):
                await self._follow(key)

    async def _close(self) -> None:
        self._feed.end()
        for each in self._followed.values():
            await each.close()
