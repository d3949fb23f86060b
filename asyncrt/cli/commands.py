"""What a command is here: its help ends with examples, and its line, where it runs one, in a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from asyncrt.cli import errors, guesses

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's; what isn't understood is told as this command's, also an option without value."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            advice = guesses.OPTIONS.get(error.option_name)
            if advice is None:
                raise
            raise click.UsageError(
                f"no such option {error.option_name!r}; {advice}", ctx
            ) from error
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise


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
