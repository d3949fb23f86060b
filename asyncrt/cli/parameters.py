"""What the command line is made of: commands with examples, a program after `--`, typed values."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from asyncrt.cli import complete, errors, options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncrt.platforms import Overlay

PROGRAM = "program"
_BEGAN = "asyncrt.program-began"


class ToldHelp(click.Command):
    """A command whose help, when it can't be written, is an error like other output."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click's; parsing prints nothing but help and version."""
        try:
            return super().make_context(*args, **kwargs)
        except OSError as error:
            raise errors.output_failed(error) from error


class Command(ToldHelp):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs.setdefault("no_args_is_help", False)
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on a line as it would be typed."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Example" if len(self.examples) == 1 else "Examples"):
                for each in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{each}\n")


class ProgramCommand(Command):
    """A command that ends in a program with its arguments: `[OPTIONS] ID [OPTIONS] -- CMD ARGS...`.

    All from the program on belongs to the program and is passed untouched, whatever it looks like:
    an engine once dropped every argument of an exec that contained "detach". Without `--` the
    program begins right after the id, and options go before that. The callback gets the program as
    `program`, a tuple, empty if there was none.
    """

    program_usage = "[-- CMD [ARGS]...]"
    takes_id = True

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usage line, with the program at its end."""
        return [*super().collect_usage_pieces(ctx), self.program_usage]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the program off the end; the rest is for click."""
        before, program = split_program(self.params, args, seen_id=not self.takes_id)
        began = len(before) < len(args)
        rest = super().parse_args(ctx, before)
        ctx.params[PROGRAM] = program
        ctx.meta[_BEGAN] = began
        return rest

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Files for the program and its arguments, which are the shell's to know; else options."""
        if ctx.meta.get(_BEGAN):
            return [CompletionItem(incomplete, type="file")]
        return super().shell_complete(ctx, incomplete)


class NeedsProgramCommand(ProgramCommand):
    """A command that makes no sense without a program."""

    program_usage = "-- CMD [ARGS]..."

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As its parent; a usage error without a program."""
        rest = super().parse_args(ctx, args)
        if not ctx.params[PROGRAM] and not ctx.resilient_parsing:  # that is a shell's completion
            raise click.UsageError("missing program: write -- CMD [ARGS]... at the end", ctx=ctx)
        return rest


class OnlyProgramCommand(NeedsProgramCommand):
    """A command that takes a program and no id."""

    takes_id = False


def split_program(
    params: Sequence[click.Parameter], args: Sequence[str], *, seen_id: bool = False
) -> tuple[list[str], tuple[str, ...]]:
    """The arguments up to the program, and the program with its own."""
    takes_value = {
        name: isinstance(each, click.Option) and not each.is_flag
        for each in params
        for name in (*each.opts, *each.secondary_opts)
    }
    index = 0
    while index < len(args):
        each = args[index]
        if each == "--":
            return list(args[:index]), tuple(args[index + 1 :])
        if each.startswith("-") and len(each) > 1:
            index += 2 if _wants_next(each, takes_value) else 1
        elif seen_id:
            return list(args[:index]), tuple(args[index:])
        else:
            seen_id = True
            index += 1
    return list(args), ()


def _wants_next(option: str, takes_value: dict[str, bool]) -> bool:
    """Whether the option's value is the next argument."""
    if option.startswith("--"):
        return takes_value.get(option, False)
    for position, letter in enumerate(option[1:], start=1):
        if takes_value.get(f"-{letter}", False):
            return position == len(option) - 1
    return False


class _Seconds(click.ParamType[float]):
    name = "SECONDS"

    def __init__(self, *, zero: bool) -> None:
        self._zero = zero

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not self._zero):
            least = "0 or more" if self._zero else "more than 0"
            self.fail(f"{value!r} is no number of seconds, {least}", param, ctx)
        return seconds


class _Gid(click.ParamType[int]):
    name = "GID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        # Strict, unlike int(): no sign, space, underscore, other digits or leading zero.
        text = str(value)
        if not re.fullmatch("0|[1-9][0-9]{0,9}", text) or int(text) > 2**32 - 2:
            self.fail(f"{text!r} is no group id, a number from 0 to {2**32 - 2}", param, ctx)
        return int(text)


class _Variable(click.ParamType[tuple[str, str]]):
    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value[0], value[1]
        name, equals, rest = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} isn't NAME=VALUE", param, ctx)
        return name, rest


_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class Moment(click.ParamType["datetime | timedelta"]):
    """A time, or how long ago."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | timedelta:
        """As click's."""
        text = str(value)
        if text and re.fullmatch(r"([0-9.]+[dhms])+", text):
            try:
                parts = re.findall(r"([0-9.]+)([dhms])", text)
                return timedelta(seconds=sum(float(each) * _UNITS[unit] for each, unit in parts))
            except (ValueError, OverflowError):
                pass
        try:
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC)  # without a zone it is local time
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is no time: write 10m, 1h30m or 2026-01-31T12:00:00Z", param, ctx)


