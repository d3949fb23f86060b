"""Numbers of one question: series, their quantiles, and ratios that survive a busy machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

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


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One result. Of a ratio:

    `value` is the ratio of the medians. `low` and `high` are the quartiles of the rounds' own ratios:
    both sides of a round met the same weather. `p99` is the ratio of the 99th percentiles.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p99: float | None = None


class Medians(msgspec.Struct, frozen=True, kw_only=True):
    """A table of medians, where there are too many series to print each in a line of its own."""

    title: str
    columns: list[str]
    rows: list[list[str | float]]


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies, interpolated between neighbours."""
    return quantiles(values, [share])[0]


def quantiles(values: Sequence[float], shares: Iterable[float]) -> list[float]:
    """The same for several shares at the cost of one sort."""
    ordered = sorted(values)
    found = []
    for share in shares:
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        found.append(ordered[below] + (ordered[above] - ordered[below]) * (place - below))
    return found


def ratio(ours: Series, theirs: Series) -> Figure:
    """`ours` over `theirs`; the n-th values of both belong to the same round where both have one."""
    rounds = [_over(a, b) for a, b in zip(ours.values, theirs.values, strict=False)]
    return Figure(
        value=_over(ours.median, theirs.median),
        low=quantile(rounds, 0.25),
        high=quantile(rounds, 0.75),
        p99=_over(ours.p99, theirs.p99),
    )


def _over(ours: float, theirs: float) -> float:
    if theirs == 0:  # a contender that got nothing at all done in its time
        return math.inf if ours else 1.0
    return ours / theirs


def middle(values: Sequence[float]) -> Figure:
    """The median of the rounds with their quartiles."""
    low, value, high = quantiles(values, (0.25, 0.5, 0.75))
    return Figure(value=value, low=low, high=high)


def jain(shares: Sequence[float]) -> float:
    """How equal the shares are, by Jain's index: 1 when all are, 1/n when one has everything."""
    if not any(shares):
        return 1.0
    return statistics.fmean(shares) ** 2 / statistics.fmean(each * each for each in shares)
