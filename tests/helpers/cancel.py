"""Cancel a coroutine at every tick of its life: natively, twice, late, and by an anyio scope.

A tick is one turn of the event loop in which something happened. The loop is hooked where it turns,
so waiting costs no ticks and a given tick is the same one in every run; the cancellation lands
between two turns, also after a result was set and before its waiter has run. uvloop can't be hooked
so: there a chain of call_soon counts, which also turns while nothing happens.

"late" waits up to a few milliseconds after the tick: what other processes do meanwhile is then
under way, or done and not yet heard of.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

S = TypeVar("S")

How = Literal["native", "twice", "scope", "late"]
HOWS: tuple[How, ...] = ("native", "twice", "scope", "late")
LATE_SECONDS = 0.004


class Outcome(NamedTuple):
    """What became of one run: cancelled, or returned or raised in spite of or before that."""

    tick: int
    how: How
    cancelled: bool
    value: Any
    error: BaseException | None
    hit: bool  # the cancellation came before the end


class _Turns:
    """Calls `at(n)` after the n-th turn of the loop, as long as it says to go on."""

    def __init__(self, at: Callable[[int], bool]) -> None:
        self._at = at
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._turn: Callable[[], None] | None = getattr(self._loop, "_run_once", None)
        self._over = False

    def begin(self) -> None:
        if self._turn is None:
            self._loop.call_soon(self._chain)
        else:
            self._loop._run_once = self._hooked  # type: ignore[attr-defined]  # asyncio's own loop

    def _hooked(self) -> None:
        assert self._turn is not None
        self._turn()
        self._count += 1
        if not self._over and not self._at(self._count):
            self.end()

    def _chain(self) -> None:
        self._count += 1
        if not self._over and self._at(self._count):
            self._loop.call_soon(self._chain)

    def end(self) -> None:
        self._over = True
        if self._turn is not None:
            self._loop.__dict__.pop("_run_once", None)


async def cancelled_at(
    tick: int, make: Callable[[], Coroutine[Any, Any, Any]], how: How = "native"
) -> Outcome:
    """Run what `make` makes and cancel it right after its `tick`-th turn, its first step being 0."""
    scope = anyio.CancelScope()
    returned: list[Any] = []

    async def scoped() -> None:
        with scope:
            returned.append(await make())

    async def plain() -> None:
        returned.append(await make())

    task = asyncio.ensure_future(scoped() if how == "scope" else plain())
    hit = False

    def at(count: int) -> bool:
        nonlocal hit
        if task.done():
            return False
        if count == tick + 1:
            hit = True
            if how == "scope":
                scope.cancel()
            elif how == "late":
                delay = random.Random(tick).random() * LATE_SECONDS
                asyncio.get_running_loop().call_later(delay, task.cancel)
            else:
                task.cancel()
            return how == "twice"
        if count == tick + 2 and how == "twice":
            task.cancel()
            return False
        return True

    turns = _Turns(at)
    turns.begin()
    try:
        await asyncio.wait([task])
    finally:
        turns.end()
    error = None if task.cancelled() else task.exception()
    cancelled = task.cancelled() or (how == "scope" and error is None and not returned)
    return Outcome(tick, how, cancelled, returned[0] if returned else None, error, hit)


async def cancel_at_every_tick(
    prepare: Callable[[], Awaitable[S]],
    make: Callable[[S], Coroutine[Any, Any, Any]],
    check: Callable[[S, Outcome], Awaitable[None]],
    *,
    hows: Iterable[How] = HOWS,
    wanted: Callable[[int, How], bool] = lambda tick, how: True,
    most: int = 5000,
) -> int:
    """Cancel at tick 0, 1, 2, … until a run ends before it is reached; `check` looks at each run.

    `prepare` comes before each run and isn't cancelled. `wanted` leaves ticks out; the run that
    ends by itself is checked too. Returns the number of ticks there are.
    """
    ticks = 0
    for how in hows:
        for tick in range(most):
            if not wanted(tick, how):
                continue
            state = await prepare()
            outcome = await cancelled_at(tick, partial(make, state), how)
            await check(state, outcome)
            if not outcome.hit:
                ticks = max(ticks, tick)
                break
        else:
            raise AssertionError(f"still not ended by itself at tick {most}")
    return ticks
