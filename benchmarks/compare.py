"""Two checkouts, A and B: is B worse than A, beyond the noise?

`python -m benchmarks compare A B [NAME ...]` asks this suite's questions, in their quick sizes, of
both, in turns (A B, B A, ...), each time in a process of its own in which `asyncrt` is that
checkout's and `benchmarks` is this one: one ruler for both. Every figure gets a word by `paired`'s
signed-rank interval. With dozens of figures one in a hundred would be called worse by chance, so a
question with a worse figure is asked again, anew, and only what is worse both times is worse (99 %
sure at first, 95 % then: together once in thousands by chance). Then the exit status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import paired
from benchmarks.paired import Change, Verdict
from benchmarks.question import Wanted
from benchmarks.report import Entry, Report, number
from benchmarks.workers import CHECKOUT

_ROUNDS = 10
SMOKE = False  # the least of everything: for this module's own tests


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one question, compared."""

    question: str
    wanted: Wanted
    a: float = 0.0
    b: float = 0.0
    change: Change | None = None
    verdict: Verdict | None = None
    skipped: str = ""


Ask = Callable[[str, str], Entry]  # which question, which checkout


def main(words: Sequence[str], console: Console, *, known: Collection[str]) -> int:
    """Compare, print; 1 when something got worse."""
    options = _options(words, known)
    names = options.names or list(known)
    lines: list[Line] = []
    with _side(options.a) as a, _side(options.b) as b:
        for name in names:
            console.print(f"{name} ...", style="dim", highlight=False)
            lines += confirmed(name, _ask, a, b, options.rounds, options.tolerance)
    _print(console, lines)
    worse = [each for each in lines if each.verdict == "worse"]
    console.print(
        f"{len(worse)} of {len(lines)} figures got worse" if worse else "nothing got worse",
        highlight=False,
    )
    return 1 if worse else 0


def _options(words: Sequence[str], known: Collection[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="a checkout: what was")
    parser.add_argument("b", metavar="B", help="another: what is to be judged")
    parser.add_argument("names", nargs="*", metavar="NAME", help="questions; all if none")
    parser.add_argument(
        "--rounds", type=int, default=_ROUNDS, help=f"of each, {_ROUNDS} if not said"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=paired.TOLERANCE,
        help="a share of change not worth a word, e.g. 0.03",
    )
    options = parser.parse_args(words)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no question {unknown[0]!r}; there are {', '.join(known)}")
    least = paired.least_rounds()
    if options.rounds < least:
        parser.error(f"{options.rounds} rounds prove nothing: it takes {least}")
    for each in (options.a, options.b):
        if not os.path.isfile(os.path.join(each, "asyncrt", "__init__.py")):
            parser.error(f"{each} is no checkout of asyncrt: there is no asyncrt/__init__.py")
    return options


def confirmed(
    name: str, ask: Ask, a: str, b: str, rounds: int, tolerance: float = paired.TOLERANCE
) -> list[Line]:
    """The question's figures; what looks worse is measured anew and has to look so again."""
    lines = compared(name, ask, a, b, rounds, tolerance)
    if not any(each.verdict == "worse" for each in lines):
        return lines
    again = compared(name, ask, a, b, rounds, tolerance, confidence=paired.AGAIN)
    return [
        second if first.verdict == "worse" and second.verdict != "worse" else first
        for first, second in zip(lines, again, strict=True)
    ]


def compared(
    name: str,
    ask: Ask,
    a: str,
    b: str,
    rounds: int,
    tolerance: float = paired.TOLERANCE,
    *,
    confidence: float = paired.CONFIDENCE,
) -> list[Line]:
    """The question's figures, by so many rounds of A B and B A."""
    entries: dict[str, list[Entry]] = {a: [], b: []}
    order = [a, b]
    for _ in range(rounds):
        for side in order:
            entries[side].append(ask(name, side))
        order.reverse()
    return [
        _line(name, index, entries[a], entries[b], tolerance, confidence)
        for index in range(len(entries[a][0].rows))
    ]


def _line(
    name: str, index: int, a: list[Entry], b: list[Entry], tolerance: float, confidence: float
) -> Line:
    rows = [entry.rows[index] for entry in [*a, *b]]
    wanted = rows[0].wanted
    for row in rows:
        if row.figure is None:
            return Line(question=name, wanted=wanted, skipped=row.skipped)
    values = [row.figure.value for row in rows if row.figure is not None]
    ours, theirs = values[: len(a)], values[len(a) :]
    found = paired.change(ours, theirs, confidence=confidence)
    return Line(
        question=name,
        wanted=wanted,
        a=sorted(ours)[len(ours) // 2],
        b=sorted(theirs)[len(theirs) // 2],
        change=found,
        verdict=found.verdict(wanted.better, tolerance),
    )


@contextlib.contextmanager
def _side(checkout: str) -> Iterator[str]:
    """A directory to run in: first on the path, with that asyncrt and this suite."""
    with tempfile.TemporaryDirectory(prefix="asyncrt-compare-") as directory:
        package = os.path.abspath(os.path.join(checkout, "asyncrt"))
        os.symlink(package, os.path.join(directory, "asyncrt"))
        os.symlink(os.path.join(CHECKOUT, "benchmarks"), os.path.join(directory, "benchmarks"))
        yield directory


def _ask(name: str, directory: str) -> Entry:
    path = os.path.join(directory, "result.json")
    environment = {**os.environ, "PYTHONPATH": directory}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.once", name, path, *(["smoke"] if SMOKE else [])],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise SystemExit(f"{name} failed: {said}")
    (entry,) = Report.load(path).entries
    return entry


def _print(console: Console, lines: Sequence[Line]) -> None:
    table = Table(box=box.SIMPLE)
    for column in ("question", "figure", "A", "B", "B / A", "99 % lie between", ""):
        table.add_column(column, justify="right" if column in {"A", "B", "B / A"} else "left")
    colour = {"better": "[green]better", "worse": "[red]worse", "within noise": "within noise"}
    last = ""
    for each in lines:
        name, last = ("" if each.question == last else each.question), each.question
        if each.change is None or each.verdict is None:
            table.add_row(name, each.wanted.what, "", "", "", "", f"[yellow]{each.skipped}")
            continue
        found = each.change
        spread = f"{number(found.low)} - {number(found.high)}"
        table.add_row(
            name,
            each.wanted.what,
            number(each.a),
            number(each.b),
            number(found.ratio),
            spread,
            colour[each.verdict],
        )
    console.print(table)
