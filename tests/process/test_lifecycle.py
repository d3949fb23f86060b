"""One container from create to destroy, as its handle, other engines and the disk tell of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import asyncrt
from asyncrt.status import Status
from tests.helpers.containers import (
    SECONDS,
    Fifo,
    destroyed,
    init_of,
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
