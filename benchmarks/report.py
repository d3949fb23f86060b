"""Answers for people, on a terminal or in a file of text, and for programs, as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Series
from benchmarks.machine import Machine
from benchmarks.question import Answer, Question


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One question with what came of it: an answer, or why there is none."""

    name: str
    what: str
    unit: str
    goal: float
    reached: bool | None = None
    answer: Answer | None = None
    skipped: str = ""

    @classmethod
    def of(cls, question: Question, answer: Answer | None, skipped: str = "") -> Entry:
        return cls(
            name=question.name,
            what=question.what,
            unit=question.unit,
            goal=question.goal,
            reached=None if answer is None else answer.value <= question.goal,
            answer=answer,
            skipped=skipped,
        )


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the suite."""

    machine: Machine
    quick: bool
    entries: list[Entry]
    load_at_end: tuple[float, float, float]

    def save(self, path: str) -> None:
        """Write it as JSON, making the directory if it is missing."""
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        data = msgspec.json.format(msgspec.json.encode(self), indent=2)
        with open(path, "wb") as file:
            file.write(data + b"\n")


def print_machine(console: Console, machine: Machine) -> None:
    for line in machine.lines():
        console.print(line, style="dim", highlight=False)


def print_entries(console: Console, entries: Sequence[Entry]) -> None:
    """Ratios first, each with its goal; then what they were made of."""
    ratios = _table("question", "figure", "goal", "", "half of the rounds", "of p99s")
    for entry in entries:
        ratios.add_row(*_ratio_row(entry))
    parts = _table("question", "contender", "unit", "n", "median", "p99", "half lie in")
    for entry in entries:
        for index, series in enumerate(entry.answer.series if entry.answer else ()):
            parts.add_row(entry.name if index == 0 else "", *_series_row(series))
        parts.add_section()
    console.print(ratios)
    console.print(parts)
    for entry in entries:
        for note in entry.answer.notes if entry.answer else ():
            console.print(f"{entry.name}: {note}", highlight=False)


def _ratio_row(entry: Entry) -> list[str]:
    goal = f"<= {_number(entry.goal)}"
    if entry.answer is None:
        return [entry.what, "-", goal, "[yellow]skipped", entry.skipped, ""]
    verdict = "[green]reached" if entry.reached else "[red]missed"
    figure = _number(entry.answer.value) + (" s" if entry.unit == "s" else "")
    found = entry.answer.ratio
    if found is None:
        return [entry.what, figure, goal, verdict, "", ""]
    spread = f"{_number(found.low)} - {_number(found.high)}"
    return [entry.what, figure, goal, verdict, spread, _number(found.p99)]


def _series_row(series: Series) -> list[str]:
    low, high = series.quartiles
    count = len(series.values)
    spread = f"{_number(low)} - {_number(high)}" if count > 1 else ""
    p99 = _number(series.p99) if count > 1 else ""
    return [series.name, series.unit, str(count), _number(series.median), p99, spread]


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE)
    for column in columns:
        numeric = column in {"figure", "goal", "n", "median", "p99", "of p99s"}
        table.add_column(column, justify="right" if numeric else "left", no_wrap=numeric)
    return table


def _number(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 1 else f"{value:.{1 if value >= 10 else 2}f}"
