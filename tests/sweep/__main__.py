"""Kill or fail every verb at every mutating call, and print the score. See `--help`."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import sys
import traceback
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tests.helpers import reaping
from tests.sweep import calls, runc, verbs
from tests.sweep.score import Score
from tests.sweep.sweep import Found, Sweep, disturbances

if TYPE_CHECKING:
    from collections.abc import Callable

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
    parser.add_argument(
        "--verb", action="append", metavar="TEXT", help="only this verb, or all with this text"
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="TEXT", help="no verb with this text"
    )
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
        if not any(text in name for text in options.without)
        and (
            not options.verb
            or name in options.verb
            or any(text in name for text in options.verb if text not in names)
        )
    }
    make: Make = runc.RuncSweep if options.runc else partial(Sweep, chosen)
    jobs = max(1, options.jobs)
    found = _find(make, _spread([*chosen], options.sample, second=options.errno), jobs)
    every = [
        [
            (name, point, errno)
            for point, errno in disturbances(each, errno=options.errno)
            if not options.point or options.point in str(point)
        ]
        for name, each in found.items()
    ]
    todo = _sample(every, options.sample)
    if options.list:
        for name, point, errno in todo:
            print(f"{name}: {point} {errno}")
        return 0
    score = Score()
    for data in _beside([partial(_sweep, make, found, todo[part::jobs]) for part in range(jobs)]):
        score.add(data)
    print(score)
    print(_left_out(found, errno=options.errno))
    return score.status


def _left_out(found: dict[str, Found], *, errno: bool) -> str:
    """What isn't tried, by name."""
    named = "left out: what an event loop tells itself (epoll_ctl, bytes by which threads wake it)"
    if not errno:
        return named
    to = Counter(point.to for each in found.values() for point in each.points)
    return f"{named}; EIO and ENOSPC of {to['pipe']} writes to pipes, sockets, terminals: no disk"


def _find(make: Make, names: list[str], jobs: int) -> dict[str, Found]:
    """The points of each verb, in the order of their names."""

    def find(part: list[str]) -> dict[str, Any]:
        with make() as sweep:
            return {name: sweep.find(name) for name in part}

    told: dict[str, Any] = {}
    for each in _beside([partial(find, names[part::jobs]) for part in range(jobs)]):
        if each is None:
            raise SystemExit(1)  # it has said why
        told |= each
    return {name: Found.of(told[name]) for name in names}


def _sweep(make: Make, found: dict[str, Found], part: list[Disturbance]) -> dict[str, Any]:
    score = Score()
    with make() as sweep:
        for name, point, errno in part:
            result = sweep.disturb(name, found[name], point, errno)
            score.note(result)
            if result.faults or not result.hit:
                print(score.line(result), flush=True)
    return score.as_data()


def _beside(tasks: list[Callable[[], Any]]) -> list[Any]:
    """What these return, each in a process of its own beside the others; None: it broke off."""
    parts = [_fork(each) for each in tasks]
    answers = []
    try:
        for pid, said in parts:
            with open(said) as file:
                data = file.read()
            os.waitpid(pid, 0)
            answers.append(json.loads(data) if data else None)
    except KeyboardInterrupt:
        for pid, _ in parts:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        raise
    return answers


def _fork(task: Callable[[], Any]) -> tuple[int, int]:
    """A process that does it; its pid, and a descriptor that the answer comes out of."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return pid, ours
    try:
        os.close(ours)
        reaping.forget_all()
        with open(theirs, "w") as file:
            json.dump(task(), file)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _spread(every: list[T], size: int | None, *, second: bool) -> list[T]:
    """So many of them at most, evenly spread, the `second` ones between the first; None: all."""
    count = len(every)
    size = count if size is None else min(size, count)
    first = count // size // 2 if second and size else 0
    return [every[first + index * count // size] for index in range(size)]


def _sample(every: list[list[Disturbance]], size: int | None) -> list[Disturbance]:
    """So many, of each verb as many as of any other; None: all.

    Which ones is drawn by their names: a point that comes in one run and not in another changes the
    choice by itself alone.
    """
    if size is None:
        return [each for of_one in every for each in of_one]
    rounds = -(-size // max(1, len(every)))
    return [each for of_one in every for each in sorted(of_one, key=_drawn)[:rounds]][:size]


def _drawn(disturbance: Disturbance) -> bytes:
    name, point, errno = disturbance
    return hashlib.blake2b(f"{name} {point.key} {errno}".encode()).digest()


if __name__ == "__main__":
    sys.exit(main())
