"""Every public awaitable, cancelled at every tick: its result is returned or undone, never lost.

The list of awaitables is taken from the public surface. A new one without a scenario fails here.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from typing import Any

import pytest

import asyncrt
from tests.helpers import reality, reaping, surface
from tests.helpers.cancel import HOWS, Outcome, cancel_at_every_tick
from tests.helpers.leaks import _descriptors
from tests.helpers.processes import until
from tests.race.scenarios import SCENARIOS, Bench

# On a disk file work is done in threads, so that there are many more places to be cancelled at.
ON_DISK = [
    "Engine.create",
    "Engine.run",
    "Container.start",
    "Container.pause",
    "Container.destroy",
    "Pool.take",
    "Watch.__aenter__",
    "Watch.__aenter__ and events",
    *(name for name in SCENARIOS if name.startswith("StateFile.")),
]


def _with_what_it_needs(name: str) -> Any:
    marks = [pytest.mark.needs_cgroups] if "sandbox" in name.lower() else []
    return pytest.param(name, marks=marks)


@pytest.mark.timeout(600)  # some hundred lives for one with hooks
@pytest.mark.parametrize("name", [_with_what_it_needs(name) for name in SCENARIOS])
async def test_cancelled_at_any_tick(name: str, engine: asyncrt.Engine, full: bool) -> None:
    await sweep(name, engine, full=full)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ON_DISK)
async def test_cancelled_at_any_tick_with_file_work_in_threads(
    name: str, disk_root: str, full: bool
) -> None:
    async with asyncrt.Engine(disk_root, durable=False) as engine:
        await sweep(name, engine, full=full)


async def sweep(name: str, engine: asyncrt.Engine, *, full: bool) -> None:
    scenario = SCENARIOS[name]
    bench = Bench(engine)
    # Warm: the fork server is there, and the descriptor that libuv keeps once it has seen a stream.
    await engine.run("web", spec=bench.spec(["/bin/true"]), stdout=asyncrt.PIPE)
    before: dict[int, str] = {}

    async def prepare() -> Any:
        before.clear()
        before.update(_descriptors())
        return await scenario.prepare(bench)

    async def check(state: Any, outcome: Outcome) -> None:
        if outcome.error is not None:
            raise AssertionError(f"raised when cancelled: {outcome}") from outcome.error
        assert outcome.hit or not outcome.cancelled
        await scenario.check(bench, state, outcome)
        if isinstance(state, asyncrt.Process):
            state.close()
        await engine.delete("web", force=True)
        await bench.undo.aclose()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert others == set()
        if _more(bench, before):
            # The error of a cancelled task and its frames are a cycle, with what was used in them.
            gc.collect()
        try:
            await until(lambda: not _more(bench, before), "all is as it was before")
        except TimeoutError:
            pytest.fail(f"{outcome} left {_more(bench, before)}")

    # In CI only the first way to cancel meets every tick.
    places = {how: index for index, how in enumerate(HOWS)}
    ticks = await cancel_at_every_tick(
        prepare,
        lambda state: scenario.make(bench, state),
        check,
        wanted=lambda tick, how: full or places[how] == 0 or tick % 3 == places[how] % 3,
    )
    assert ticks >= 0


def _more(bench: Bench, before: dict[int, str]) -> list[object]:
    """Descriptors, files and processes that weren't there before."""
    reaping.reap_orphans()
    more = [f"{fd} -> {to}" for fd, to in _descriptors().items() if fd not in before]
    return [*more, *reality.files(bench.root), *reality.strays()]


def test_every_public_awaitable_has_a_scenario() -> None:
    awaitable = {name for name, _ in surface.awaitables()}
    for owner in surface.public_classes():
        for name in ("__aenter__", "__aexit__"):
            if inspect.iscoroutinefunction(vars(owner).get(name)):
                awaitable.add(f"{owner.__name__}.{name}")
    covered = {name.partition(" ")[0] for name in SCENARIOS}
    assert awaitable - covered == set()
    assert covered - awaitable == set()
    assert len(awaitable) > 30
