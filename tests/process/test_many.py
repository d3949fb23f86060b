"""Verbs over several containers, the first to end of several, lists of some."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, Status, _durable
from asyncrt.engine.many import for_all
from asyncrt.state import read_record
from tests.helpers.containers import Fifo, shell, sleeper, started
from tests.helpers.records import names, put_broken

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}


STUBBORN = "trap 'echo told >$1' TERM; sleep 1000 & echo up >$1; while :; do wait; done"


async def some(engine: Engine, *ids: str) -> list[asyncrt.Container]:
    return [await started(engine, id, sleeper(), **NULL) for id in ids]


async def test_one_that_is_missing_stops_none_of_the_others(engine: Engine) -> None:
    """HAZARDS 17."""
    a, b, c = await some(engine, "alpha", "beta", "gamma")
    found = await engine.kill_many(["missing", "alpha", "be", c, c, ""], "KILL")
    assert list(found) == ["missing", "alpha", "be", "gamma", ""]
    assert {id for id, error in found.items() if error is None} == {"alpha", "be", "gamma"}
    assert isinstance(found["missing"], asyncrt.ContainerNotFound)
    assert isinstance(found[""], asyncrt.InvalidId)
    for each in (a, b, c):
        assert (await each.wait(20)).signal == 9
    found = await engine.kill_many(["alpha"])
    assert isinstance(found["alpha"], asyncrt.InvalidTransition)
    found = await engine.destroy_many(["missing", "alpha", b, "gamma", "bad id", a])
    assert {id for id, error in found.items() if error is not None} == {"bad id"}
    assert isinstance(found["bad id"], asyncrt.InvalidId)
    assert names(engine.root) == []
    assert await engine.destroy_many([]) == {}


async def test_destroy_takes_broken_ones_and_only_this_instance_of_a_handle(engine: Engine) -> None:
    (old,) = await some(engine, "web")
    await old.destroy()
    (new,) = await some(engine, "web")
    put_broken(engine.root)
    assert await engine.destroy_many([old, "broken"]) == {"web": None, "broken": None}
    assert (await new.view()).status is Status.RUNNING
    assert await engine.destroy_many(["web"]) == {"web": None}


async def test_several_are_stopped_side_by_side_the_stubborn_too(
    engine: Engine, tmp_path: Any
) -> None:
    with Fifo(tmp_path / "up") as up:
        ids = [f"s{number}" for number in range(8)]
        for id in ids:
            await started(engine, id, shell(STUBBORN, up.path), **NULL)
        for _ in ids:
            assert await up.line() == "up"
        stopping = asyncio.create_task(engine.stop_many(ids, grace_seconds=3600))
        for _ in ids:  # none has ended, and all have been told
            assert await up.line() == "told"
        stopping.cancel()
        await asyncio.wait((stopping,))
        found = await engine.stop_many(ids, grace_seconds=0.05)
        assert set(found.values()) == {None}
    for view in await engine.list():
        assert view.exit is not None
        assert view.exit.signal == 9
        await engine.delete(view.id)


async def test_what_is_wrong_with_all_is_raised_before_anything_is_done(engine: Engine) -> None:
    (web,) = await some(engine, "web")
    with pytest.raises(asyncrt.SpecInvalid, match="no signal"):
        await engine.kill_many(["web"], "NOPE")
    with pytest.raises(asyncrt.SpecInvalid, match="grace_seconds"):
        await engine.stop_many(["web"], -1)
    with pytest.raises(asyncrt.SpecInvalid, match="at_once"):
        await engine.destroy_many(["web"], at_once=0)
    with pytest.raises(asyncrt.SpecInvalid, match="at least one"):
        await engine.wait_any([])
    junk: Any = ["web", 5]
    for verb in (engine.kill_many, engine.stop_many, engine.destroy_many, engine.wait_any):
        with pytest.raises(asyncrt.SpecInvalid, match="5 is neither an id nor a container"):
            await verb(junk)
    assert (await web.view()).status is Status.RUNNING
    await web.destroy()


async def test_a_single_id_is_one_and_not_its_letters(engine: Engine) -> None:
    """Each letter would be an abbreviation, of another container perhaps."""
    await some(engine, "web", "else", "b")
    assert await engine.kill_many("web", "KILL") == {"web": None}
    assert (await engine.wait_any("web"))[1].signal == 9
    assert await engine.stop_many(await engine.load("b"), 0) == {"b": None}
    assert await engine.destroy_many("web") == {"web": None}
    assert [view.id for view in await engine.list(status="running")] == ["else"]
    await engine.destroy_many(["else", "b"])


async def test_so_many_are_under_way_at_once_and_no_more() -> None:
    now = most = 0

    async def act(_: object) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(3):
            await asyncio.sleep(0)
        now -= 1

    assert len(await for_all(map(str, range(50)), act, at_once=7)) == 50
    assert most == 7


async def test_a_cancelled_batch_begins_nothing_more() -> None:
    begun: list[object] = []
    forever = asyncio.Event()

    async def act(each: object) -> None:
        begun.append(each)
        await forever.wait()

    task = asyncio.create_task(for_all([*"abcdef"], act, at_once=2))
    while len(begun) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert begun == ["a", "b"]


async def test_the_first_to_end_is_told_with_how_it_ended(engine: Engine, tmp_path: Any) -> None:
    with Fifo(tmp_path / "go") as go:
        slow, other = await some(engine, "slow", "other")
        quick = await started(engine, "quick", shell("read x <$1; exit 3", go.path), **NULL)
        waiting = asyncio.create_task(engine.wait_any([slow, "qui", other]))
        with pytest.raises(TimeoutError):
            await engine.wait_any([slow, quick], timeout=0.01)
        go.say()
        container, result = await waiting
        assert (container.id, container.instance) == ("quick", quick.instance)
        assert result.exit_code == 3
        # It can be asked again, and of several that have ended the one given first is told.
        await slow.kill("KILL")
        await slow.wait()
        assert (await engine.wait_any([other, slow, quick]))[0] is slow
        with pytest.raises(asyncrt.ContainerNotFound):
            await engine.wait_any([other, "nobody"])
    await engine.destroy_many([slow, other, quick])


async def test_a_list_has_those_that_fit(engine: Engine) -> None:
    def spec(**annotations: str) -> asyncrt.Spec:
        return sleeper(annotations=annotations)

    await engine.create("blue", spec=spec(team="blue"), **NULL)
    await started(engine, "green", spec(team="green", tier="web"), **NULL)
    (plain,) = await some(engine, "plain")
    await plain.kill("KILL")
    await plain.wait()
    put_broken(engine.root)

    async def listed(**wanted: Any) -> list[str]:
        return [view.id for view in await engine.list(**wanted)]

    assert await listed() == ["blue", "broken", "green", "plain"]
    assert await listed(status="running") == ["green"]
    assert await listed(status=[Status.STOPPED, "created"]) == ["blue", "plain"]
    assert await listed(status="broken") == ["broken"]
    assert await listed(status=[]) == []
    assert await listed(sandbox="blue") == ["blue"]
    assert await listed(sandbox="blu") == []
    assert await listed(annotations={"team": None}) == ["blue", "green"]
    assert await listed(annotations={"team": "green", "tier": "web"}) == ["green"]
    assert await listed(annotations={"team": "blue"}, status="running") == []
    assert await listed(annotations={}) == await listed()
    with pytest.raises(asyncrt.SpecInvalid, match="no status 'runing'"):
        await listed(status="runing")
    await engine.destroy_many(await listed())


async def test_a_config_is_read_only_for_what_the_other_filters_leave(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in ("a", "b"):
        await engine.create(id, spec=sleeper(annotations={"k": "v"}), **NULL)
    await (await engine.load("b")).start()
    reads: list[str] = []
    read = _durable.read

    def noting(path: str) -> bytes:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(_durable, "read", noting)
    (view,) = await engine.list(status="running", annotations={"k": "v"})
    assert view.id == "b"
    assert [path for path in reads if path.endswith("config.json")] == [
        f"{engine.root}/b.d/config.json"
    ]
    os.unlink(f"{engine.root}/b.d/config.json")
    assert [each.id for each in await engine.list(annotations={"k": "v"})] == ["a"]
    assert read_record(engine.root, "b").id == "b"
    monkeypatch.undo()
    await engine.destroy_many(["a", "b"])
