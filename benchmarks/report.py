"""Answers for people, on a terminal or in a file of text, and for programs, as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, Medians, Series
from benchmarks.machine import Machine
from benchmarks.plots import Plot
from benchmarks.question import Answer, Question, Wanted


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One wanted figure with what came of it."""

    wanted: Wanted
    figure: Figure | None = None
    reached: bool | None = None
    skipped: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One question with what came of it."""

    name: str
    rows: list[Row]
    seconds: float = 0.0
    series: tuple[Series, ...] = ()
    details: tuple[Series, ...] = ()
    tables: tuple[Medians, ...] = ()
    plots: tuple[Plot, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, question: Question, answer: Answer, seconds: float = 0.0) -> Entry:
        return cls(
            name=question.name,
            rows=[_row(each, answer) for each in question.wanted],
            seconds=seconds,
            series=answer.series,
            details=answer.details,
            tables=answer.tables,
            plots=answer.plots,
            notes=answer.notes,
        )

    @classmethod
    def skipped(cls, question: Question, why: str) -> Entry:
        rows = [Row(wanted=each, skipped=why) for each in question.wanted]
        return cls(name=question.name, rows=rows)


def _row(wanted: Wanted, answer: Answer) -> Row:
    figure = answer.figures.get(wanted.key)
    if figure is None:
        return Row(wanted=wanted, skipped=answer.lacking.get(wanted.key, "not measured"))
    return Row(wanted=wanted, figure=figure, reached=wanted.reached_by(figure.value))


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

    @classmethod
    def load(cls, path: str) -> Report:
        """One that was saved."""
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=cls)


def print_machine(console: Console, machine: Machine) -> None:
    for line in machine.lines():
        console.print(line, style="dim", highlight=False)


def print_entries(console: Console, entries: Sequence[Entry]) -> None:
    """Ratios first, each with its goal; then what they were made of."""
    ratios = _table("question", "what", "figure", "goal", "", "half of the rounds", "of p99s")
    for entry in entries:
        for index, row in enumerate(entry.rows):
            ratios.add_row(entry.name if index == 0 else "", *_cells(row))
        ratios.add_section()
    parts = _table("question", "contender", "unit", "n", "median", "p99", "half lie in")
    for entry in entries:
        for index, series in enumerate(entry.series):
            parts.add_row(entry.name if index == 0 else "", *_series_cells(series))
        parts.add_section()
    console.print(ratios)
    if parts.rows:
        console.print(parts)
    for medians in (each for entry in entries for each in entry.tables):
        _print_medians(console, medians)
    for entry in entries:
        for note in entry.notes:
            console.print(f"{entry.name}: {note}", highlight=False, soft_wrap=True)


def _print_medians(console: Console, medians: Medians) -> None:
    table = Table(box=box.SIMPLE, title=medians.title, title_justify="left")
    texts = {index for row in medians.rows for index, each in enumerate(row) if type(each) is str}
    for index, column in enumerate(medians.columns):
        table.add_column(column, justify="left" if index in texts else "right", no_wrap=True)
    last = ""
    for row in medians.rows:
        first = str(row[0])
        if last and first != last:
            table.add_section()
        shown = ["" if first == last else first]
        shown += [each if isinstance(each, str) else number(each) for each in row[1:]]
        table.add_row(*shown)
        last = first
    console.print(table)


def _cells(row: Row) -> list[str]:
    wanted, figure = row.wanted, row.figure
    sign = "<=" if wanted.better == "lower" else ">="
    goal = "" if wanted.goal is None else f"{sign} {number(wanted.goal)}"
    if figure is None:
        return [wanted.what, "-", goal, "[yellow]skipped", row.skipped, ""]
    verdict = {True: "[green]reached", False: "[red]missed", None: ""}[row.reached]
    value = number(figure.value) + ("" if wanted.unit == "ratio" else f" {wanted.unit}")
    p99 = "" if figure.p99 is None else number(figure.p99)
    return [wanted.what, value, goal, verdict, _spread(figure.low, figure.high), p99]


def _series_cells(series: Series) -> list[str]:
    count = len(series.values)
    spread = _spread(*series.quartiles) if count > 1 else ""
    p99 = number(series.p99) if count > 1 else ""
    return [series.name, series.unit, str(count), number(series.median), p99, spread]


def _spread(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{number(low)} - {number(high)}"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE)
    for column in columns:
        numeric = column in {"figure", "goal", "n", "median", "p99", "of p99s"}
        whole = numeric or column == "question"
        table.add_column(column, justify="right" if numeric else "left", no_wrap=whole)
    return table


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 1 else f"{value:.{1 if value >= 10 else 2}f}"
