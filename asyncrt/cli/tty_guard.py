"""Puts a terminal back as it was when the command that made it raw is killed by SIGKILL.

A process of its own, started as a plain script: standard library only. It waits until its parent's
end of a pipe closes. A parent that has put the terminal back itself says so first. If somebody else
has changed the terminal since (a shell does as soon as its job is gone), it is his.
"""

from __future__ import annotations

import json
import os
import sys
import termios


def plain(attributes: list[object]) -> list[object]:
    """Terminal attributes as numbers, which json and tcsetattr both take."""
    *flags, control = attributes
    assert isinstance(control, list)  # noqa: S101 - termios.tcgetattr's seventh
    return [*flags, [each if isinstance(each, int) else each[0] for each in control]]


def main() -> None:
    """0 is the terminal, 3 the pipe, the argument the attributes before and after."""
    before, after = json.loads(sys.argv[1])
    if os.read(3, 1):
        return
    try:
        if plain(termios.tcgetattr(0)) == after:
            termios.tcsetattr(0, termios.TCSANOW, before)
    except termios.error:
        pass  # the terminal is gone


if __name__ == "__main__":
    main()
