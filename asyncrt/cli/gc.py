"""gc: what killed processes left is found and mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, errors, output, session
from asyncrt.cli import parameters as p

if TYPE_CHECKING:
    from asyncrt.engine import Engine, Finding

_STYLES = {"mended": "green", "would mend": "yellow", "busy": "yellow", "failed": "bold red"}

_COLUMNS = (
    output.Column("FOUND"),
    output.Column("WHERE"),
    output.Column("OUTCOME", styles=_STYLES),
    output.Column("WHAT", flexible=True),
)


@click.command(
    cls=commands.Command,
    examples=["asyncrt gc --dry-run", "asyncrt gc", "asyncrt gc --format json"],
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@p.formats("table", "json")
@click.pass_context
def gc(context: click.Context, dry_run: bool, format_: str) -> int:
    """Clear up what killed processes left, and say what that was.

    Finishes interrupted creations and deletions, poststop hooks included; writes ends that nobody
    wrote down into their records; removes containers with a lease (those of a killed 'asyncrt run'
    or pool) that have ended and whose owners are gone; has the output of programs whose supervisor was
    killed written into their logs again; ends processes and removes files that no
    record tells of; completes the log of events. Whatever somebody else has in hand just now is busy
    and let be. Other stopped containers stay until 'asyncrt delete'.

    Exits with 1 if something couldn't be mended or a record is broken: 'asyncrt delete --force'
    removes such a container.
    """

    async def work(engine: Engine) -> int:
        from asyncrt.cli.progress import Progress

        async with Progress("looking for what is left" if dry_run else "clearing up"):
            report = await engine.recover(dry_run)
        if format_ == "json":
            import msgspec

            output.write(output.json_text([msgspec.to_builtins(each) for each in report.findings]))
        elif report.findings:
            output.write_table(_COLUMNS, [_row(each) for each in report.findings])
        else:
            output.write("nothing to clear up\n")
        return 0 if report.complete else errors.FAILED

    return session.run(context, work)


def _row(each: Finding) -> tuple[str, str, str, str]:
    pid = "" if each.pid is None else f"pid {each.pid}"
    return each.kind, each.id or each.path or pid, each.outcome, each.why or each.action
