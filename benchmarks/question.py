"""What a question is, what it answers, and what it is given to measure with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import msgspec

from benchmarks.figures import Ratio, Series, ratio


class Skipped(Exception):  # noqa: N818 - says why there is no answer, it is nobody's error
    """This machine can't answer the question; the text says what is missing."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One question answered: the figure that has a goal first, then what it was made of."""

    value: float
    ratio: Ratio | None = None
    series: tuple[Series, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of_ratio(
        cls, ours: Series, theirs: Series, *others: Series, notes: tuple[str, ...] = ()
    ) -> Answer:
        """The answer that is a ratio of two series."""
        found = ratio(ours, theirs)
        return cls(value=found.value, ratio=found, series=(ours, theirs, *others), notes=notes)


class Bench:
    """Sizes, scratch space and progress for one question."""

    def __init__(
        self, directory: str, *, quick: bool, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """`directory` is on a memory-backed file system where there is one."""
        self.directory = directory
        self.quick = quick
        self._on_progress = on_progress
        self._done = 0
        self._total = 0

    def size(self, *, quick: int, full: int) -> int:
        """The one of the two that this run asks for."""
        return quick if self.quick else full

    def expect(self, steps: int) -> None:
        """Progress starts anew, and so many steps are to come."""
        self._done, self._total = 0, steps
        self._show()

    def step(self, count: int = 1) -> None:
        """So many steps are done. Draws progress, so it is called between measurements only."""
        self._done += count
        self._show()

    def _show(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)

    async def interleave(
        self, contenders: Mapping[str, Callable[[], Awaitable[float]]], rounds: int
    ) -> dict[str, list[float]]:
        """What each contender's measurements returned, one of each in every round.

        The order turns round with each round (A B, B A, ...): what one leaves behind, e.g. processes
        that are still ending, falls on itself as often as on the other.
        """
        found: dict[str, list[float]] = {name: [] for name in contenders}
        order = list(contenders.items())
        self.expect(rounds)
        for _ in range(rounds):
            for name, measure in order:
                found[name].append(await measure())
            order.reverse()
            self.step()
        return found


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to find out. The answer reaches the goal when it is at most that."""

    name: str
    what: str
    goal: float
    unit: Literal["ratio", "s"] = "ratio"
    measure: Callable[[Bench], Awaitable[Answer]]
