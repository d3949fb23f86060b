"""list, state, ps: what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import complete, output, session
from asyncrt.cli import parameters as p
from asyncrt.errors import InvalidId
from asyncrt.ids import check_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

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

_PS_COLUMNS = (
    output.Column("PID", right=True),
    output.Column("PPID", right=True),
    output.Column("USER"),
    output.Column("STATE"),
    output.Column("STARTED"),
    output.Column("CPU", right=True),
    output.Column("RSS", right=True),
    output.Column("COMMAND", flexible=True),
)


@click.command(
    "list",
    cls=p.Command,
    examples=[
        "asyncrt list",
        "asyncrt list --format json --status running --status paused",
        "asyncrt list -q --annotation team=blue | xargs asyncrt stop",
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
@click.option(
    "--sandbox", metavar="ID", shell_complete=complete.ids, help="Only those of this sandbox."
)
@click.option(
    "--annotation",
    "annotations",
    metavar="KEY[=VALUE]",
    multiple=True,
    help="Only those with this annotation; several: with all of them.",
)
@click.pass_context
def list_(
    context: click.Context,
    format_: str,
    quiet: bool,
    status: Sequence[str],
    sandbox: str | None,
    annotations: Sequence[str],
) -> int:
    """List the containers, or those that the options ask for.

    Never waits for one that is being changed. EXIT is how a stopped one ended: its exit status or
    the signal that killed it. A broken one is listed too, and why it is broken told on stderr.
    """
    if quiet and format_ == "json":
        raise click.UsageError("--quiet and --format json exclude each other")
    if sandbox is not None:
        try:
            check_id(sandbox)
        except InvalidId as error:
            raise click.BadParameter(str(error), param_hint="--sandbox") from error

    async def work(engine: Engine) -> int:
        from asyncrt.cli.progress import Progress

        async with Progress("listing the containers"):
            views = await engine.list(
                status=status or None,
                sandbox=sandbox,
                annotations=dict(map(_annotation, annotations)),
            )
        if quiet:
            output.write("".join(f"{each.id}\n" for each in views))
        elif format_ == "json":
            output.write(output.json_text([output.view_document(each) for each in views]))
        else:
            output.write_table(_LIST_COLUMNS, [_row(each) for each in views])
            _tell_broken(views)
        return 0

    return session.run(context, work)


def _annotation(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    return key, value if equals else None


def _row(view: View) -> Sequence[str]:
    return (
        view.id,
        "broken" if view.status is None else view.status.value,
        "" if view.pid is None else str(view.pid),
        "" if view.exit is None else output.exit_words(view.exit),
        _stamp(view.created_at),
        view.owner,
        view.bundle or "",
    )


def _tell_broken(views: Sequence[View]) -> None:
    from asyncrt.cli import errors

    for each in views:
        if each.broken is not None:
            errors.say(f"warning: {each.id}: {each.broken}")


def _stamp(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@click.command(cls=p.Command, examples=["asyncrt state web"])
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


@click.command(cls=p.Command, examples=["asyncrt ps web", "asyncrt ps --format json web"])
@p.ID
@p.formats("table", "json")
@click.pass_context
def ps(context: click.Context, id: str, format_: str) -> int:
    """List the processes of a container."""

    async def work(engine: Engine) -> int:
        import msgspec

        container = await engine.load(id)
        found = await container.processes()
        if format_ == "json":
            output.write(output.json_text(msgspec.to_builtins(found)))
            return 0
        rows = [
            (
                str(each.pid),
                str(each.ppid),
                each.user,
                each.state,
                _stamp(each.started_at),
                f"{each.cpu_seconds:.2f}",
                f"{each.rss_bytes // 1024}K",
                " ".join(each.command),
            )
            for each in found
        ]
        output.write_table(_PS_COLUMNS, rows)
        return 0

    return session.run(context, work)
