"""Draw a report's pictures, as SVG and PNG, so that they can go into a text as they are."""

from __future__ import annotations

import math
import os
from typing import Any

from benchmarks.locks import PEERS
from benchmarks.peers import peer
from benchmarks.plots import Panel, Plot
from benchmarks.report import Report, Row, number

# Okabe and Ito's colours, which most colour-blind people tell apart; ours is always the same one.
_OURS = "#0072B2"
_SHADES = (_OURS, "#56B4E9", "#003B5C")  # of ours, where there are several
_COLOURS = (
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#7F7F7F",
    "#8C564B",
    "#B2B200",
    "#333333",
)
_MARKERS = "sD^vP*Xdph"
_MISSED = "#D55E00"
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "svg.hashsalt": "asyncrt",  # the same figures give the same file
}


def draw(report: Report, directory: str) -> list[str]:
    """Draw all pictures of a report into the directory; the paths. Skipped without matplotlib."""
    matplotlib = peer("matplotlib")
    made: list[str] = []
    os.makedirs(directory, exist_ok=True)
    with matplotlib.rc_context(_STYLE):
        for entry in report.entries:
            for plot in entry.plots:
                made += _save(_figure(plot, report), os.path.join(directory, plot.name))
        rows = [row for entry in report.entries for row in entry.rows if row.reached is not None]
        if rows:
            made += _save(_goals(rows, report), os.path.join(directory, "goals"))
    return made


def _save(figure: Any, stem: str) -> list[str]:
    figure.savefig(f"{stem}.svg")
    figure.savefig(f"{stem}.png", dpi=150)
    return [f"{stem}.svg", f"{stem}.png"]


def _new(width: float, height: float, panels: int, report: Report, **options: Any) -> Any:
    figure = peer("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    figure.subplots(1, panels, squeeze=False, **options)
    machine = report.machine
    footer = (
        f"{machine.cpu}, {machine.cores} cores, Linux {machine.kernel}, {machine.python}, "
        f"asyncrt {machine.asyncrt}; {machine.at[:10]}{', quick run' if report.quick else ''}"
    )
    figure.get_layout_engine().set(rect=(0, 0.05, 1, 0.95))
    figure.text(0.01, 0.012, footer, fontsize=7, color="#666666")
    return figure


def _figure(plot: Plot, report: Report) -> Any:
    names = list(dict.fromkeys(each.name for panel in plot.panels for each in panel.curves))
    columns = len(plot.panels)
    if plot.kind == "bars":
        longest = max(len(each.labels) for panel in plot.panels for each in panel.curves)
        height = 1.8 + 0.28 * longest * (1.5 if len(names) > 1 else 1)
        figure = _new(4.4 + 3.2 * columns, max(3.2, height), columns, report, sharey=False)
    else:
        figure = _new(max(8.0, 2.6 + 3.4 * columns), 4.8, columns, report, sharey=True)
    figure.suptitle(plot.title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    for axes, panel in zip(figure.axes, plot.panels, strict=True):
        axes.set_title(panel.title, fontsize=10)
        if plot.kind == "bars":
            _bars(axes, panel, plot)
        else:
            _curves(axes, panel, plot, names)
    if plot.kind != "bars":
        figure.axes[0].set_ylabel(plot.y)
    if len(names) > 1:
        handles: dict[str, Any] = {}
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        figure.legend(
            handles.values(), handles.keys(), loc="outside right center", frameon=False, fontsize=9
        )
    return figure


def _curves(axes: Any, panel: Panel, plot: Plot, names: list[str]) -> None:
    for curve in panel.curves:
        colour, marker, dashes = _look(curve.name, names)
        ours = colour == _OURS
        style: dict[str, Any] = {
            "color": colour,
            "label": curve.name,
            "linestyle": dashes,
            "linewidth": 2.6 if ours else 1.4,
            "zorder": 3 if ours else 2,
        }
        if plot.kind == "steps":
            axes.step(curve.x, curve.y, where="post", **style)
        else:
            axes.plot(curve.x, curve.y, marker=marker, markersize=5, **style)
    axes.set_xlabel(plot.x)
    if plot.log_x:
        _logarithmic(axes, axes.xaxis, "x")
        ticks = sorted({x for each in panel.curves for x in each.x})
        if plot.kind == "lines" and len(ticks) <= 8:
            axes.set_xticks(ticks, [f"{each:,.10g}" for each in ticks])
            axes.minorticks_off()
    if plot.log_y:
        _logarithmic(axes, axes.yaxis, "y")


def _logarithmic(axes: Any, axis: Any, which: str) -> None:
    """With numbers as people write them at the powers of ten, and at halves of few of those."""
    getattr(axes, f"set_{which}scale")("log")
    ticker = peer("matplotlib.ticker")
    low, high = sorted(axis.get_view_interval())
    close = high / low < 100
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if close else (1,), numticks=7))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def _bars(axes: Any, panel: Panel, plot: Plot) -> None:
    """Lying ones: their labels can be read."""
    groups = len(panel.curves)
    thick = 0.8 / groups
    for index, curve in enumerate(panel.curves):
        places = [-(each + (index - (groups - 1) / 2) * thick) for each in range(len(curve.y))]
        if groups == 1:
            colours: Any = [_OURS if _is_ours(each) else "#9AA5B1" for each in curve.labels]
        else:
            colours = (_OURS, "#E69F00", "#009E73", "#CC79A7")[index]
        bars = axes.barh(places, curve.y, height=thick * 0.95, color=colours, label=curve.name)
        axes.bar_label(bars, [number(each) for each in curve.y], padding=3, fontsize=8)
    labels = panel.curves[0].labels
    axes.set_yticks([-each for each in range(len(labels))], labels)
    for text in axes.get_yticklabels():
        if _is_ours(text.get_text()):
            text.set_fontweight("bold")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(plot.y)
    axes.margins(x=0.15, y=0.02)
    if plot.log_y:
        _logarithmic(axes, axes.xaxis, "x")
    else:
        plain = peer("matplotlib.ticker").FuncFormatter(lambda value, _: f"{value:,.10g}")
        axes.xaxis.set_major_formatter(plain)


