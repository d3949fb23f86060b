"""A piece of work that is killed at every single system call it makes, one child after the other."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from tests.helpers.processes import Interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def serve(work: Callable[[int], object], calls: Sequence[str]) -> None:
    """Fork a child for each line that comes; the nth is killed at its nth call of these of `os`.

    A write is half done then. Prints what became of each; ends after the first that comes through.
    """
    step = 0
    while sys.stdin.readline():
        step += 1
        pid = os.fork()
        if pid == 0:
            try:
                _die_at(step, calls)
                work(step)
                os._exit(0)
            except BaseException as error:
                _say(f"failed: {error!r}")
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        _say("finished" if status == 0 else f"killed by {os.WTERMSIG(status)}")
        if status == 0:
            return


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _die_at(step: int, calls: Sequence[str]) -> None:
    count = 0

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                if name == "write":
                    real(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(os, name, wrapped)

    for name in calls:
        wrap(name)


def stages(code: str, *args: object) -> Iterator[bool]:
    """Run `code`, which serves; yields after each child whether it came through, at the end True.

    What is on disk then is what the kill has left; going on asks for the next one.
    """
    with Interpreter(code, *args) as driver:
        finished = False
        while not finished:
            driver.say("go")
            told = driver.line()
            assert told in {"finished", "killed by 9"}
            finished = told == "finished"
            yield finished
