"""One thread's hop for several callers: each has its own answer, and none another's cancellation."""

from __future__ import annotations

import asyncio
import threading

import pytest

from asyncrt._threads import run_blocking
from asyncrt._together import Together


class Doubling:
    """Doubles numbers, and remembers which ones together. A zero fails; a gate holds it up."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, numbers: list[int]) -> list[int]:
        self.calls.append(numbers)
        self.begun.set()
        assert self.gate.wait(30)
        if 0 in numbers:
            raise ZeroDivisionError
        return [2 * each for each in numbers]


async def until_begun(doubling: Doubling) -> None:
    await run_blocking(doubling.begun.wait, 30)
    doubling.begun.clear()


async def test_what_is_asked_in_one_tick_is_one_call_and_each_has_its_own_answer() -> None:
    doubling = Doubling()
    double = Together(doubling)
    assert await double(21) == 42
    assert await asyncio.gather(*(double(each) for each in range(1, 9))) == list(range(2, 18, 2))
    assert doubling.calls == [[21], list(range(1, 9))]


async def test_what_is_asked_while_a_call_is_under_way_is_the_next() -> None:
    doubling = Doubling()
    double = Together(doubling)
    doubling.gate.clear()
    first = asyncio.ensure_future(double(1))
    await until_begun(doubling)
    later = asyncio.gather(double(2), double(3))
    await asyncio.sleep(0)
    doubling.gate.set()
    assert await first == 2
    assert [*await later] == [4, 6]
    assert doubling.calls == [[1], [2, 3]]


async def test_an_error_goes_to_those_of_its_call_and_to_no_others() -> None:
    doubling = Doubling()
    double = Together(doubling)
    one, two = await asyncio.gather(double(0), double(1), return_exceptions=True)
    assert isinstance(one, ZeroDivisionError)
    assert isinstance(two, ZeroDivisionError)
    assert await double(1) == 2


async def test_hazard_2_a_cancelled_caller_waits_for_its_call_and_the_others_have_their_answers() -> (
    None
):
    doubling = Doubling()
    double = Together(doubling)
    doubling.gate.clear()
    one, other = asyncio.ensure_future(double(1)), asyncio.ensure_future(double(2))
    await until_begun(doubling)
    for _ in range(3):
        one.cancel()
        await asyncio.sleep(0)
    assert not one.done()
    doubling.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await one
    assert await other == 4


async def test_what_is_cancelled_before_its_call_begins_is_left_out() -> None:
    doubling = Doubling()
    double = Together(doubling)
    doubling.gate.clear()
    first = asyncio.ensure_future(double(1))
    await until_begun(doubling)
    cancelled, other = asyncio.ensure_future(double(2)), asyncio.ensure_future(double(3))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    assert cancelled.cancelled()
    doubling.gate.set()
    assert (await first, await other) == (2, 6)
    assert doubling.calls == [[1], [3]]


@pytest.mark.parametrize("tick", range(7))
async def test_cancelled_at_any_tick_nothing_of_its_own_goes_on_behind_its_back(tick: int) -> None:
    under_way: list[int] = []

    def work(values: list[int]) -> list[int]:
        under_way.extend(values)
        under_way.clear()
        return values

    same = Together(work)
    task = asyncio.ensure_future(same(1))
    other = asyncio.ensure_future(same(2))
    for _ in range(tick):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert 1 not in under_way
    assert await other == 2
    assert await same(3) == 3
