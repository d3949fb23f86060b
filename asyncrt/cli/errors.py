"""Failures as people read them: one line on stderr that says what, where and what to do."""

from __future__ import annotations

import os
import signal
import sys

import click

from asyncrt.cli.text import printable
from asyncrt.errors import AsyncrtError

FAILED = 1
NOT_UNDERSTOOD = 2


class CommandFailedError(Exception):
    """A failure of the command line's own; its text is the line to show."""


class OutputClosedError(Exception):
    """Whoever read our output has gone, as `head` does when it has enough. No error to tell."""


def output_failed(error: OSError) -> Exception:
    """What a failure to write to standard output means."""
    if isinstance(error, BrokenPipeError):
        return OutputClosedError()
    return CommandFailedError(f"can't write the output: {_reason(error)}")


def say(line: str) -> None:
    """Write one line to stderr; one that can't be written is dropped, as there is nowhere to tell."""
    try:
        sys.stderr.write(f"asyncrt: {printable(line)}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def report(error: BaseException, *, debug: bool = False) -> int:
    """Tell of a failure, once, on stderr and in the log; the exit status it means."""
    if isinstance(error, OutputClosedError):
        return 128 + signal.SIGPIPE
    if isinstance(error, click.Abort):
        return 128 + signal.SIGINT
    if debug and not isinstance(error, click.UsageError):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, BaseExceptionGroup):
        status = FAILED
        for each in error.exceptions:
            status = report(each)
        return status
    line = describe(error)
    say(line)
    import logging

    if logging.getLogger().handlers:  # a command line that wasn't understood set up none
        logging.getLogger("asyncrt.cli").error("%s", line, extra={"told": True})
    return NOT_UNDERSTOOD if isinstance(error, click.UsageError) else FAILED


def describe(error: BaseException) -> str:
    """The line for an error, without the leading name of the command."""
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, AsyncrtError | CommandFailedError):
        return str(error)
    if isinstance(error, OSError):
        return _reason(error)
    if isinstance(error, MemoryError):
        return "out of memory"
    kind = type(error).__name__
    return f"internal error, {kind}: {error}; 'asyncrt --debug ...' shows where"


def _reason(error: OSError) -> str:
    why = os.strerror(error.errno) if error.errno else str(error)
    names = [os.fsdecode(each) for each in (error.filename, error.filename2) if _is_path(each)]
    return f"{' and '.join(names)}: {why}" if names else why


def _is_path(name: object) -> bool:
    return isinstance(name, str | bytes)


def _usage(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx is not None else "asyncrt"
    message = error.format_message().rstrip(".")
    # click's own guesses are a sentence of their own, some of them in parentheses.
    what, guess, names = message.replace("(Did", "Did").partition(" Did you mean ")
    if guess:
        message = f"{what.rstrip('.')}; did you mean {names.rstrip('?)')}"
    command = path.removeprefix("asyncrt").strip()
    where = f"{command}: " if command else ""
    return f"{where}{message[:1].lower()}{message[1:]}; see '{path} --help'"
