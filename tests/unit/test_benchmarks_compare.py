"""Is a slower checkout found, and an equal one left in peace?"""

from __future__ import annotations

import io
import itertools
import math
import os
import random
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import compare, paired
from benchmarks.figures import Figure
from benchmarks.question import Wanted, at_least, at_most
from benchmarks.report import Entry, Row

_LOW, _HIGH = at_most("low", 1, key="low"), at_least("high", 1, key="high")


def _weather(rounds: int, *, seed: int, slower: float = 1.0) -> tuple[list[float], list[float]]:
    """Two sides whose rounds share a weather that swings by halves, and have noise of 2 % each."""
    dice = random.Random(seed)
    a, b = [], []
    for _ in range(rounds):
        weather = math.exp(dice.gauss(0, 0.5))
        a.append(weather * math.exp(dice.gauss(0, 0.02)))
        b.append(weather * slower * math.exp(dice.gauss(0, 0.02)))
    return a, b


def test_equal_sides_are_within_noise_whatever_the_weather() -> None:
    verdicts = [
        paired.change(*_weather(10, seed=seed)).verdict(wanted.better)
        for seed in range(200)
        for wanted in (_LOW, _HIGH)
    ]
    assert verdicts == ["within noise"] * 400


def test_a_side_slower_by_a_tenth_is_found_in_weather_of_halves() -> None:
    verdicts = {
        paired.change(*_weather(10, seed=seed, slower=1.1)).verdict("lower") for seed in range(100)
    }
    assert verdicts == {"worse"}


def test_better_and_worse_turn_round_with_what_is_wanted() -> None:
    up = paired.change([1.0] * 10, [1.2] * 10)
    down = paired.change([1.2] * 10, [1.0] * 10)
    assert (up.verdict("lower"), up.verdict("higher")) == ("worse", "better")
    assert (down.verdict("lower"), down.verdict("higher")) == ("better", "worse")
    assert up.ratio == pytest.approx(1.2)


def test_a_change_too_small_to_matter_is_noise_however_certain() -> None:
    assert paired.change([1.0] * 10, [1.02] * 10).verdict("lower") == "within noise"
    assert paired.change([1.0] * 10, [1.02] * 10).verdict("lower", tolerance=0.01) == "worse"


def test_one_wild_round_decides_nothing() -> None:
    a = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0, 1.0]
    b = [1.0, 0.99, 1.01, 0.98, 1.02, 1.0, 1.0, 1.0, 1.01, 90.0]
    found = paired.change(a, b)
    assert found.verdict("lower") == "within noise"
    assert found.ratio == pytest.approx(1, abs=0.02)


def test_counts_of_what_should_never_be_are_compared_at_zero_too() -> None:
    assert paired.change([0.0] * 10, [0.0] * 10).verdict("lower") == "within noise"
    assert paired.change([0.0] * 10, [1.0] * 10).verdict("lower") == "worse"


def test_too_few_rounds_prove_nothing() -> None:
    assert paired.least_rounds(0.99) == 8
    assert paired.least_rounds(0.95) == 6
    few = paired.change([1.0] * 7, [9.0] * 7)
    assert (few.low, few.high) == (0.0, math.inf)
    assert few.verdict("lower") == "within noise"
    assert paired.change([1.0] * 8, [9.0] * 8).verdict("lower") == "worse"


@pytest.mark.parametrize(("rounds", "confidence"), [(6, 0.95), (8, 0.9), (9, 0.99)])
def test_the_interval_is_the_exact_one_of_the_signed_ranks(rounds: int, confidence: float) -> None:
    """Under no change every pattern of signs is as likely: count those the interval misses."""
    sizes = [0.01 * 1.7**index for index in range(rounds)]
    missed = 0
    for signs in itertools.product((-1, 1), repeat=rounds):
        logs = [sign * size for sign, size in zip(signs, sizes, strict=True)]
        found = paired.change(
            [1.0] * rounds, [math.exp(each) for each in logs], confidence=confidence
        )
        missed += not found.low <= 1 <= found.high
    assert missed / 2**rounds <= 1 - confidence
    # One more mean cut off at each end would miss too often: it is no wider than it has to be.
    assert (missed + 2) / 2**rounds > (1 - confidence) / 2


