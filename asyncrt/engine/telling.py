"""What an engine tells of its root as it happens: transitions alone, or with figures and want of memory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from asyncrt.container import Following, Watch
from asyncrt.engine.many import several_of
from asyncrt.errors import SpecInvalid

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from asyncrt.container import Container, Context, OutOfMemory, Stats
    from asyncrt.engine.many import Which
    from asyncrt.engine.sandboxes import Sandbox
    from asyncrt.state import Event


class Telling:
    """The part of Engine that is iterated over."""

    if TYPE_CHECKING:  # Engine's own

        @property
        def _context(self) -> Context: ...
        async def _loaded(self, each: Which) -> Container: ...
        async def load_sandbox(self, id: str) -> Sandbox:
            """See Engine.load_sandbox."""

    def watch(
        self,
        after: str | None = None,
        *,
        ids: str | Iterable[str] | None = None,
        status: str | Iterable[str] | None = None,
    ) -> Watch:
        """The lifecycle events of every process on this root, to be iterated over.

        Args:
            after: The position of the event to go on after; "oldest": all that are kept; None: what
                happens from now on (see Watch).
            ids: Of these containers only, there or yet to come.
            status: Only what leads to it, or to one of several; "destroyed" is told like one.

        Raises InvalidId, SpecInvalid; iterating raises InvalidPosition, EventsLost when what followed
        `after` isn't kept any more, StorageFailed. If cancelled, nothing is left open.
        """
        return Watch(self._context, after, ids, status)

    async def events(
        self,
        ids: Which | Iterable[Which] | None = None,
        *,
        sandbox: str | None = None,
        interval: float | None = 5.0,
    ) -> AsyncGenerator[Stats | OutOfMemory | Event]:
        """What containers use, run out of and become, as it comes; see Container.events.

        Args:
            ids: Of these, ids (abbreviated as for load) or containers, until the last of them has
                ended. None: of all that are there and all that come, until the engine is closed.
            sandbox: Instead of ids: of all that are in this one and come into it, until the last of
                them has ended; abbreviated as for load.
            interval: Seconds between the stats of one; None: no stats.

        Raises what load and load_sandbox raise, InvalidTransition for one that is stopped, SpecInvalid for
        both ids and a sandbox, EventsLost for a user too slow for the log of events. If cancelled,
        nothing is left open.
        """
        following = Following(self._context, interval)
        if sandbox is not None:
            if ids is not None:
                raise SpecInvalid(json_path="", why="give either ids or a sandbox to events")
            found = await self.load_sandbox(sandbox)
            happening = following.sandbox((found.root.id, found.instance))
        elif ids is None:
            happening = following.all()
        else:
            several = [await self._loaded(each) for each in several_of(ids)]
            happening = following.some([(each.id, each.instance) for each in several])
        async with contextlib.aclosing(happening):
            async for each in happening:
                yield each
