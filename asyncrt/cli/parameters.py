"""The arguments and options that several commands have."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from asyncrt.cli import complete, options, values

if TYPE_CHECKING:
    from collections.abc import Callable


def _check_absolute(context: click.Context, param: click.Parameter, path: str | None) -> str | None:
    if path is not None and not path.startswith("/"):
        below = os.path.normpath(path) if path else "."
        here = "$PWD" if below == "." else f"$PWD/{below}"
        why = f'{path!r} isn\'t an absolute path; write {param.opts[0]} "{here}"'
        raise click.BadParameter(why, context, param)
    return path


NEW_ID = click.argument("id", metavar="ID")
ID = click.argument("id", metavar="ID", shell_complete=complete.ids)
IDS = click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete.ids)
IDS_IF_ANY = click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete.ids)
ENV = click.option(
    "-e",
    "--env",
    type=values.Pair(),
    multiple=True,
    help="A variable of the program's environment; may be repeated. Nothing is inherited.",
)
ENV_BESIDE = click.option(
    "-e",
    "--env",
    type=values.Pair(),
    multiple=True,
    help="A variable beside those of the container; may be repeated.",
)
CWD = click.option(
    "--cwd",
    callback=_check_absolute,
    metavar="DIR",
    shell_complete=complete.directories,
    help="The program's working directory, an absolute path; / if not given.",
)
ENV_CHOSEN = click.option(
    "-e",
    "--env",
    type=values.Pair(),
    multiple=True,
    help="A variable of the program's environment, beside those above; may be repeated.",
)
CWD_HERE = click.option(
    "--cwd",
    callback=_check_absolute,
    metavar="DIR",
    shell_complete=complete.directories,
    help="The program's working directory, an absolute path; this one if not given, / with --rootfs.",
)
CWD_BESIDE = click.option(
    "--cwd",
    callback=_check_absolute,
    metavar="DIR",
    shell_complete=complete.directories,
    help="Its working directory; the container's if not given.",
)
USER = click.option(
    "-u", "--user", metavar="USER", help="Who runs the program: UID, NAME, UID:GID or NAME:GROUP."
)
GIDS = click.option(
    "-g",
    "--additional-gids",
    type=values.Gid(),
    metavar="GID",
    multiple=True,
    help="A group that it is in besides; may be repeated.",
)
PID_FILE = click.option(
    "--pid-file",
    metavar="FILE",
    shell_complete=complete.files,
    help="Write the process's pid here, last of all and whole (in place if it is a FIFO).",
)
MEMORY = click.option(
    "-m",
    "--memory",
    type=values.Size(),
    metavar="SIZE",
    help="The most memory it may have, as 256M; no swap beside it.",
)
PIDS = click.option(
    "--pids", type=values.WholeNumber(min=1), metavar="N", help="The most processes and threads."
)
CPU = click.option(
    "--cpu", type=values.Processors(), metavar="N", help="How many CPUs' time; 0.5 is half of one."
)
DEADLINE = click.option(
    "--deadline",
    type=values.Seconds(),
    help="Kill it, with all it started, when it has run for that long.",
)
GRACE = click.option(
    "-t",
    "--grace",
    type=values.Seconds(zero=True),
    default=10.0,
    show_default=True,
    help="How long TERM has to work before KILL.",
)
BUNDLE = click.option(
    "-b",
    "--bundle",
    metavar="DIR",
    shell_complete=complete.directories,
    help="An OCI bundle: a directory with config.json.",
)
LOG = click.option(
    "--log/--no-log",
    "log",
    default=None,
    help="Keep its output for 'asyncrt logs', or don't.",
)
LOG_OPT = click.option(
    "--log-opt",
    type=values.LogOption(),
    multiple=True,
    help="max-size=10m, max-file=5 (so many files are kept of each stream) or timestamps=false.",
)
_LAYERS = (
    "Have it write to a layer over its root, which stays as it is: memory, disk or disk=DIR (below "
    "DIR, gone with it), all of them with or without ,size=64M; or upper=DIR (kept there)."
)
OVERLAY = click.option(
    "--overlay",
    type=values.Layer(),
    help=f"{_LAYERS} It takes a --bundle that names a mount namespace. See 'asyncrt export'.",
)
OVERLAY_HERE = click.option("--overlay", type=values.Layer(), help=_LAYERS)
TTY = click.option(
    "-t",
    "--tty",
    is_flag=True,
    help="Give it a terminal, connected to this one; its size follows.",
)
TTY_WAITING = click.option("-t", "--tty", is_flag=True, help="Give it a terminal to attach to.")
DETACH_KEYS = click.option(
    "--detach-keys",
    type=values.Keys(),
    metavar="KEYS",
    default="ctrl-p,ctrl-q",
    show_default=True,
    help="What leaves a terminal and lets the program run on; '' is nothing.",
)
CONSOLE_SOCKET = click.option(
    "--console-socket",
    metavar="FILE",
    help="Send its terminal to who listens on this UNIX socket, as OCI runtimes do.",
)
NO_PIVOT = click.option(
    "--no-pivot",
    is_flag=True,
    expose_value=False,
    callback=lambda context, _, given: _set_no_pivot(context, given=given),
    help="Don't use pivot_root, which an initramfs refuses; no CAP_SYS_ADMIN inside then.",
)
PRESERVE_FDS = click.option(
    "--preserve-fds",
    type=values.WholeNumber(0, 248),  # as many as a create takes
    metavar="N",
    default=0,
    help="Pass descriptors 3 to 2 + N on to the program. (LISTEN_FDS is yours to set, by --env.)",
)
SANDBOX = click.option(
    "--sandbox", metavar="ID", shell_complete=complete.ids, help="Only those of this sandbox."
)
ANNOTATIONS = click.option(
    "--annotation",
    "annotations",
    type=values.Annotation(),
    multiple=True,
    help="Only those with this annotation; several: with all of them.",
)
ANNOTATED = click.option(
    "--annotation",
    "annotations",
    type=values.Pair("KEY=VALUE"),
    multiple=True,
    help="Note this on it, for 'asyncrt list --annotation'; may be repeated.",
)
UNTIL = click.option(
    "--until",
    type=values.Moment(),
    help="Only those created before then, or so long ago: 10m, 24h.",
)
DETACH = click.option("-d", "--detach", is_flag=True, help="Return once the program runs.")


def _set_no_pivot(context: click.Context, *, given: bool) -> None:
    options.of(context).pivot_root = not given


def formats(*names: str) -> Callable[[Any], Any]:
    """The option --format with the first name as its default."""
    return click.option(
        "-f",
        "--format",
        "format_",
        type=click.Choice(names),
        default=names[0],
        show_default=True,
        help=f"{names[0].capitalize()} for people, json for programs.",
    )
