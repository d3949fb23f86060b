"""One command, one event loop, one engine: run a piece of work between signals and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncrt.cli import options
from asyncrt.cli.errors import CommandFailedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import click

    from asyncrt.cli.signals import Signals
    from asyncrt.engine import Engine

    Work = Callable[[Engine], Awaitable[int]]
    AttachedWork = Callable[[Engine, Signals], Awaitable[int]]


def run(context: click.Context, work: Work, *, creates: bool = False) -> int:
    """The exit status of `work`, run with the engine that the global options ask for.

    Unless it `creates` a container, a root directory that was named must be there: one that is
    mistyped has nothing in it, and isn't made to say so. Raises CommandFailedError.
    """
    return run_attached(context, lambda engine, _: work(engine), creates=creates)


def run_attached(context: click.Context, work: AttachedWork, *, creates: bool = False) -> int:
    """As run, for work that decides for itself what becomes of signals."""
    import asyncio

    from asyncrt.cli import logs

    given = options.of(context)
    logs.set_up(given)
    if not creates and is_missing(given.root):
        raise CommandFailedError(
            f"there is no root directory {given.root}, and none was made; give another with --root "
            "(the first container that is created there makes it)"
        )
    return asyncio.run(_run(context, given, work))


def is_missing(root: str | None) -> bool:
    """Whether a root directory was named that isn't there, not even as a link to nothing."""
    import os

    return bool(root) and not os.path.lexists(root or "")


async def _run(context: click.Context, given: options.Options, work: AttachedWork) -> int:
    import asyncio
    import logging

    from asyncrt.cli.signals import Signals
    from asyncrt.engine import Engine

    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # asyncio.run made it
    with Signals(task) as signals:
        try:
            made = Engine(given.root, platform=given.platform, pivot_root=given.pivot_root)
            async with made as engine:
                logging.getLogger("asyncrt.cli").debug(
                    "%s: root %s, platform %s", context.info_name, engine.root, given.platform
                )
                return await work(engine, signals)
        except asyncio.CancelledError:
            if signals.interrupted_by is None:
                raise
            return 128 + signals.interrupted_by
