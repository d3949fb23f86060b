"""Where the command begins and ends: every failure becomes one line and an exit status.

Kept apart from the commands so that an interrupt while they are imported finds its handler here.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

FAILED = 1


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command with `args` (default: the process's own) and exit with its status.

    0: done; 1: refused or failed, one line on stderr says what; 2: not understood. `run` and `exec`
    exit with their workload's status instead; an interrupted command with 128 + signal.
    """
    try:
        status = _run(args)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    sys.exit(_flush(status))


def _run(args: Sequence[str] | None) -> int:
    _fill_standard_descriptors()
    from asyncrt.cli.options import Options

    options = Options()
    try:
        from asyncrt.cli.app import app

        status = app.main(args, prog_name="asyncrt", obj=options, standalone_mode=False)
    except Exception as error:  # noqa: BLE001  # the edge of the program: nothing may pass as a traceback
        from asyncrt.cli import errors

        return errors.report(error, debug=options.debug)
    return status if isinstance(status, int) else 0


def _fill_standard_descriptors() -> None:
    """Have something on 0, 1 and 2, or a file of ours would become somebody's standard output."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is fd


def _flush(status: int) -> int:
    """Write out what is buffered while a failure can still be told; the status to exit with."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        from asyncrt.cli import errors

        # The interpreter flushes once more at its end, and would print a traceback.
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.close(quiet)
        if status == 0:
            status = errors.report(errors.output_failed(error))
    return status
