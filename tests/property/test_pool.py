"""The pool's bookkeeping under any order of takes, cancellations, makes, failures and deaths."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from asyncrt.container import Container
from asyncrt.engine.pool import Pool
from asyncrt.errors import ContainerNotFound, InvalidTransition, StartFailed
from asyncrt.ids import ContainerId


class Fake(Container):
    """A container as far as a pool knows one."""

    def __init__(self, number: int) -> None:  # of a container's own it has nothing
        self.id = ContainerId(f"fake-{number}")
        self.number = number
        self.dead = self.destroyed = self.started = False

    async def start(self, *, timeout: float | None = None) -> None:
        await asyncio.sleep(0)
        if self.destroyed:
            raise ContainerNotFound(container_id=self.id, root="/")
        if self.dead:
            raise InvalidTransition(container_id=self.id, operation="start", status="", allowed=())
        self.started = True

    async def destroy(self, *, timeout: float | None = None) -> None:
        await asyncio.sleep(0)
        self.destroyed = True


class Maker:
    """Makes what it is told to make, when it is told to."""

    def __init__(self) -> None:
        self.made: list[Fake] = []
        self.pending: list[asyncio.Future[bool]] = []

    async def __call__(self) -> Any:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.pending.append(future)
        try:
            well = await future
        finally:
            self.pending.remove(future)
        if not well:
            raise StartFailed(container_id="", what="x", path="", errno=1)
        self.made.append(Fake(len(self.made)))
        return self.made[-1]


async def _settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def _act(pool: Pool, maker: Maker, steps: list[tuple[str, int]]) -> None:
    takes: list[asyncio.Task[Any]] = []
    cancelled: set[asyncio.Task[Any]] = set()
    entering = asyncio.ensure_future(pool.__aenter__())
    await _settle()
    while not entering.done():
        maker.pending[0].set_result(True)
        await _settle()
    assert entering.result() is pool
    assert pool.ready == pool.size
    for action, number in steps:
        if action == "take":
            take = asyncio.ensure_future(pool.take())
            takes.append(take)
        elif action == "cancel" and takes:
            each = takes[number % len(takes)]
            if each.cancel():
                cancelled.add(each)
        elif action in {"make", "fail"} and maker.pending:
            future = maker.pending[number % len(maker.pending)]
            if not future.done():
                future.set_result(action == "make")
        elif action == "die" and pool.ready:
            pool._ready[number % pool.ready].dead = True  # type: ignore[attr-defined]  # a fake
        if number % 3:
            await _settle()
        waiting = [each for each in pool._takers if not each.done()]
        assert not (waiting and pool.ready)
        assert len(maker.pending) + pool.ready <= pool.size
    await _settle()
    closing = asyncio.ensure_future(pool.close())
    await _settle()
    await closing
    await _settle()
    assert all(each.done() for each in takes)
    assert not maker.pending
    got = [each for each in takes if not each.cancelled() and each.exception() is None]
    # Nobody is overtaken: who came first has what was made first. But who found a dead one asks
    # again, behind those who came meanwhile, and what was given back goes to who is next.
    if not cancelled and not any(each.dead for each in maker.made):
        numbers = [each.result().number for each in got]
        assert numbers == sorted(numbers)
    for each in takes:
        if each not in cancelled and not each.cancelled() and each.exception() is not None:
            assert isinstance(each.exception(), StartFailed | InvalidTransition | RuntimeError)
    taken = [each.result() for each in got]
    assert len({id(each) for each in taken}) == len(taken)
    for made in maker.made:
        assert made.destroyed == (made not in taken)
        assert made.started or made.destroyed


@given(
    size=st.integers(1, 5),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["take", "take", "take", "make", "make", "fail", "cancel", "die"]),
            st.integers(0, 8),
        ),
        max_size=40,
    ),
)
def test_everything_made_is_in_stock_or_taken_or_destroyed(
    size: int, steps: list[tuple[str, int]]
) -> None:
    maker = Maker()
    asyncio.run(_act(Pool(maker, size), maker, steps))
