"""prune: stopped containers are deleted, and nothing else, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, Status
from asyncrt.container import destroy as destroying
from asyncrt.ids import ContainerId
from tests.helpers.containers import shell, sleeper, started
from tests.helpers.records import names, put_broken


async def stopped(engine: Engine, id: str, **annotations: str) -> asyncrt.Container:
    """A container that has ended."""
    container = await started(engine, id, shell("exit 3", annotations=annotations))
    await container.wait()
    return container


async def left(engine: Engine) -> list[str]:
    return [view.id for view in await engine.list()]


async def test_only_what_is_stopped_and_fits_goes(engine: Engine) -> None:
    for id, team in (("blue", "blue"), ("green", "green"), ("other", "green")):
        await stopped(engine, id, team=team)
    paused = await started(engine, "paused", sleeper())
    await paused.pause()
    await engine.create("created", spec=sleeper())
    await started(engine, "running", sleeper())
    put_broken(engine.root)

    assert await engine.prune(annotations={"team": "blue"}, dry_run=True) == {"blue": None}
    assert await engine.prune(sandbox="nobody") == {}
    assert await engine.prune(until=timedelta(hours=1)) == {}
    assert await engine.prune(until=datetime(2000, 1, 1, tzinfo=UTC)) == {}
    assert await engine.prune(until=timedelta.max) == {}
    assert len(await left(engine)) == 7
    assert await engine.prune(annotations={"team": "green"}, sandbox="other") == {"other": None}
    assert await engine.prune(until=datetime.now(UTC)) == {"blue": None, "green": None}
    assert await left(engine) == ["broken", "created", "paused", "running"]
    assert await engine.prune() == {}
    await engine.destroy_many(await left(engine))
    assert names(engine.root) == []


async def test_a_list_may_be_of_those_created_before(engine: Engine) -> None:
    await stopped(engine, "first")
    between = datetime.now(UTC)
    await stopped(engine, "second")
    assert [each.id for each in await engine.list(until=between)] == ["first"]
    assert len(await engine.list(until=timedelta(0))) == 2
    assert len(await engine.list(until=timedelta.min)) == 2
    for bad in (datetime(2000, 1, 1), 5, "1h"):  # noqa: DTZ001 - without a zone on purpose
        with pytest.raises(asyncrt.SpecInvalid, match="until is"):
            await engine.prune(until=bad)  # type: ignore[arg-type]  # wrong on purpose
    assert set(await engine.prune()) == {"first", "second"}


async def test_one_that_cannot_be_deleted_stops_none_of_the_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stopped(engine, "busy")
    await stopped(engine, "free")
    async with Engine(engine.root) as other:
        state = asyncrt.StateFile(engine.root, ContainerId("busy"))
        await state.lock()
        try:
            found = await other.prune(timeout=0.01)
        finally:
            state.unlock()
            state.close()
    assert found["free"] is None
    assert isinstance(found["busy"], asyncrt.ContainerBusy)
    assert await left(engine) == ["busy"]
    assert await engine.prune() == {"busy": None}


@pytest.mark.parametrize("anew", [False, True], ids=["gone", "made anew"])
async def test_what_somebody_deletes_meanwhile_is_fine_and_its_successor_safe(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, *, anew: bool
) -> None:
    await stopped(engine, "web")
    delete: Callable[..., Awaitable[None]] = destroying.delete_stopped

    async def late(*args: Any) -> None:
        monkeypatch.undo()
        await engine.delete("web")
        if anew:
            await stopped(engine, "web")
        await delete(*args)

    monkeypatch.setattr(destroying, "delete_stopped", late)
    assert await engine.prune() == {"web": None}
    assert [view.status for view in await engine.list()] == [Status.STOPPED] * anew
    await engine.prune()


@pytest.mark.needs_root
@pytest.mark.needs_cgroups
async def test_a_sandbox_that_has_ended_goes_with_all_that_was_in_it(engine: Engine) -> None:
    sandbox = await engine.create_sandbox("pod", spec=sleeper())
    await sandbox.root.start()
    beside = [await sandbox.create(name, spec=sleeper()) for name in ("one", "two")]
    await beside[0].start()
    assert await engine.prune() == {}
    await sandbox.root.kill("KILL")
    for each in (sandbox.root, *beside):
        await each.wait()
    assert set(await engine.prune()) == {"pod", "one", "two"}
    assert set((await engine.prune()).values()) == set()
    assert names(engine.root) == []
