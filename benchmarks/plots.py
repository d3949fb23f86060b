"""Pictures as data: what to draw, kept in the JSON file, so that it can be drawn again later."""

from __future__ import annotations

from typing import Literal

import msgspec


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One contender's points. Bars have a label for each in place of `x`."""

    name: str
    y: list[float]
    x: list[float] = []
    labels: list[str] = []


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One pair of axes."""

    title: str
    curves: list[Curve]


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """One picture: panels side by side that share their axes' meaning.

    `lines` join measured points, `steps` are a distribution, `bars` stand in groups by label.
    """

    name: str
    title: str
    kind: Literal["lines", "steps", "bars"]
    x: str
    y: str
    panels: list[Panel]
    log_x: bool = False
    log_y: bool = False
    note: str = ""
