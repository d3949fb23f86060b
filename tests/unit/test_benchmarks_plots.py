"""Is every picture drawn, or the reason said why not?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import __main__ as command
from benchmarks import draw
from benchmarks.figures import Figure
from benchmarks.machine import describe
from benchmarks.peers import is_there
from benchmarks.plots import Curve, Panel, Plot
from benchmarks.question import Skipped, at_least, at_most
from benchmarks.report import Entry, Report, Row
from tests.helpers.processes import REPOSITORY

_KINDS = {
    "lines": Curve(name="asyncrt", x=[1, 2], y=[3, 4]),
    "steps": Curve(name="asyncrt", x=[1, 2], y=[3, 4]),
    "bars": Curve(name="asyncrt", labels=["asyncrt", "peer"], y=[3, 4]),
}


def _report() -> Report:
    plots = tuple(
        Plot(
            name=kind,
            title=kind,
            kind=kind,  # type: ignore[arg-type]  # the keys above are its values
            x="x",
            y="y",
            panels=[Panel(title="p", curves=[curve])] * 2,
            log_x=kind != "bars",
        )
        for kind, curve in _KINDS.items()
    )
    rows = [Row(wanted=at_most("w", 2), figure=Figure(value=1), reached=True)]
    entry = Entry(name="q", rows=rows, plots=plots)
    return Report(machine=describe("/"), quick=True, entries=[entry], load_at_end=(0, 0, 0))


def test_every_picture_of_a_report_is_drawn_twice_and_the_goals_with_them(tmp_path: Path) -> None:
    if not is_there("matplotlib"):
        with pytest.raises(Skipped, match="matplotlib isn't installed"):
            draw.draw(_report(), str(tmp_path))
        return
    # In a process of its own: matplotlib keeps the files of its fonts open.
    _report().save(str(tmp_path / "r.json"))
    words = ["-m", "benchmarks", "plot", "r.json", "drawn"]
    environment = {**os.environ, "PYTHONPATH": REPOSITORY}
    subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, check=True)
    made = list((tmp_path / "drawn").iterdir())
    names = {f"{name}.{suffix}" for name in (*_KINDS, "goals") for suffix in ("svg", "png")}
    assert {each.name for each in made} == names
    assert all(each.stat().st_size > 1000 for each in made)


def test_a_saved_report_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Report, str]] = []

    def keep(report: Report, directory: str) -> list[str]:
        drawn.append((report, directory))
        return []

    monkeypatch.setattr(draw, "draw", keep)
    report, path = _report(), str(tmp_path / "r.json")
    report.save(path)
    assert command.main(["plot", path]) == 0
    assert command.main(["plot", path, str(tmp_path / "there")]) == 0
    assert drawn == [(report, str(tmp_path / "r")), (report, str(tmp_path / "there"))]


def test_without_matplotlib_a_run_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert command._draw(_report(), str(tmp_path), Console(width=200)) == 1
    assert "no plots: matplotlib isn't installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "share"),
    [
        (Row(wanted=at_most("", 8), figure=Figure(value=4), reached=True), 2),
        (Row(wanted=at_most("", 8), figure=Figure(value=16), reached=False), 0.5),
        (Row(wanted=at_least("", 8), figure=Figure(value=16), reached=True), 2),
        (Row(wanted=at_most("", 0), figure=Figure(value=0), reached=True), 1),
        (Row(wanted=at_most("", 0), figure=Figure(value=3), reached=False), 0.01),
        (Row(wanted=at_least("", 8), figure=Figure(value=1e9), reached=True), 100),
    ],
)
def test_a_figure_is_measured_in_goals(row: Row, share: float) -> None:
    assert draw.share_of_goal(row) == share
