"""list, state: what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, output, placing, session
from asyncrt.cli import parameters as p

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from asyncrt.engine import Engine
    from asyncrt.state import View

_STYLES = {"running": "green", "paused": "yellow", "stopped": "dim", "broken": "bold red"}

_LIST_COLUMNS = (
    output.Column("ID"),
    output.Column("STATUS", styles=_STYLES),
    output.Column("PID", right=True),
    output.Column("EXIT"),
    output.Column("CREATED"),
    output.Column("OWNER"),
    output.Column("BUNDLE", flexible=True),
)


@click.command(
    "list",
    cls=commands.Command,
    examples=[
        "asyncrt list",
        "asyncrt list --format json --status running --status paused",
        "asyncrt list -q --annotation team=blue | xargs -r asyncrt stop",
    ],
)
@p.formats("table", "json")
@click.option("-q", "--quiet", is_flag=True, help="Ids only, one a line.")
@click.option(
    "--status",
    type=click.Choice(["creating", "created", "running", "paused", "stopped", "broken"]),
    multiple=True,
    help="Only those in this status; several: in one of them.",
)
@p.SANDBOX
@p.ANNOTATIONS
@p.UNTIL
@click.pass_context
def list_(
    context: click.Context,
    format_: str,
    quiet: bool,
    status: Sequence[str],
    sandbox: str | None,
    annotations: Sequence[tuple[str, str | None]],
    until: datetime | timedelta | None,
) -> int:
    """List the containers, or those that the options ask for.

    Never waits for one that is being changed. EXIT is how a stopped one ended: its exit status or
    the signal that killed it. SANDBOX is shown where several are in one. A broken one is listed too, and why it is broken told on stderr.
    """
    if quiet and format_ == "json":
        raise click.UsageError("--quiet and --format json exclude each other")

    async def work(engine: Engine) -> int:
        from asyncrt.cli.progress import Progress

        async with Progress("listing the containers"):
            views = await engine.list(
                status=status or None,
                sandbox=await placing.whole(engine, sandbox),
                annotations=dict(annotations),
                until=until,
            )
        if quiet:
            output.write("".join(f"{each.id}\n" for each in views))
        elif format_ == "json":
            output.write(output.json_text([output.view_document(each) for each in views]))
        else:
            if any(each.sandbox != each.id for each in views if each.broken is None):
                columns = (*_LIST_COLUMNS[:1], output.Column("SANDBOX"), *_LIST_COLUMNS[1:])
                rows = [(each.id, each.sandbox, *_row(each)[1:]) for each in views]
                output.write_table(columns, rows)
            else:
                output.write_table(_LIST_COLUMNS, [_row(each) for each in views])
            _tell_broken(views)
        return 0

    return session.run(context, work)


def _row(view: View) -> Sequence[str]:
    return (
        view.id,
        "broken" if view.status is None else view.status.value,
        "" if view.pid is None else str(view.pid),
        "" if view.exit is None else output.exit_words(view.exit),
        output.stamp(view.created_at),
        view.owner,
        view.bundle or "",
    )


def _tell_broken(views: Sequence[View]) -> None:
    from asyncrt.cli import errors

    for each in views:
        if each.broken is not None:
            errors.say(f"warning: {each.id}: {each.broken}")


@click.command(cls=commands.Command, examples=["asyncrt state web"])
@p.ID
@click.pass_context
def state(context: click.Context, id: str) -> int:
    """Print a container's OCI state as JSON.

    Its id, status, pid, bundle and annotations, as the OCI runtime specification has them.
    """

    async def work(engine: Engine) -> int:
        container = await engine.load(id)
        output.write(output.json_text(await container.state()))
        return 0

    return session.run(context, work)
