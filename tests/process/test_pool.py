"""The warm pool: containers ahead of their use, and none of them forgotten, whatever happens."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, Lease, Status
from tests.helpers import reality
from tests.helpers.containers import (
    Fifo,
    gone,
    init_of,
    kill_now,
    shell,
    shell_hook,
    sleeper,
    supervisor_of,
)
from tests.helpers.processes import Interpreter, until
from tests.helpers.records import names

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}


async def in_stock(pool: asyncrt.Pool, count: int) -> None:
    await until(lambda: pool.ready == count, f"{count} are in stock")


async def test_they_wait_at_their_gates_and_one_is_handed_out_running(engine: Engine) -> None:
    async with engine.pool(spec=sleeper(), size=3, prefix="warm", **NULL) as pool:
        assert (pool.size, pool.ready) == (3, 3)
        views = await engine.list()
        assert {view.status for view in views} == {Status.CREATED}
        assert all(view.id.startswith("warm-") for view in views)
        first = await pool.take()
        assert first.id in {view.id for view in views}
        assert (await first.view()).status is Status.RUNNING
        await in_stock(pool, 3)  # refilled behind us
        second = await pool.take(start=False)
        assert (await second.view()).status is Status.CREATED
        await second.start()
    # What was taken is the taker's, the rest is gone.
    assert {view.id for view in await engine.list()} == {first.id, second.id}
    assert {view.status for view in await engine.list()} == {Status.RUNNING}
    await engine.destroy_many([first, second])
    await pool.close()


async def test_what_was_taken_still_goes_with_its_engine_unless_renewed(
    root: str, engine: Engine
) -> None:
    async with Engine(root) as owner, owner.pool(spec=sleeper(), size=1, **NULL) as pool:
        attached, free = await pool.take(), await pool.take()
        await free.renew(None)
    assert (await (await engine.load(attached.id)).wait(20)).reason == "lease"
    assert (await (await engine.load(free.id)).view()).status is Status.RUNNING
    await engine.destroy_many([attached.id, free.id])


async def test_a_refused_spec_is_told_at_the_entry_and_nothing_is_left(engine: Engine) -> None:
    refused: list[tuple[type[Exception], dict[str, Any]]] = [
        (asyncrt.SpecInvalid, {}),
        (asyncrt.SpecInvalid, {"spec": sleeper(), "bundle": "."}),
        (asyncrt.SpecInvalid, {"spec": sleeper(), "deadline_seconds": -1}),
        (asyncrt.StartFailed, {"spec": sleeper(cwd="/nowhere")}),
        (asyncrt.HookFailed, {"spec": sleeper(hooks={"createRuntime": [shell_hook("exit 3")]})}),
    ]
    for error, options in refused:
        with pytest.raises(error):
            async with engine.pool(size=3, **options, **NULL):
                pytest.fail("it was entered")
        assert reality.files(engine.root) == set()


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2", None])
async def test_a_pool_of_nothing_is_refused(engine: Engine, size: Any) -> None:
    with pytest.raises(
        asyncrt.SpecInvalid, match=f"size of a pool is {size!r}, must be a number from 1 on"
    ):
        engine.pool(spec=sleeper(), size=size)
    with pytest.raises(asyncrt.InvalidId):
        engine.pool(spec=sleeper(), size=1, prefix="a b")


async def test_a_refill_that_fails_is_told_to_whoever_takes_and_tried_again(
    engine: Engine, tmp_path: Path
) -> None:
    # A directory that is there, then isn't, then is again.
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    async with engine.pool(spec=sleeper(cwd=str(cwd)), size=1, **NULL) as pool:
        cwd.rmdir()
        first = await pool.take()
        for _ in range(2):
            with pytest.raises(asyncrt.StartFailed, match="cwd"):
                await pool.take()
        assert pool.ready == 0
        cwd.mkdir()
        second = await pool.take()
        await in_stock(pool, 1)
        await engine.destroy_many([first, second])
    assert reality.files(engine.root) == set()


async def test_everybody_who_waits_hears_of_a_failure(engine: Engine, tmp_path: Path) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    async with engine.pool(spec=sleeper(cwd=str(cwd)), size=1, **NULL) as pool:
        cwd.rmdir()
        taking = [asyncio.create_task(pool.take()) for _ in range(4)]
        done = await asyncio.gather(*taking, return_exceptions=True)
        assert isinstance(done[0], asyncrt.Container)
        assert {type(each) for each in done[1:]} == {asyncrt.StartFailed}
        await done[0].destroy()


async def test_a_program_that_cant_be_executed_is_told_to_its_taker(engine: Engine) -> None:
    spec = asyncrt.Spec.command(["/no/such/program"])
    async with engine.pool(spec=spec, size=1, **NULL) as pool:
        for _ in range(3):
            with pytest.raises(asyncrt.StartFailed, match="/no/such/program"):
                await pool.take()
    assert reality.files(engine.root) == set()


async def test_one_that_ended_in_stock_is_replaced(engine: Engine) -> None:
    async with engine.pool(spec=sleeper(), size=3, **NULL) as pool:
        views = await engine.list()
        for view, end in zip(views, ("kill", "supervisor", "delete"), strict=True):
            container = await engine.load(view.id)
            if end == "kill":
                await container.kill("KILL")
                await container.wait()
            elif end == "supervisor":
                kill_now(supervisor_of(container, engine.root))
                await gone(init_of(container, engine.root))
            else:
                await engine.delete(view.id, force=True)
        taken = await pool.take()
        assert taken.id not in {view.id for view in views}
        assert (await taken.view()).status is Status.RUNNING
        await taken.destroy()
        await in_stock(pool, 3)
    assert reality.files(engine.root) == set()


async def test_something_that_ends_all_of_them_is_no_endless_loop(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine.pool(spec=sleeper(), size=2, **NULL) as pool:
        make = pool._make

        async def make_dead() -> asyncrt.Container:
            container = await make()
            try:
                await container.kill("KILL")
                await container.wait()
            except BaseException:  # a make that is cancelled leaves nothing
                await container.destroy()
                raise
            return container

        monkeypatch.setattr(pool, "_make", make_dead)
        for view in await engine.list():
            await (await engine.load(view.id)).kill("KILL")
        with pytest.raises(asyncrt.InvalidTransition):
            await pool.take()
    assert reality.files(engine.root) == set()


async def test_many_takers_are_served_in_their_order(engine: Engine) -> None:
    order: list[int] = []

    async def take(number: int) -> asyncrt.Container:
        container = await pool.take(start=False)
        order.append(number)
        return container

    async with engine.pool(spec=sleeper(), size=2, **NULL) as pool:
        taken = await asyncio.gather(*(take(number) for number in range(10)))
        assert order == list(range(10))
        assert len({each.id for each in taken}) == 10
        await engine.destroy_many(taken)


async def test_the_stock_and_what_is_being_made_never_exceed_the_size(engine: Engine) -> None:
    most = 0

    async def count() -> None:
        nonlocal most
        while True:
            most = max(most, len(await engine.list(status=("creating", "created"))))

    async with engine.pool(spec=sleeper(), size=3, **NULL) as pool:
        counting = asyncio.create_task(count())
        taken = await asyncio.gather(*(pool.take() for _ in range(12)))
        counting.cancel()
        await engine.destroy_many(taken)
    # One more for each taker on its way from the gate to the record is still called created.
    assert most <= 3


async def test_a_closed_pool_lets_nobody_wait(engine: Engine, tmp_path: Path) -> None:
    with Fifo(tmp_path / "hook") as go:
        hold = shell_hook("read x <$1", go.path)
        go.say()
        pool = engine.pool(spec=sleeper(hooks={"createRuntime": [hold]}), size=1, **NULL)
        with pytest.raises(RuntimeError, match="isn't open"):
            await pool.take()
        async with pool:
            first = await pool.take()
            waiting = asyncio.create_task(pool.take())
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="closed"):
            await waiting
        with pytest.raises(RuntimeError, match="isn't open"):
            await pool.take()
        with pytest.raises(RuntimeError, match="entered once"):
            await pool.__aenter__()
        assert [view.id for view in await engine.list()] == [first.id]
        await first.destroy()


async def test_a_cancelled_entry_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    with Fifo(tmp_path / "hook") as told:
        hold = shell_hook("echo here >$1; sleep 1000", told.path)
        pool = engine.pool(spec=sleeper(hooks={"createRuntime": [hold]}), size=3, **NULL)
        entering = asyncio.create_task(pool.__aenter__())
        assert await told.line() == "here"
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
    assert reality.files(engine.root) == set()
    assert reality.containers_processes() == []


async def test_pipes_and_deadlines_come_with_them(engine: Engine) -> None:
    spec = shell("read x; echo got $x")
    async with engine.pool(
        spec=spec, size=1, stdin=asyncrt.PIPE, stdout=asyncrt.PIPE, deadline_seconds=30
    ) as pool:
        for number in range(3):
            container = await pool.take()
            assert container.stdin is not None
            assert container.stdout is not None
            container.stdin.write(b"%d\n" % number)
            assert await container.stdout.readline() == b"got %d\n" % number
            assert (await container.wait()).exit_code == 0
            await container.destroy()


OWNER = """
import asyncio, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        spec = asyncrt.Spec.command(["/bin/sleep", "1000"])
        lease = asyncrt.Lease(float(sys.argv[2]))
        async with engine.pool(spec=spec, size=5, lease=lease, stdout=asyncrt.DEVNULL) as pool:
            taken = [await pool.take() for _ in range(2)]
            print("ready", flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("grace", [0, 0.3])
async def test_a_killed_owners_stock_is_gone_after_the_grace(engine: Engine, grace: float) -> None:
    with Interpreter(OWNER, engine.root, grace) as owner:
        assert await owner.next_line() == "ready"
        owner.kill()
        await until(lambda: not reality.strays(), "nothing of it runs")
    reasons = {view.exit.reason for view in await engine.list() if view.exit is not None}
    assert reasons <= {"lease", "creation interrupted"}
    for name in {each.lstrip(".").partition(".")[0] for each in names(engine.root)}:
        await engine.delete(name, force=True)


async def test_a_pool_needs_its_lease_and_takes_another(root: str, engine: Engine) -> None:
    async with Engine(root) as owner, owner.pool(spec=sleeper(), size=1, lease=Lease(60)) as pool:
        container = await pool.take()
        await owner.close()
        heir = await engine.load(container.id)
        await heir.renew(Lease(0))
        assert (await heir.view()).status is Status.RUNNING
        for view in await engine.list():
            await engine.delete(view.id, force=True)
