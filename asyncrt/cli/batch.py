"""The same thing done to several containers: one failure is told and doesn't stop the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from asyncrt.cli import errors, output
from asyncrt.cli.progress import Progress
from asyncrt.errors import AsyncrtError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

AT_ONCE = 64  # each holds a few descriptors, and a shell's limit is often 1024


async def in_turns(
    turns: Sequence[Sequence[str]],
    act: Callable[[str], Awaitable[str | None]],
    *,
    doing: str,
    debug: bool = False,
) -> int:
    """As for_each, with all of one turn before any of the next.

    If cancelled, so is what is under way.
    """
    status = 0
    for ids in turns:
        if ids:
            status = await for_each(ids, act, doing=doing, debug=debug) or status
    return status


async def for_each(
    ids: Sequence[str],
    act: Callable[[str], Awaitable[str | None]],
    *,
    doing: str,
    at_once: int = AT_ONCE,
    debug: bool = False,
) -> int:
    """Do `act` to every id, several at once, print what it returns; the exit status.

    An id given twice counts once.

    If cancelled, so is what is under way.
    """
    names = list(dict.fromkeys(ids))
    room = asyncio.Semaphore(at_once)
    status = 0

    async def one(name: str, progress: Progress) -> None:
        nonlocal status
        async with room:
            try:
                text = await act(name)
                if text is not None:
                    with progress.hidden():
                        output.write(text)
            except (AsyncrtError, OSError, errors.CommandFailedError) as error:
                with progress.hidden():
                    status = errors.report(error, debug=debug)
        progress.advance()

    what = f"{doing} {names[0]}" if len(names) == 1 else f"{doing} {len(names)} containers"
    async with Progress(what, total=len(names)) as progress:
        if len(names) == 1:
            await one(names[0], progress)
        else:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(one(name, progress))
    return status
