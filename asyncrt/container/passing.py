"""Descriptors of ours that a new process gets beside its standard streams."""

from __future__ import annotations

import os
from collections.abc import Mapping

from asyncrt.container.streams import HasFileno
from asyncrt.errors import SpecInvalid

PassedFds = Mapping[int, int | HasFileno]

# What one message can bring (SCM_MAX_FD: 253), less the directory, the streams and a console socket.
MOST = 248


class Passed:
    """Which descriptors, and the numbers that they are to have inside; checked."""

    def __init__(self, pass_fds: PassedFds | None) -> None:
        """Raises SpecInvalid for what isn't open, and for numbers that aren't free to be had."""
        given: object = {} if pass_fds is None else pass_fds
        if not isinstance(given, Mapping):
            raise _invalid(f"{given!r} isn't a mapping, like {{3: listener}}, of number to file")
        if len(given) > MOST:
            raise _invalid(f"{len(given)} descriptors are too many; at most {MOST} can be passed")
        self.numbers: list[int] = []
        self.fds: list[int] = []
        for number, target in given.items():
            if not isinstance(number, int) or isinstance(number, bool) or not 3 <= number < 2**31:
                raise _invalid(f"{number!r} is no number from 3 on; the streams are 0, 1 and 2")
            self.numbers.append(number)
            self.fds.append(_descriptor(number, target))


def _descriptor(number: int, target: int | HasFileno) -> int:
    try:
        fd = target if isinstance(target, int) else target.fileno()
        os.fstat(fd)
    except (OSError, ValueError, AttributeError, OverflowError, TypeError) as error:
        raise _invalid(f"{target!r}, for {number}, isn't an open descriptor or file") from error
    return fd


def _invalid(why: str) -> SpecInvalid:
    return SpecInvalid(json_path="", why=f"pass_fds: {why}")
