"""kill, stop, pause, resume: what is done to containers that run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, complete, options, placing, session, values
from asyncrt.cli import parameters as p
from asyncrt.cli.errors import CommandFailedError
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from asyncrt.container import Container
    from asyncrt.engine import Engine

_PID = values.WholeNumber(min=1)


@click.command(
    cls=commands.Command,
    examples=[
        "asyncrt kill web",
        "asyncrt kill web hup",
        "asyncrt kill web db cache",
        "asyncrt kill --all web db SIGKILL",
        "asyncrt kill --signal TERM web int",
        "asyncrt kill --pid 4711 web 9",
        "asyncrt kill --sandbox pod --signal KILL",
    ],
)
@click.argument(
    "words",
    metavar="[ID]... [SIGNAL]",
    nargs=-1,
    shell_complete=complete.ids_or_signals,
)
@click.option(
    "-s",
    "--signal",
    metavar="SIGNAL",
    shell_complete=complete.signals,
    help="The signal; all that isn't an option is an id then.",
)
@placing.OF
@click.option("-a", "--all", is_flag=True, help="Signal every process of the container.")
@click.option("--pid", type=_PID, metavar="N", help="Signal this process of the container only.")
@click.option("--pgid", type=_PID, metavar="N", help="Signal this process group of it only.")
@click.pass_context
def kill(
    context: click.Context,
    words: Sequence[str],
    signal: str | None,
    sandbox: str | None,
    all: bool,
    pid: int | None,
    pgid: int | None,
) -> int:
    """Send a signal (default TERM) to the first process of containers.

    SIGNAL is a number, or a name with or without SIG, in any case. The last of several words is
    taken for one if it is one, or looks like one (a number, or capitals); to reach a container with
    such an id use --signal. KILL works on a paused container at once; other signals arrive when it
    resumes. With --all, KILL returns when nothing of the container is alive, and a container that
    has stopped is no error. One that can't be signalled is told, and the others are all the same.
    """
    if sum((all, pid is not None, pgid is not None)) > 1:
        raise click.UsageError("--all, --pid and --pgid exclude each other")
    placing.check(words, sandbox)
    ids, named = (
        (words, signal) if signal is not None else _split_signal(words, alone=sandbox is None)
    )
    number = _number("TERM" if named is None else named)
    if (len(ids) > 1 or sandbox is not None) and (pid is not None or pgid is not None):
        raise click.UsageError("--pid and --pgid are for one container")

    async def work(engine: Engine) -> int:
        from asyncrt.errors import ContainerNotFound

        if signal is None and len(words) == 2 and len(ids) == 2:
            # One container and a misspelt signal, most likely: TERM isn't what was meant.
            try:
                await engine.load(words[1])
            except ContainerNotFound as error:
                raise CommandFailedError(
                    f"there is no signal and no container {words[1]!r} in {engine.root}; "
                    "nothing was sent"
                ) from error
        return await _to_each(
            context,
            engine,
            ids,
            sandbox,
            lambda each: each.kill(number, all=all, pid=pid, pgid=pgid),
            doing="killing",
        )

    return session.run(context, work)


def _split_signal(words: Sequence[str], *, alone: bool) -> tuple[Sequence[str], str | None]:
    """The ids, and the signal if the last word is one, or was meant to be. Of them `alone` one is an id."""
    if len(words) <= alone:
        return words, None
    *ids, last = words
    from asyncrt.container.kill import signal_number
    from asyncrt.errors import SpecInvalid

    try:
        signal_number(last)
    except SpecInvalid:
        if not (last.isdigit() or last.isupper() or last[:3].upper() == "SIG"):
            return words, None
    return ids, last


def _number(signal: str) -> int:
    """Its number. Raises SpecInvalid, before anything is sent to anybody."""
    from asyncrt.container.kill import signal_number

    return signal_number(signal)


@click.command(cls=commands.Command, examples=["asyncrt stop web", "asyncrt stop --grace 2 web db"])
@p.IDS_IF_ANY
@placing.OF
@p.GRACE
@click.pass_context
def stop(context: click.Context, ids: Sequence[str], sandbox: str | None, grace: float) -> int:
    """Stop containers: TERM, and after the grace KILL.

    KILL reaches all that is left of a container, not only its first process. It stays, stopped, until
    'asyncrt delete'. Several are stopped side by side; one that can't be is told. Of a sandbox the root
    is stopped last, whose end would end the others.
    """
    return _each(
        context, ids, sandbox, lambda each: each.stop(grace_seconds=grace), doing="stopping"
    )


@click.command(cls=commands.Command, examples=["asyncrt pause web", "asyncrt pause web db"])
@p.IDS_IF_ANY
@placing.OF
@click.pass_context
def pause(context: click.Context, ids: Sequence[str], sandbox: str | None) -> int:
    """Pause every process of containers, until 'asyncrt resume'.

    A created one may be paused as well, and is created again then. KILL reaches a paused container
    at once, other signals when it resumes. One that can't be paused is told, and the others are all
    the same.
    """
    return _each(context, ids, sandbox, lambda each: each.pause(), Status.PAUSED, doing="pausing")


@click.command(
    cls=commands.Command,
    examples=["asyncrt resume web", "asyncrt list -q --status paused | xargs -r asyncrt resume"],
)
@p.IDS_IF_ANY
@placing.OF
@click.pass_context
def resume(context: click.Context, ids: Sequence[str], sandbox: str | None) -> int:
    """Let paused containers go on where they were.

    One that can't be resumed is told, and the others are all the same.
    """
    reached = Status.CREATED, Status.RUNNING
    return _each(context, ids, sandbox, lambda each: each.resume(), *reached, doing="resuming")


def _each(
    context: click.Context,
    ids: Sequence[str],
    sandbox: str | None,
    act: Callable[[Container], Awaitable[object]],
    *reached: Status,
    doing: str,
) -> int:
    placing.check(ids, sandbox)

    async def work(engine: Engine) -> int:
        return await _to_each(context, engine, ids, sandbox, act, *reached, doing=doing)

    return session.run(context, work)


async def _to_each(
    context: click.Context,
    engine: Engine,
    ids: Sequence[str],
    sandbox: str | None,
    act: Callable[[Container], Awaitable[object]],
    *reached: Status,
    doing: str,
) -> int:
    from asyncrt.cli import batch

    async def one(name: str) -> None:
        with placing.passing_over(name, ids, sandbox, *reached):
            await act(await engine.load(name))

    turns = await placing.stages(engine, ids, sandbox)
    return await batch.in_turns(turns, one, doing=doing, debug=options.of(context).debug)
