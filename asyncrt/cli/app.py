"""The command `asyncrt` itself: its global options and the table of its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import asyncrt
from asyncrt.cli import (
    attach,
    complete,
    control,
    do,
    doctor,
    ending,
    execute,
    export,
    features,
    follow,
    gc,
    lifecycle,
    metrics,
    options,
    output,
    prune,
    ps,
    run,
    show,
    show_logs,
    spec,
    update,
)
from asyncrt.cli.commands import ToldHelp
from asyncrt.cli.guesses import COMMANDS as _GUESSES

if TYPE_CHECKING:
    from collections.abc import Sequence

_ORDER: Sequence[click.Command] = (
    run.run,
    do.do,
    lifecycle.create,
    lifecycle.start,
    execute.exec_,
    control.kill,
    control.stop,
    control.pause,
    control.resume,
    update.update,
    show.list_,
    show.state,
    ps.ps,
    follow.events,
    follow.watch,
    metrics.metrics,
    show_logs.logs,
    attach.attach,
    export.export,
    ending.wait,
    ending.delete,
    prune.prune,
    gc.gc,
    spec.spec,
    doctor.doctor,
    features.features,
)


class _App(ToldHelp, click.Group):
    """Lists its commands in the order of a container's life."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; another tool's name for one is told what it is called here."""
        advice = _GUESSES.get(args[0])
        if advice is not None and not ctx.resilient_parsing:
            raise click.UsageError(f"no such command {args[0]!r}; {advice}", ctx)
        return super().resolve_command(ctx, args)

    def format_epilog(
        self,
        ctx: click.Context,  # noqa: ARG002  # click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Example"):
            formatter.write("  asyncrt run hello -- echo hello\n")
        formatter.write("\n'asyncrt COMMAND --help' tells more of each, with examples.\n")
        formatter.write('eval "$(_ASYNCRT_COMPLETE=bash_source asyncrt)" has bash complete words ')
        formatter.write("(zsh_source and fish_source:\nzsh and fish).\n")


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    output.write(f"asyncrt {asyncrt.__version__}\n")
    context.exit()


@click.group(
    cls=_App,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--root",
    metavar="DIR",
    shell_complete=complete.directories,
    help="Where containers are kept. Default: $ASYNCRT_ROOT, else /run/asyncrt for root, else "
    "$XDG_RUNTIME_DIR/asyncrt, else asyncrt-UID in the temporary directory.",
)
@click.option(
    "--platform",
    type=click.Choice(["auto", "host", "linux"]),
    default="auto",
    show_default=True,
    help="How containers are made: host is a plain process without isolation, linux has the namespaces "
    "that a container's spec names, and none for one that names none. auto is the least that honours "
    "the spec.",
)
@click.option(
    "--log",
    metavar="FILE",
    shell_complete=complete.files,
    help="Append log records to this file.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How they are written: for people, or an object a line for programs.",
)
@click.option("--debug", is_flag=True, help="Log every step; show the traceback of an error.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def app(
    context: click.Context,
    root: str | None,
    platform: str,
    log: str | None,
    log_format: str,
    debug: bool,
) -> int:
    """Run and manage containers without a daemon.

    Any number of asyncrt processes may work on one root directory at the same time. A container's
    ID may be abbreviated wherever one is asked for that exists.

    Exits with 0 when all is done; with 1 when something was refused or has failed, of several ids
    also when only one was: a line on stderr says what; with 2 when it wasn't understood; with 128 +
    signal when interrupted. 'run', 'exec' and 'attach' exit with their program's status.
    """
    given = options.of(context)
    given.root = root
    given.platform = platform
    given.log = log
    given.log_format = log_format
    given.debug = debug
    if context.invoked_subcommand is None:
        output.write(context.get_help() + "\n")
    return 0


for _command in _ORDER:
    app.add_command(_command)
