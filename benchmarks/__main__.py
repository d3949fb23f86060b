"""`python -m benchmarks`: ask all questions, or those that are named."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import (
    burst_heartbeat,
    life_beside_runc,
    life_beside_subprocess,
    life_from_big_engine,
    list_live,
    list_stopped,
    supervisor_memory,
    waiting_cpu,
)
from benchmarks.machine import Machine, describe
from benchmarks.processes import allow_many_descriptors
from benchmarks.question import Answer, Bench, Question, Skipped
from benchmarks.report import Entry, Report, print_entries, print_machine

QUESTIONS = {
    module.QUESTION.name: module.QUESTION
    for module in (
        life_beside_subprocess,
        life_beside_runc,
        life_from_big_engine,
        burst_heartbeat,
        supervisor_memory,
        list_stopped,
        list_live,
        waiting_cpu,
    )
}
_RESULTS = Path(__file__).resolve().parent / "results"
_MEMORY = "/dev/shm"
_PLAIN_WIDTH = 160  # where the output is no terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, print and save; the exit status."""
    options = _options(arguments)
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    if options.list:
        for question in QUESTIONS.values():
            console.print(f"{question.name:24}{question.what}", highlight=False)
        return 0
    allow_many_descriptors()
    base = _MEMORY if os.access(_MEMORY, os.W_OK) else tempfile.gettempdir()
    machine = describe(base, os.getcwd())
    print_machine(console, machine)
    entries = [
        ask(QUESTIONS[name], base, quick=options.quick, console=console)
        for name in options.names or QUESTIONS
    ]
    print_entries(console, entries)
    report = Report(
        machine=machine, quick=options.quick, entries=entries, load_at_end=os.getloadavg()
    )
    for path in [_result_path(machine), *options.json]:
        report.save(path)
        console.print(f"saved {path}", style="dim", highlight=False, soft_wrap=True)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="questions to ask; all if none")
    parser.add_argument("--quick", action="store_true", help="samples: under a minute for all")
    parser.add_argument(
        "--json", action="append", default=[], metavar="FILE", help="save it here too"
    )
    parser.add_argument("--list", action="store_true", help="print the questions and exit")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in QUESTIONS]
    if unknown:
        parser.error(f"no question {unknown[0]!r}; there are {', '.join(QUESTIONS)}")
    return options


def _result_path(machine: Machine) -> str:
    stamp = machine.at.translate({ord(each): None for each in "-:"}).partition(".")[0]
    return str(_RESULTS / f"{stamp}.json")


def ask(question: Question, base: str, *, quick: bool, console: Console) -> Entry:
    """One question's answer, measured in a scratch directory below `base`."""
    # No thread of the bar's own may draw while something is measured.
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
        transient=True,
        disable=not console.is_terminal,
    )
    gc.collect()  # what the last question left
    with tempfile.TemporaryDirectory(prefix="asyncrt-bench-", dir=base) as directory, progress:
        bar = progress.add_task(question.name)

        def show(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, refresh=True)

        bench = Bench(directory, quick=quick, on_progress=show)
        try:
            return Entry.of(question, asyncio.run(_measured(question, bench)))
        except Skipped as reason:
            return Entry.of(question, None, str(reason))


async def _measured(question: Question, bench: Bench) -> Answer:
    return await question.measure(bench)


if __name__ == "__main__":
    sys.exit(main())
