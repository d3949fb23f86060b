"""kill, stop, pause, resume: what is done to containers that run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import options, session
from asyncrt.cli import parameters as p

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from asyncrt.container import Container
    from asyncrt.engine import Engine

_PID = click.IntRange(min=1)


@click.command(
    cls=p.Command,
    examples=[
        "asyncrt kill web",
        "asyncrt kill web hup",
        "asyncrt kill --all web SIGKILL",
        "asyncrt kill --pid 4711 web 9",
    ],
)
@p.ID
@click.argument("signal", default="TERM")
@click.option("-a", "--all", is_flag=True, help="Signal every process of the container.")
@click.option("--pid", type=_PID, metavar="N", help="Signal this process of the container only.")
@click.option("--pgid", type=_PID, metavar="N", help="Signal this process group of it only.")
@click.pass_context
def kill(
    context: click.Context, id: str, signal: str, all: bool, pid: int | None, pgid: int | None
) -> int:
    """Send a signal (default TERM) to a container's first process.

    SIGNAL is a number, or a name with or without SIG, in any case. KILL works on a paused container
    at once; other signals arrive when it resumes. With --all, KILL returns when nothing of the
    container is alive, and a container that has stopped is no error.
    """
    if sum((all, pid is not None, pgid is not None)) > 1:
        raise click.UsageError("--all, --pid and --pgid exclude each other")

    async def work(engine: Engine) -> int:
        from asyncrt.cli.progress import Progress

        number = int(signal) if signal.isascii() and signal.isdigit() else signal
        async with Progress(f"killing {id}"):
            container = await engine.load(id)
            await container.kill(number, all=all, pid=pid, pgid=pgid)
        return 0

    return session.run(context, work)


@click.command(cls=p.Command, examples=["asyncrt stop web", "asyncrt stop --grace 2 web db"])
@p.IDS
@p.GRACE
@click.pass_context
def stop(context: click.Context, ids: Sequence[str], grace: float) -> int:
    """Stop containers: TERM, and after the grace KILL.

    KILL reaches all that is left of a container, not only its first process.
    """
    return _each(context, ids, lambda each: each.stop(grace_seconds=grace), doing="stopping")


@click.command(cls=p.Command, examples=["asyncrt pause web"])
@p.IDS
@click.pass_context
def pause(context: click.Context, ids: Sequence[str]) -> int:
    """Pause every process of containers, until 'asyncrt resume'."""
    return _each(context, ids, lambda each: each.pause(), doing="pausing")


@click.command(cls=p.Command, examples=["asyncrt resume web"])
@p.IDS
@click.pass_context
def resume(context: click.Context, ids: Sequence[str]) -> int:
    """Let paused containers go on where they were."""
    return _each(context, ids, lambda each: each.resume(), doing="resuming")


def _each(
    context: click.Context,
    ids: Sequence[str],
    act: Callable[[Container], Awaitable[object]],
    *,
    doing: str,
) -> int:
    async def work(engine: Engine) -> int:
        from asyncrt.cli import batch

        async def one(name: str) -> None:
            await act(await engine.load(name))

        return await batch.for_each(ids, one, doing=doing, debug=options.of(context).debug)

    return session.run(context, work)
