"""Lines in a root's log of events, without containers."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from asyncrt import _events
from asyncrt.state.event import encode_event

if TYPE_CHECKING:
    import asyncrt
    from asyncrt.state import EventLog, Position


def make_line(id: str = "web", revision: int = 1, **changes: object) -> bytes:
    """A line as an engine writes it."""
    fields = {
        "instance": f"{id}-instance",
        "sandbox": id,
        "operation": "save",
        "previous": "created",
        "status": "running",
        **changes,
    }
    return encode_event(id=id, revision=revision, **fields)  # type: ignore[arg-type]  # as given


def append_line(root: str, id: str = "web", revision: int = 1, **changes: object) -> bytes:
    """Append a line as an engine does."""
    line = make_line(id, revision, **changes)
    append_raw(root, line)
    return line


def append_raw(root: str, data: bytes) -> int:
    """Append any bytes as one line is appended; the log's size then."""
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _events.append(directory, data)
    finally:
        os.close(directory)


def read_on(log: EventLog, at: Position) -> tuple[list[asyncrt.Event], Position]:
    """All events after a position, and where the log ends."""
    found: list[asyncrt.Event] = []
    while True:
        page = log.read(at)
        found += page.events
        at = page.position
        if not page.events and not page.more:
            return found, at


async def take_life(watch: asyncrt.Watch) -> list[asyncrt.Event]:
    """The next events of a watch that has begun, up to a container's removal."""
    found = await take(watch, 1)
    while found[-1].status != "destroyed":
        found += await take(watch, 1)
    return found


async def take(watch: asyncrt.Watch, count: int) -> list[asyncrt.Event]:
    """The next events of a watch that has begun."""
    found: list[asyncrt.Event] = []
    async with contextlib.aclosing(watch.__aiter__()) as events:
        while len(found) < count:
            found.append(await anext(events))
    return found