def _entry(wanted: Wanted, value: float) -> Entry:
    return Entry(name="q", rows=[Row(wanted=wanted, figure=Figure(value=value))])


def test_both_sides_take_turns_and_the_order_turns_round() -> None:
    asked: list[str] = []

    def ask(_: str, side: str) -> Entry:
        asked.append(side)
        return _entry(_LOW, 1.0)

    (line,) = compare.compared("q", ask, "A", "B", 8)
    assert "".join(asked) == "ABBA" * 4
    assert line.verdict == "within noise"


def test_what_looks_worse_is_measured_again_and_has_to_look_so_again() -> None:
    asked = itertools.count()

    def worse_at_first(_: str, side: str) -> Entry:
        return _entry(_LOW, 2.0 if side == "B" and next(asked) < 8 else 1.0)

    (line,) = compare.confirmed("q", worse_at_first, "A", "B", 8)
    assert line.verdict == "within noise"
    assert next(asked) == 16

    def worse(_: str, side: str) -> Entry:
        return _entry(_LOW, 2.0 if side == "B" else 1.0)

    (line,) = compare.confirmed("q", worse, "A", "B", 8)
    assert (line.verdict, line.a, line.b) == ("worse", 1.0, 2.0)


def test_a_round_of_each_measuring_that_says_the_opposite_hides_nothing() -> None:
    asked = itertools.count(1)

    def ask(_: str, side: str) -> Entry:
        if side == "B":
            return _entry(_LOW, 2.0)
        return _entry(_LOW, 2.2 if next(asked) % 10 == 3 else 1.0)

    (line,) = compare.confirmed("q", ask, "A", "B", 10)
    assert line.verdict == "worse"


def test_a_figure_that_one_side_lacks_is_skipped_with_its_word() -> None:
    def ask(_: str, side: str) -> Entry:
        if side == "A":
            return _entry(_LOW, 1.0)
        return Entry(name="q", rows=[Row(wanted=_LOW, skipped="no moon")])

    (line,) = compare.compared("q", ask, "A", "B", 8)
    assert (line.verdict, line.skipped) == (None, "no moon")


def _checkout(path: Path, late: str) -> str:
    """A checkout whose asyncrt is this one's, slowed down."""
    import asyncrt

    package = path / "asyncrt"
    package.mkdir(parents=True)
    real = os.path.dirname(asyncrt.__file__)
    for name in os.listdir(real):
        if name not in {"__init__.py", "locking", "__pycache__"}:
            (package / name).symlink_to(os.path.join(real, name))
    with open(os.path.join(real, "__init__.py"), encoding="utf-8") as file:
        (package / "__init__.py").write_text(file.read(), encoding="utf-8")
    locking = package / "locking"
    locking.mkdir()
    for name in os.listdir(os.path.join(real, "locking")):
        if name.endswith(".py"):
            with open(os.path.join(real, "locking", name), encoding="utf-8") as file:
                text = file.read()
            if name == "file_lock.py":
                text += late
            (locking / name).write_text(text, encoding="utf-8")
    return str(path)


_SLOW = """

def _late(self: FileLock, _release=FileLock.release) -> None:
    import time

    end = time.perf_counter() + 5e-3  # more than a busy machine takes away
    while time.perf_counter() < end:
        pass
    _release(self)


FileLock.release = _late
"""


@pytest.mark.slow
@pytest.mark.timeout(300)  # some fifty interpreters
def test_a_planted_slow_checkout_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SMOKE", True)
    was, slow = _checkout(tmp_path / "a", ""), _checkout(tmp_path / "b", _SLOW)
    console = Console(width=200, file=io.StringIO())
    words = [was, slow, "lock-uncontended", "--rounds", "12"]  # one of them may be wild
    status = compare.main(words, console, known=["lock-uncontended"])
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert status == 1, said
    assert "worse" in next(line for line in said.splitlines() if "exclusive acquire" in line)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/nowhere", "/nowhere"], "no checkout of asyncrt"),
        ([".", ".", "moon"], "no question 'moon'"),
        ([".", ".", "--rounds", "3"], "it takes 8"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(sys.modules["asyncrt"].__file__ or "").parents[1])
    with pytest.raises(SystemExit):
        compare.main(words, Console(quiet=True), known=["lock-uncontended"])
    assert said in capsys.readouterr().err
