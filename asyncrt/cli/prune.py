"""prune: stopped containers are deleted, all or some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, errors, options, output, placing, session
from asyncrt.cli import parameters as p

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from asyncrt.engine import Engine


@click.command(
    cls=commands.Command,
    examples=[
        "asyncrt prune --dry-run",
        "asyncrt prune --until 24h",
        "asyncrt prune --annotation team=blue",
    ],
)
@p.SANDBOX
@p.ANNOTATIONS
@p.UNTIL
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.pass_context
def prune(
    context: click.Context,
    sandbox: str | None,
    annotations: Sequence[tuple[str, str | None]],
    until: datetime | timedelta | None,
    dry_run: bool,
) -> int:
    """Delete stopped containers, all or some.

    Prints the id of each that is deleted, once it is. Their exits and logs go with them. Nothing is
    asked first; --dry-run prints the ids and deletes nothing. One that can't be deleted is told, and
    the others are all the same. (What killed processes have left is cleared up by 'asyncrt gc'.)
    """

    async def work(engine: Engine) -> int:
        from asyncrt.cli.progress import Progress

        async with Progress("looking for stopped containers" if dry_run else "pruning"):
            found = await engine.prune(
                sandbox=await placing.whole(engine, sandbox),
                annotations=dict(annotations),
                until=until,
                dry_run=dry_run,
            )
        output.write("".join(f"{id}\n" for id, error in found.items() if error is None))
        status = 0
        for error in filter(None, found.values()):
            status = errors.report(error, debug=options.of(context).debug)
        return status

    return session.run(context, work)
