"""`python -m benchmarks.once NAME FILE`: ask one question quickly and save it; one side of a round."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from benchmarks.machine import describe
from benchmarks.processes import allow_many_descriptors
from benchmarks.report import Report
from benchmarks.suite import QUESTIONS, ask, memory_base


def main(name: str, path: str, size: str = "quick") -> None:
    allow_many_descriptors()
    console = Console(quiet=True)
    entry = ask(QUESTIONS[name], quick=True, smoke=size == "smoke", console=console)
    report = Report(
        machine=describe(memory_base()), quick=True, entries=[entry], load_at_end=os.getloadavg()
    )
    report.save(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
