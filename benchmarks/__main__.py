"""`python -m benchmarks`: ask all questions, or those that are named, and draw what came of it.

python -m benchmarks [--quick] [--json FILE] [--plots DIR] [NAME ...]
python -m benchmarks compare A B [--rounds N] [NAME ...]     two checkouts: is B worse than A?
python -m benchmarks plot FILE [DIR]                         draw a saved result again
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import compare, draw
from benchmarks.machine import Machine, describe
from benchmarks.processes import allow_many_descriptors
from benchmarks.question import Skipped
from benchmarks.report import Report, number, print_entries, print_machine
from benchmarks.suite import QUESTIONS, ask, disk_base, memory_base

_RESULTS = Path(__file__).absolute().parent / "results"
_PLAIN_WIDTH = 160  # where the output is no terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the first word says; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    if words[:1] == ["compare"]:
        return compare.main(words[1:], console, known=QUESTIONS)
    if words[:1] == ["plot"]:
        return _plot(words[1:], console)
    return _run(words, console)


def _run(words: Sequence[str], console: Console) -> int:
    options = _options(words)
    if options.list:
        for question in QUESTIONS.values():
            for index, wanted in enumerate(question.wanted):
                name = question.name if index == 0 else ""
                console.print(f"{name:24}{wanted.what}", highlight=False)
        return 0
    allow_many_descriptors()
    paths = [memory_base(), disk_base() or os.getcwd()]
    machine = describe(*paths)
    print_machine(console, machine)
    entries = [
        ask(QUESTIONS[name], quick=options.quick, smoke=options.smoke, console=console)
        for name in options.names or QUESTIONS
    ]
    print_entries(console, entries)
    if options.smoke:
        console.print("a smoke test: these figures say nothing", style="yellow")
    report = Report(
        machine=machine, quick=options.quick, entries=entries, load_at_end=os.getloadavg()
    )
    seconds = sum(each.seconds for each in entries)
    console.print(f"{number(seconds)} s of measuring", style="dim", highlight=False)
    stem = _stem(machine)
    for path in [f"{_RESULTS / stem}.json", *options.json]:
        report.save(path)
        _say(console, path)
    if options.plots != "-":
        _draw(report, options.plots or str(_RESULTS / stem), console)
    return 0


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="questions to ask; all if none")
    parser.add_argument("--quick", action="store_true", help="samples: under a minute for all")
    parser.add_argument(
        "--smoke", action="store_true", help="the least of everything: whether it runs, no figures"
    )
    parser.add_argument(
        "--json", action="append", default=[], metavar="FILE", help="save it here too"
    )
    parser.add_argument("--plots", metavar="DIR", help="draw into this directory; - for no plots")
    parser.add_argument("--list", action="store_true", help="print the questions and exit")
    options = parser.parse_args(words)
    unknown = [name for name in options.names if name not in QUESTIONS]
    if unknown:
        parser.error(f"no question {unknown[0]!r}; there are {', '.join(QUESTIONS)}")
    return options


def _plot(words: Sequence[str], console: Console) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks plot", description="Draw again.")
    parser.add_argument("file", help="a saved result, JSON")
    parser.add_argument("directory", nargs="?", help="where to; by default beside the file")
    options = parser.parse_args(words)
    report = Report.load(options.file)
    return _draw(report, options.directory or os.path.splitext(options.file)[0], console)


def _draw(report: Report, directory: str, console: Console) -> int:
    try:
        for path in draw.draw(report, directory):
            _say(console, path)
    except Skipped as reason:
        console.print(f"no plots: {reason}", highlight=False)
        return 1
    return 0


def _say(console: Console, path: str) -> None:
    console.print(f"saved {path}", style="dim", highlight=False, soft_wrap=True)


def _stem(machine: Machine) -> str:
    return machine.at.translate({ord(each): None for each in "-:"}).partition(".")[0]


if __name__ == "__main__":
    sys.exit(main())
