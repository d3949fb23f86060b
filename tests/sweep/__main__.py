"""Kill or fail every verb at every mutating call, and print the score. See `--help`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tests.helpers import reaping
from tests.sweep import calls, runc, verbs
from tests.sweep.score import Score
from tests.sweep.sweep import Sweep, disturbances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sweep.sweep import Found
    from tests.sweep.tracer import Point

    Make = Callable[[], Sweep | runc.RuncSweep]
    Disturbance = tuple[str, Point, str]

T = TypeVar("T")

_HELP = """\
For every verb under both supervisions: find the system calls by which it changes anything, in every
process of asyncrt's that takes part; then run it once for each of them, with that process killed
right before the call (or, with --errno, the call failing), and see that what is told afterwards is
true and that nothing is left. The exit status is 0 when at least 95 % were covered and all are
clean.
"""


def main() -> int:
    """The command's exit status."""
    parser = argparse.ArgumentParser("python -m tests.sweep", description=_HELP)
    parser.add_argument("--errno", action="store_true", help="fail calls instead of killing")
    parser.add_argument("--runc", action="store_true", help="sweep runc instead, to compare")
    parser.add_argument("--sample", type=int, metavar="N", help="N points, always the same")
    parser.add_argument("--verb", action="append", metavar="TEXT", help="only verbs with this text")
    parser.add_argument("--point", metavar="TEXT", help="only points with this text")
    parser.add_argument("--list", action="store_true", help="print the points, disturb nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="sweeps at a time")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was begun is cleared away
    if not calls.SUPPORTED:
        print("the numbers of system calls are known for x86-64 only", file=sys.stderr)
        return 2
    names: dict[str, Any] = {**runc.COMMANDS} if options.runc else verbs.every()
    chosen = {
        name: each
        for name, each in names.items()
        if not options.verb or any(text in name for text in options.verb)
    }
    make: Make = runc.RuncSweep if options.runc else partial(Sweep, chosen)
    with make() as sweep:
        found = {name: sweep.find(name) for name in chosen}
    every = [
        (name, point, errno)
        for name, each in found.items()
        for point, errno in disturbances(each, errno=options.errno)
        if not options.point or options.point in str(point)
    ]
    every = [*_sample(every, options.sample)]
    if options.list:
        for name, point, errno in every:
            print(f"{name}: {point} {errno}")
        return 0
    score = _share(make, found, every, max(1, options.jobs))
    print(score)
    return score.status


def _share(make: Make, found: dict[str, Found], every: list[Disturbance], jobs: int) -> Score:
    """Several sweeps beside each other, each with a root of its own and its part of the points."""
    parts = [_fork(make, found, every[part::jobs]) for part in range(jobs)]
    score = Score()
    try:
        for pid, said in parts:
            with open(said) as file:
                data = file.read()
            os.waitpid(pid, 0)
            score.add(json.loads(data) if data else None)
    except KeyboardInterrupt:
        for pid, _ in parts:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        raise
    return score


def _fork(make: Make, found: dict[str, Found], part: list[Disturbance]) -> tuple[int, int]:
    """A process that sweeps its part; its pid, and a descriptor that its score comes out of."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return pid, ours
    try:
        os.close(ours)
        reaping.forget_all()
        score = Score()
        with make() as sweep:
            for name, point, errno in part:
                result = sweep.disturb(name, found[name], point, errno)
                score.note(result)
                if result.faults or not result.hit:
                    print(score.line(result), flush=True)
        os.write(theirs, json.dumps(score.as_data()).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _sample(every: list[T], size: int | None) -> Iterator[T]:
    """That many, evenly spread, the same each time; None: all."""
    count = len(every)
    size = count if size is None else min(size, count)
    for index in range(size):
        yield every[index * count // size]


if __name__ == "__main__":
    sys.exit(main())
