"""What a question is, what it answers, and what it is given to measure with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

import msgspec

from benchmarks.figures import Figure, Medians, Series, ratio
from benchmarks.plots import Plot

ROUNDS = 5  # at least so many, wherever a median is reported


class Skipped(Exception):  # noqa: N818 - says why there is no answer, it is nobody's error
    """This machine can't answer the question; the text says what is missing."""


class Wanted(msgspec.Struct, frozen=True):
    """One figure that a question is after, and where it should be. Without a goal: only shown."""

    key: str
    what: str
    better: Literal["lower", "higher"] = "lower"
    goal: float | None = None
    unit: str = "ratio"

    def reached_by(self, value: float) -> bool | None:
        """Whether the value is where it should be; at its goal it is."""
        if self.goal is None:
            return None
        return value <= self.goal if self.better == "lower" else value >= self.goal


def at_most(what: str, goal: float, *, key: str = "ratio", unit: str = "ratio") -> Wanted:
    """A figure that may be as high as that."""
    return Wanted(key, what, "lower", goal, unit)


def at_least(what: str, goal: float, *, key: str = "ratio", unit: str = "ratio") -> Wanted:
    """A figure that has to be as high as that."""
    return Wanted(key, what, "higher", goal, unit)


def shown(
    what: str, *, key: str, unit: str = "ratio", better: Literal["lower", "higher"] = "lower"
) -> Wanted:
    """A figure without a goal."""
    return Wanted(key, what, better, None, unit)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One question answered: its figures by their keys, then what they were made of.

    A figure that this machine can't tell is left out, and `lacking` says by its key why. `details` are
    series that go into the JSON file and aren't printed, but for their medians in `tables`.
    """

    figures: dict[str, Figure]
    lacking: dict[str, str] = {}
    series: tuple[Series, ...] = ()
    details: tuple[Series, ...] = ()
    tables: tuple[Medians, ...] = ()
    plots: tuple[Plot, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of_ratio(
        cls, ours: Series, theirs: Series, *others: Series, notes: tuple[str, ...] = ()
    ) -> Answer:
        """The answer that is one ratio of two series."""
        figures = {"ratio": ratio(ours, theirs)}
        return cls(figures=figures, series=(ours, theirs, *others), notes=notes)

    @classmethod
    def of_seconds(
        cls, found: Mapping[str, Sequence[float]], *, notes: tuple[str, ...] = ()
    ) -> Answer:
        """The same of what `interleave` found, where that is seconds: the first over the second."""
        ours, theirs, *others = (
            Series(name=name, unit="ms", values=[each * 1e3 for each in values])
            for name, values in found.items()
        )
        return cls.of_ratio(ours, theirs, *others, notes=notes)


class Bench:
    """Sizes, scratch space and progress for one question."""

    def __init__(
        self,
        directory: str,
        *,
        quick: bool,
        disk: str | None = None,
        smoke: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """`directory` is on a memory-backed file system where there is one, `disk` on a disk.

        With `smoke` every size is the least that goes through all of the code.
        """
        self.directory = directory
        self.disk = disk
        self.quick = quick or smoke
        self.smoke = smoke
        self._on_progress = on_progress
        self._done = 0
        self._total = 0

    def size(self, *, quick: int, full: int, smoke: int | None = None) -> int:
        """The one of them that this run asks for."""
        if self.smoke and smoke is not None:
            return smoke
        return quick if self.quick else full

    def seconds(self, *, quick: float, full: float) -> float:
        """The same, of a time to measure for."""
        return 0.02 if self.smoke else quick if self.quick else full

    def rounds(self, *, quick: int = ROUNDS, full: int = ROUNDS) -> int:
        """How many rounds to measure."""
        return self.size(quick=quick, full=full, smoke=1)

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
    """One thing to find out, by figures of which some have goals."""

    name: str
    wanted: tuple[Wanted, ...]
    measure: Callable[[Bench], Awaitable[Answer]]
