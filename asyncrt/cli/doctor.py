"""doctor: what this machine lacks, and the command that mends it."""

from __future__ import annotations

import click

from asyncrt.cli import commands, errors, options, output
from asyncrt.cli import parameters as p

_STYLES = {"ok": "green", "limited": "yellow", "missing": "bold red"}

_COLUMNS = (
    output.Column("CHECK"),
    output.Column("STATE", styles=_STYLES),
    output.Column("FOUND"),
    output.Column("TO MEND IT"),
)


@click.command(
    cls=commands.Command,
    examples=["asyncrt doctor", "asyncrt doctor --format json"],
)
@p.formats("table", "json")
@click.pass_context
def doctor(context: click.Context, format_: str) -> int:
    """Check what this machine lacks for sandboxes.

    It looks with the rights of who asks. 'limited': some specs can't be honoured, and are refused. 'missing': no sandbox can be made, or
    none kept track of. Beside each stands the command that mends it, for root to run. Nothing is
    changed.

    Exits with 1 if anything is missing.
    """
    from asyncrt.platforms.linux.doctor import examine

    findings = examine(options.of(context).root)
    if format_ == "json":
        output.write(output.json_text([each._asdict() for each in findings]))
    else:
        output.write_table(_COLUMNS, findings)
    return errors.FAILED if any(each.state == "missing" for each in findings) else 0