class _Annotation(click.ParamType["tuple[str, str | None]"]):
    name = "KEY[=VALUE]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | None]:
        del param, ctx
        if isinstance(value, tuple):
            return value[0], value[1]
        key, equals, rest = str(value).partition("=")
        return key, rest if equals else None


class _Keys(click.ParamType[bytes]):
    name = "KEYS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        if isinstance(value, bytes):
            return value
        from asyncrt.cli import detach_keys

        try:
            return detach_keys.parse(str(value))
        except ValueError as error:
            return self.fail(str(error), param, ctx)


_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class _LogOption(click.ParamType[tuple[str, Any]]):
    """An option of a log by the name that container engines know, as one of asyncrt.Log."""

    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value[0], value[1]
        name, _, rest = str(value).partition("=")
        if name == "max-size":
            if rest in {"-1", "unlimited"}:
                return "max_bytes", None
            digits = rest.rstrip("bkmgBKMG")
            unit = rest[len(digits) :].lower()
            if digits.isascii() and digits.isdecimal() and int(digits) and unit in _SIZES:
                return "max_bytes", int(digits) * _SIZES[unit]
        elif name == "max-file":
            if rest.isascii() and rest.isdecimal() and int(rest):
                return "files", int(rest)
        elif name == "timestamps":
            if rest in {"true", "false"}:
                return "timestamps", rest == "true"
        else:
            return self.fail(f"{name!r} is none of max-size, max-file, timestamps", param, ctx)
        return self.fail(f"{rest!r} is no value for {name}", param, ctx)


class _Overlay(click.ParamType["Overlay"]):
    name = "KIND[,size=SIZE]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Overlay:
        from asyncrt.errors import SpecInvalid
        from asyncrt.platforms import Overlay

        if isinstance(value, Overlay):
            return value
        kind, comma, rest = str(value).partition(",")
        kind, equals, path = kind.partition("=")
        name, _, size = rest.partition("=")
        try:
            if kind == "memory" and not equals and name in {"", "size"}:
                return Overlay.memory(size if comma else None)
            if kind == "disk" and name in {"", "size"}:
                return Overlay.disk(path if equals else None, size if comma else None)
            if kind == "upper" and path and not comma:
                return Overlay.upper(path)
        except SpecInvalid as error:
            return self.fail(error.why, param, ctx)
        return self.fail(
            f"{value!r} is none of memory, disk, disk=DIR, with or without ,size=64M, and upper=DIR",
            param,
            ctx,
        )


class WholeNumber(click.IntRange):
    """A number in a range; what is none is told to be no number, not to be no range."""

    name = "whole number"


def _check_absolute(context: click.Context, param: click.Parameter, path: str | None) -> str | None:
    if path is not None and not path.startswith("/"):
        raise click.BadParameter(f"{path!r} isn't an absolute path", context, param)
    return path


NEW_ID = click.argument("id", metavar="ID")
ID = click.argument("id", metavar="ID", shell_complete=complete.ids)
IDS = click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete.ids)
IDS_IF_ANY = click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete.ids)
ENV = click.option(
    "-e",
    "--env",
    type=_Variable(),
    multiple=True,
    help="A variable of the program's environment; may be repeated. Nothing is inherited.",
)
ENV_BESIDE = click.option(
    "-e",
    "--env",
    type=_Variable(),
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
    type=_Variable(),
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
    type=_Gid(),
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
SECONDS = _Seconds(zero=False)
DEADLINE = click.option(
    "--deadline",
    type=SECONDS,
    help="Kill it, with all it started, when it has run for that long.",
)
GRACE = click.option(
    "-t",
    "--grace",
    type=_Seconds(zero=True),
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
    type=_LogOption(),
    multiple=True,
    help="max-size=10m, max-file=5 (so many files are kept of each stream) or timestamps=false.",
)
_LAYERS = (
    "Have it write to a layer over its root, which stays as it is: memory, disk or disk=DIR (below "
    "DIR, gone with it), all of them with or without ,size=64M; or upper=DIR (kept there)."
)
OVERLAY = click.option(
    "--overlay",
    type=_Overlay(),
    help=f"{_LAYERS} It takes a --bundle that names a mount namespace. See 'asyncrt export'.",
)
OVERLAY_HERE = click.option("--overlay", type=_Overlay(), help=_LAYERS)
TTY = click.option(
    "-t",
    "--tty",
    is_flag=True,
    help="Give it a terminal, connected to this one; its size follows.",
)
TTY_WAITING = click.option("-t", "--tty", is_flag=True, help="Give it a terminal to attach to.")
DETACH_KEYS = click.option(
    "--detach-keys",
    type=_Keys(),
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
    type=WholeNumber(0, 248),  # as many as a create takes
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
    type=_Annotation(),
    multiple=True,
    help="Only those with this annotation; several: with all of them.",
)
UNTIL = click.option(
    "--until", type=Moment(), help="Only those created before then, or so long ago: 10m, 24h."
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
