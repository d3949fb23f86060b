"""--preserve-fds: descriptors that whoever started the command opened for the program to have."""

from __future__ import annotations

import os

import click


def preserved(count: int) -> dict[int, int]:
    """Descriptors 3 to 2 + `count`, each at its own number.

    Raises UsageError for one that we didn't come with: what has its number by now is our own. The
    interpreter opens nothing that could be inherited (PEP 446), and what came with us could.
    """
    found = range(3, 3 + count)
    for fd in found:
        if not _came_with_us(fd):
            raise click.UsageError(
                f"--preserve-fds {count} passes descriptors 3 to {2 + count}, and {fd} isn't open"
            )
    return {fd: fd for fd in found}


def _came_with_us(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False
