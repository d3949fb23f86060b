"""Numbers of one question: series, their quantiles, and ratios that survive a busy machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one contender, in the order it was measured in."""

    name: str
    unit: str
    values: list[float]

    @property
    def median(self) -> float:
        return quantile(self.values, 0.5)

    @property
    def p99(self) -> float:
        return quantile(self.values, 0.99)

    @property
    def quartiles(self) -> tuple[float, float]:
        return quantile(self.values, 0.25), quantile(self.values, 0.75)


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """One contender over another.

    `value` is the ratio of the medians. `low` and `high` are the quartiles of the rounds' own ratios:
    both sides of a round met the same weather. `p99` is the ratio of the 99th percentiles.
    """

    value: float
    low: float
    high: float
    p99: float


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies, interpolated between neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def ratio(ours: Series, theirs: Series) -> Ratio:
    """`ours` over `theirs`; the n-th values of both belong to the same round where both have one."""
    rounds = [a / b for a, b in zip(ours.values, theirs.values, strict=False)]
    return Ratio(
        value=ours.median / theirs.median,
        low=quantile(rounds, 0.25),
        high=quantile(rounds, 0.75),
        p99=ours.p99 / theirs.p99,
    )