def _is_ours(name: str) -> bool:
    return name.startswith(("asyncrt", "Engine", "StateFile"))


def _look(name: str, names: list[str]) -> tuple[str, str, str]:
    if _is_ours(name):
        ours = [each for each in names if _is_ours(each)].index(name)
        return _SHADES[ours % len(_SHADES)], "o<>"[ours % 3], "-"
    # A lock looks the same in every picture.
    order = PEERS if name in PEERS else [each for each in names if not _is_ours(each)]
    peers = list(order).index(name)
    dashes = "-" if peers < len(_COLOURS) else "--"
    return _COLOURS[peers % len(_COLOURS)], _MARKERS[peers % len(_MARKERS)], dashes


def _goals(rows: list[Row], report: Report) -> Any:
    """Every figure that has a goal, measured in goals."""
    figure = _new(11, 1.8 + 0.3 * len(rows), 1, report)
    figure.suptitle("Figures beside their goals", fontsize=13, fontweight="bold", x=0.01, ha="left")
    (axes,) = figure.axes
    for place, row in enumerate(rows):
        share = share_of_goal(row)
        colour = _OURS if row.reached else _MISSED
        axes.plot([1, share], [-place, -place], color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot([share], [-place], marker="o", color=colour)
    _logarithmic(axes, axes.xaxis, "x")
    axes.margins(y=0.02)
    axes.set_yticks([-each for each in range(len(rows))], [_row_label(each) for each in rows])
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_xlabel("how many times better than its goal (left of 1: missed)")
    return figure


def share_of_goal(row: Row) -> float:
    """How many times better than its goal a figure is, within 1/100 and 100."""
    assert row.figure is not None
    assert row.wanted.goal is not None
    value, goal = row.figure.value, row.wanted.goal
    if row.wanted.better == "lower":
        value, goal = goal, value
    if value == goal:
        return 1.0
    if value <= 0 or goal <= 0:
        return 100.0 if row.reached else 0.01
    return min(100.0, max(0.01, value / goal)) if math.isfinite(value / goal) else 100.0


def _row_label(row: Row) -> str:
    assert row.figure is not None
    assert row.wanted.goal is not None
    sign = (
        "\N{LESS-THAN OR EQUAL TO}"
        if row.wanted.better == "lower"
        else "\N{GREATER-THAN OR EQUAL TO}"
    )
    unit = "" if row.wanted.unit == "ratio" else f" {row.wanted.unit}"
    goal = f"{number(row.figure.value)}{unit} ({sign} {number(row.wanted.goal)})"
    return f"{row.wanted.what}: {goal}"
