"""One container from create to destroy, and every verb in every status."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

import asyncrt
from asyncrt.status import TABLE, Status
from tests.helpers.containers import (
    SECONDS,
    Fifo,
    destroyed,
    init_of,
    line,
    record_of,
    shell,
    shell_hook,
    sleeper,
    started,
)
from tests.helpers.processes import Interpreter, until
from tests.helpers.records import names, raw_record

if TYPE_CHECKING:
    from asyncrt.engine import Engine


OTHER_PROCESS = """
import asyncio, sys
import asyncrt

def show(result):
    print(result.exit_code, result.signal, result.reason, result.finished_at.isoformat())

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        container = await engine.load("web")
        print((await container.view()).status, [each.id for each in await engine.list()])
        waiting = asyncio.create_task(container.wait())
        sys.stdin.readline()
        print((await container.view()).status)
        sys.stdin.readline()
        show(await waiting)
        print((await container.view()).status, (await engine.list())[0].exit.signal)
        show(await container.wait())
        sys.stdin.readline()
        print(len(await engine.list()))
        try:
            await engine.load("web")
        except asyncrt.ContainerNotFound:
            print("not found")

asyncio.run(main())
"""


async def test_another_process_sees_every_step_of_a_container(engine: Engine) -> None:
    container = await engine.create("web", spec=sleeper())
    with Interpreter(OTHER_PROCESS, engine.root) as other:
        assert await other.next_line() == "created ['web']"
        await container.start()
        other.say("started")
        assert await other.next_line() == "running"
        await container.kill("TERM")
        result = await container.wait()
        assert (result.exit_code, result.signal, result.reason) == (None, 15, "signal")
        assert result.started_at is not None
        assert result.finished_at is not None
        other.say("killed")
        told = f"None 15 signal {result.finished_at.isoformat()}"
        assert await other.next_line() == told
        assert await other.next_line() == "stopped 15"
        assert await other.next_line() == told
        await container.destroy()
        other.say("destroyed")
        assert await other.next_line() == "0"
        assert await other.next_line() == "not found"
        assert other.wait() == 0


async def test_creating_is_on_disk_before_anything_is_started(
    engine: Engine, tmp_path: Path
) -> None:
    """HAZARDS 13."""
    with Fifo(tmp_path / "began") as began, Fifo(tmp_path / "go") as go:
        hook = shell_hook('echo x >"$1"; read x <"$2"', began.path, go.path)
        creating = asyncio.create_task(
            engine.create("web", spec=sleeper(hooks={"createRuntime": [hook]}))
        )
        await began.line()
        assert raw_record(engine.root)["status"] == "creating"
        assert [view.status for view in await engine.list()] == [Status.CREATING]
        go.say()
        container = await creating
        assert raw_record(engine.root)["status"] == "created"
        await container.destroy()


async def test_a_container_never_started_is_destroyed_and_twice_is_fine(engine: Engine) -> None:
    container = await engine.create("web", spec=sleeper())
    await container.destroy()
    await container.destroy()
    assert names(engine.root) == []
    assert await engine.list() == []


async def test_destroying_again_when_the_id_is_taken_anew_leaves_the_new_one_alone(
    engine: Engine,
) -> None:
    old = await engine.create("web", spec=sleeper())
    await old.destroy()
    async with destroyed(await started(engine, "web", sleeper())) as new:
        await old.destroy()
        for verb in (old.view(), old.start(), old.kill(), old.wait(), old.exec(["true"])):
            with pytest.raises(asyncrt.ContainerNotFound) as caught:
                await verb
            assert caught.value.instance == old.instance
        assert (await new.view()).status is Status.RUNNING


async def test_destroy_racing_start_never_fails_and_leaves_nothing(
    engine: Engine, static_true: str
) -> None:
    spec = asyncrt.Spec.command([static_true])
    for turn in range(10):
        container = await engine.create(f"r{turn}", spec=spec)
        other = await engine.load(f"r{turn}")
        one, two = await asyncio.gather(
            *([container.start(), other.destroy()][:: 1 if turn % 2 else -1]),
            return_exceptions=True,
        )
        start, destroy = (one, two) if turn % 2 else (two, one)
        assert destroy is None
        assert start is None or isinstance(
            start, asyncrt.ContainerNotFound | asyncrt.InvalidTransition
        )
        await container.destroy()
    assert names(engine.root) == []


async def test_loading_an_unknown_id_leaves_no_lock_file(engine: Engine) -> None:
    """HAZARDS 17."""
    for text in ("", "*", "a/b"):
        with pytest.raises(asyncrt.InvalidId):
            await engine.load(text)
    for text in ("nobody", ".."):
        with pytest.raises(asyncrt.ContainerNotFound):
            await engine.load(text)
    with pytest.raises(asyncrt.ContainerNotFound):
        await engine.delete("nobody")
    await engine.delete("nobody", force=True)
    assert names(engine.root) == []


async def test_an_id_that_is_a_prefix_of_another_resolves_to_itself(engine: Engine) -> None:
    """HAZARDS 19."""
    made = [await engine.create(id, spec=sleeper()) for id in ("ab", "ab1", "ab2", "c.d")]
    assert (await engine.load("ab")).id == "ab"
    assert (await engine.load("c")).id == "c.d"
    with pytest.raises(asyncrt.InvalidId):
        await engine.load("a*")
    await made[0].destroy()
    with pytest.raises(asyncrt.AmbiguousId) as caught:
        await engine.load("a")
    assert caught.value.candidates == ("ab1", "ab2")
    await asyncio.gather(*(each.destroy() for each in made))


async def test_a_corrupt_state_file_fails_only_its_own_load(engine: Engine) -> None:
    """HAZARDS 16."""
    good = await started(engine, "good", sleeper())
    bad = await started(engine, "bad", sleeper())
    pid = init_of(bad, engine.root)
    path = f"{engine.root}/bad.state"
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"schema": 1, "id"')
    with pytest.raises(asyncrt.StateCorrupted) as caught:
        await engine.load("bad")
    assert caught.value.path == path
    views = {str(view.id): view for view in await engine.list()}
    assert views["good"].status is Status.RUNNING
    assert views["bad"].status is None
    assert path in (views["bad"].broken or "")
    with pytest.raises(asyncrt.StateCorrupted):
        await engine.delete("bad")
    await engine.delete("bad", force=True)
    await until(lambda: not os.path.exists(f"/proc/{pid}"), "the broken one's init is gone")
    assert [view.id for view in await engine.list()] == ["good"]
    await good.destroy()


async def test_readers_are_never_blocked_by_the_lock(engine: Engine) -> None:
    """HAZARDS 15."""
    container = await started(engine, "web", sleeper())
    lock = asyncrt.FileLock(f"{engine.root}/web.lock", create=False)
    await lock.acquire()
    async with asyncio.timeout(SECONDS):  # less than any verb waits for the lock
        assert (await container.view()).status is Status.RUNNING
        assert (await container.state())["status"] == "running"
        assert len(await engine.list()) == 1
        await (await container.exec(["/bin/true"])).wait()
        await container.processes()
        await container.stop(0)
        assert (await container.wait()).signal == 9
    with pytest.raises(asyncrt.ContainerBusy) as caught:
        await container.destroy(timeout=0.05)
    assert caught.value.holder == os.getpid()
    assert caught.value.status == "stopped"
    lock.release()
    lock.close()
    await container.destroy()


async def test_the_state_report_is_ocis(engine: Engine) -> None:
    spec = sleeper(annotations={"a": "b"})
    async with destroyed(await engine.create("web", spec=spec)) as container:
        view = await container.view()
        report = await container.state()
        assert report["id"] == "web"
        assert report["status"] == "created"
        assert report["pid"] == view.pid == init_of(container, engine.root)
        assert report["annotations"] == {"a": "b"}
        assert str(report["ociVersion"]).startswith("1.")
        await container.start()
        await container.kill("KILL")
        await container.wait()
        assert (await container.state())["status"] == "stopped"


async def test_an_exit_is_folded_into_the_record_by_the_next_locked_verb(engine: Engine) -> None:
    container = await started(engine, "web", shell("exit 7"))
    result = await container.wait()
    assert result.exit_code == 7
    with pytest.raises(asyncrt.InvalidTransition):
        await container.pause()
    record = record_of(container, engine.root)
    assert record.status is Status.STOPPED
    assert record.exit == result
    await container.delete()
    with pytest.raises(asyncrt.ContainerNotFound):
        await container.delete()


# --- every verb in every status


def _some_pid(container: asyncrt.Container) -> int:
    init = record_of(container, container._context.root).init
    return init.pid if init is not None else 1


async def _update(container: asyncrt.Container) -> None:
    with contextlib.suppress(asyncrt.UpdateFailed):  # it has no cgroup
        await container.update(pids=5)


async def _attach(container: asyncrt.Container) -> None:
    (await container.attach()).close()


VERBS: dict[str, Callable[[asyncrt.Container], Awaitable[Any]]] = {
    "start": lambda c: c.start(),
    "pause": lambda c: c.pause(),
    "resume": lambda c: c.resume(),
    "kill": lambda c: c.kill("WINCH"),
    "kill all": lambda c: c.kill("WINCH", all=True),
    "kill process": lambda c: c.kill("WINCH", pid=_some_pid(c)),
    "stop": lambda c: c.stop(0),
    "exec": lambda c: c.exec(["/bin/true"]),
    "exec paused": lambda c: c.exec(["/bin/true"], ignore_paused=True),
    "ps": lambda c: c.processes(),
    "stats": lambda c: c.stats(),
    "events": lambda c: _first(c.events(60)),
    "attach": _attach,
    "update": _update,
    "wait": lambda c: c.wait(),
    "destroy": lambda c: c.destroy(),
    "delete": lambda c: c.delete(),
    "renew": lambda c: c.renew(asyncrt.Lease(0)),
    "renew for nobody": lambda c: c.renew(None),
}
# What waits for something else than itself: creating ends when the test lets it, wait with the exit.
WAITS = {"wait"}


def test_every_operation_of_the_table_is_tried_in_every_status() -> None:
    assert set(VERBS) == set(TABLE)


@pytest.fixture
async def hold(tmp_path: Path) -> AsyncIterator[tuple[Fifo, Fifo]]:
    with Fifo(tmp_path / "began") as began, Fifo(tmp_path / "go") as go:
        yield began, go


async def in_status(
    engine: Engine, status: Status, hold: tuple[Fifo, Fifo], *, terminal: bool
) -> tuple[asyncrt.Container, asyncio.Task[asyncrt.Container] | None]:
    if status is Status.CREATING:
        began, go = hold
        hook = shell_hook('echo x >"$1"; read x <"$2"', began.path, go.path)
        creating = asyncio.create_task(
            engine.create("web", spec=sleeper(hooks={"createRuntime": [hook]}), terminal=terminal)
        )
        await began.line()
        return await engine.load("web"), creating
    container = await engine.create("web", spec=sleeper(), terminal=terminal)
    if status is not Status.CREATED:
        await container.start()
    if status is Status.PAUSED:
        await container.pause()
    if status is Status.STOPPED:
        await container.kill("KILL")
        await container.wait()
    return container, None


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("operation", list(TABLE))
async def test_verb_in_status(
    operation: str, status: Status, engine: Engine, hold: tuple[Fifo, Fifo]
) -> None:
    """Allowed ones succeed; the others say what they need and change nothing."""
    container, creating = await in_status(engine, status, hold, terminal=operation == "attach")
    allowed = TABLE[operation].allowed
    before = raw_record(engine.root)
    held_up = creating is not None and TABLE[operation].locked
    call = asyncio.ensure_future(VERBS[operation](container))
    try:
        if held_up:
            # A creator has the lock: the verb acts on what it leaves, never on "creating".
            assert creating is not None
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await asyncio.shield(call)
            assert raw_record(engine.root) == before
            hold[1].say()
            await creating
            status = Status.CREATED
        if status in allowed:
            if operation in WAITS and status is not Status.STOPPED:
                if creating is not None:
                    hold[1].say()
                    await creating
                await asyncio.sleep(0)
                assert not call.done()
                await container.kill("KILL", all=True)
                assert (await call).signal == 9
            else:
                await call
                after = await _status_now(container)
                becomes = TABLE[operation].becomes
                assert not becomes or after in becomes
        else:
            with pytest.raises(asyncrt.InvalidTransition) as caught:
                await call
            error = caught.value
            assert error.container_id == "web"
            assert error.operation == operation.partition(" ")[0]
            assert error.status == status
            assert error.allowed == tuple(each for each in Status if each in allowed)
            if status not in {Status.STOPPED, Status.CREATED} or not TABLE[operation].locked:
                assert raw_record(engine.root) == before
            assert await _status_now(container) is status
    finally:
        hold[1].say()
        if creating is not None:
            await creating
        await container.destroy()


T = TypeVar("T")


async def _first(found: AsyncGenerator[T]) -> T:
    async with contextlib.aclosing(found):
        return await anext(found)


async def _status_now(container: asyncrt.Container) -> Status | None:
    try:
        return (await container.view()).status
    except asyncrt.ContainerNotFound:
        return None


async def test_a_second_resume_errors_and_changes_nothing(engine: Engine) -> None:
    container = await started(engine, "web", shell("echo x; exec sleep 1000"), stdout=asyncrt.PIPE)
    assert await line(container.stdout) == "x"
    await container.pause()
    await container.resume()
    before = raw_record(engine.root)
    with pytest.raises(asyncrt.InvalidTransition):
        await container.resume()
    assert raw_record(engine.root) == before
    await container.destroy()
