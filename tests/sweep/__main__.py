"""Kill or fail every verb at every mutating call, and print the score. See `--help`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from tests.helpers.processes import REPOSITORY
from tests.sweep import calls, runc, verbs
from tests.sweep.score import Score
from tests.sweep.sweep import Sweep, disturbances

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--score", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not calls.SUPPORTED:
        print("the numbers of system calls are known for x86-64 only", file=sys.stderr)
        return 2
    if options.part is not None or options.jobs == 1 or options.list:
        return _sweep(options)
    return _share(options.jobs, sys.argv[1:])


def _share(jobs: int, arguments: list[str]) -> int:
    """Several sweeps beside each other, each with a root of its own and its part of the points."""
    parts = []
    for part in range(jobs):
        ours, theirs = os.pipe()
        more = ["--jobs", str(jobs), "--part", str(part), "--score", str(theirs)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.sweep", *arguments, *more],
            cwd=REPOSITORY,
            pass_fds=[theirs],
        )
        os.close(theirs)
        parts.append((process, ours))
    score = Score()
    for process, ours in parts:
        with open(ours) as file:
            said = file.read()
        score.add(json.loads(said) if process.wait() == 0 and said else None)
    print(score)
    return score.status


def _sweep(options: argparse.Namespace) -> int:
    score = Score()
    names: dict[str, Any] = {**runc.COMMANDS} if options.runc else verbs.every()
    chosen = {
        name: each
        for name, each in names.items()
        if not options.verb or any(text in name for text in options.verb)
    }
    with runc.RuncSweep() if options.runc else Sweep(chosen) as sweep:
        found = {name: sweep.find(name) for name in chosen}
        every = [
            (name, point, errno)
            for name, each in found.items()
            for point, errno in disturbances(each, errno=options.errno)
            if not options.point or options.point in str(point)
        ]
        if options.list:
            for name, point, errno in every:
                print(f"{name}: {point} {errno}")
            return 0
        part = options.part or 0
        step = options.jobs if options.part is not None else 1
        for name, point, errno in [*_sample(every, options.sample)][part::step]:
            result = sweep.disturb(name, found[name], point, errno)
            score.note(result)
            if result.faults or not result.hit:
                print(score.line(result), flush=True)
    if options.part is None:
        print(score)
        return score.status
    os.write(options.score, json.dumps(score.as_data()).encode())
    return 0


def _sample(every: list[T], size: int | None) -> Iterator[T]:
    """That many, evenly spread, the same each time; None: all."""
    count = len(every)
    size = count if size is None else min(size, count)
    for index in range(size):
        yield every[index * count // size]


if __name__ == "__main__":
    sys.exit(main())
