"""Descriptors that a program finds open beside its standard streams, at the numbers asked for.

They are put in their places right before the exec, so that nothing that runs until then, a hook say,
has them. What tells of the exec, or of its failure, is moved out of their way before.
"""

from __future__ import annotations

import errno
import os

from asyncrt.launch.failure import Failure, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def moved(fds: Sequence[int], numbers: Sequence[int]) -> list[int]:
    """The same files, opened at none of `numbers` as well; not to be inherited. Raises Failure."""
    found: list[int] = []
    wrong: list[int] = []
    with step("descriptors", ""):
        for fd in fds:
            new = os.dup(fd)
            while new in numbers:
                wrong.append(new)  # stays for now, or the next would be the same
                new = os.dup(fd)
            found.append(new)
    for fd in wrong:
        os.close(fd)
    return found


def place(fds: Sequence[int], numbers: Sequence[int]) -> None:
    """Have each open at its number, to be inherited; what was there is closed. Raises Failure."""
    for fd, number in zip(moved(fds, numbers), numbers, strict=True):
        try:
            os.dup2(fd, number)
        except OSError as error:  # EBADF: more than we may have open (dup(2))
            raise Failure(f"descriptor {number}", "", errno.EMFILE) from error
