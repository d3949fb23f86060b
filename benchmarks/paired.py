"""Whether one side of paired rounds is worse than the other, beyond what chance does.

Wilcoxon's signed-rank statistics on the logarithms of the rounds' ratios: the two sides of a round
were measured one after the other and met the same weather, so only their ratio counts. The estimate
is Hodges and Lehmann's, the median of all pairwise means; the interval around it is the exact one of
the signed-rank distribution. Neither believes in a normal distribution, and one wild round moves
neither far. (Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, 3.1 to 3.3)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from benchmarks.figures import quantile

Verdict = Literal["better", "worse", "within noise"]

CONFIDENCE = 0.99
AGAIN = 0.95  # of what was found with the other already
TOLERANCE = 0.03  # a change of so little isn't worth a word, however certain
_TINY = 1e-9  # in place of zero: counts of what should never be


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """B over A: the estimate, and between what the truth lies with the confidence asked for."""

    ratio: float
    low: float
    high: float
    rounds: int

    def verdict(self, better: Literal["lower", "higher"], tolerance: float = TOLERANCE) -> Verdict:
        """What the change is when the figure should be low, or high.

        The whole interval has to lie beyond 1, and the estimate beyond the tolerance.
        """
        up = self.low > 1 and self.ratio > 1 + tolerance
        down = self.high < 1 and self.ratio < 1 / (1 + tolerance)
        if not up and not down:
            return "within noise"
        return "better" if up == (better == "higher") else "worse"


def least_rounds(confidence: float = CONFIDENCE) -> int:
    """With fewer rounds no interval of that confidence has an end."""
    rounds = 1
    while 2 / 2**rounds > 1 - confidence:
        rounds += 1
    return rounds


def change(a: Sequence[float], b: Sequence[float], *, confidence: float = CONFIDENCE) -> Change:
    """How B differs from A; the n-th values of both are of one round."""
    logs = [math.log(max(y, _TINY) / max(x, _TINY)) for x, y in zip(a, b, strict=True)]
    count = len(logs)
    means = sorted((logs[i] + logs[j]) / 2 for i in range(count) for j in range(i, count))
    cut = _cut(count, confidence)
    low, high = (means[cut - 1], means[-cut]) if cut else (-math.inf, math.inf)
    return Change(
        ratio=math.exp(quantile(means, 0.5)),
        low=math.exp(low),
        high=math.exp(high),
        rounds=count,
    )


def _cut(count: int, confidence: float) -> int:
    """How many of the sorted pairwise means lie outside of the interval, at each end."""
    # ways[t]: in how many of the 2**count sign patterns the ranks with a plus add up to t.
    ways = [1]
    for rank in range(1, count + 1):
        longer = [0] * (len(ways) + rank)
        for total, number in enumerate(ways):
            longer[total] += number
            longer[total + rank] += number
        ways = longer
    allowed = (1 - confidence) / 2 * 2**count
    below = cut = 0
    for number in ways:
        below += number
        if below > allowed:
            break
        cut += 1
    return cut
