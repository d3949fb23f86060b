"""A pool's awaitables, cancelled."""

from __future__ import annotations

import asyncrt
from tests.helpers.cancel import Outcome
from tests.race.scenarios.bench import NULL, Bench, always_nothing, scenario


async def stocked(bench: Bench) -> asyncrt.Pool:
    """One is in stock."""
    pool = bench.engine.pool(spec=bench.spec(), size=1, prefix="web", **NULL)
    await pool.__aenter__()
    return pool


async def out_of_stock(bench: Bench) -> asyncrt.Pool:
    """The next is being made."""
    pool = await stocked(bench)
    await (await pool.take(start=False)).destroy()
    return pool


async def taken_or_none(bench: Bench, pool: asyncrt.Pool, outcome: Outcome) -> None:
    await pool.close()
    taken = {view.id for view in await bench.engine.list()}
    assert taken == (set() if outcome.cancelled else {outcome.value.id})
    await bench.engine.destroy_many(taken)


async def entered_or_nothing(bench: Bench, pool: asyncrt.Pool, outcome: Outcome) -> None:
    if not outcome.cancelled:
        assert pool.ready == 1
        await pool.close()
    bench.nothing_of_it()


async def empty_pool(bench: Bench) -> asyncrt.Pool:
    return bench.engine.pool(spec=bench.spec(), size=1, prefix="web", **NULL)


scenario("Pool.take", lambda b, p: p.take(), prepare=stocked, check=taken_or_none)
scenario("Pool.take made for it", lambda b, p: p.take(), prepare=out_of_stock, check=taken_or_none)
scenario(
    "Pool.__aenter__", lambda b, p: p.__aenter__(), prepare=empty_pool, check=entered_or_nothing
)
scenario("Pool.close", lambda b, p: p.close(), prepare=out_of_stock, check=always_nothing)
scenario(
    "Pool.__aexit__",
    lambda b, p: p.__aexit__(None, None, None),
    prepare=stocked,
    check=always_nothing,
)
