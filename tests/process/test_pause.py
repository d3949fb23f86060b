"""pause and resume: side effects stop and go on; what dies meanwhile is told."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

import asyncrt
from asyncrt import Engine, Status
from tests.helpers.containers import (
    destroyed,
    gone,
    in_state,
    init_of,
    is_alive,
    line,
    record_of,
    shell,
    sleeper,
    started,
)
from tests.helpers.processes import until
from tests.helpers.records import names, raw_record

COUNTER = 'echo up; i=0; while :; do i=$((i + 1)); echo $i >"$1"; done'


async def test_side_effects_stop_and_go_on_where_they_were(engine: Engine, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    script = f"(setsid sh -c '{COUNTER}' sh \"$1.2\" & ) ; {COUNTER}"
    container = await started(engine, "web", shell(script, str(counter)), stdout=asyncrt.PIPE)
    for _ in range(2):
        assert await line(container.stdout) == "up"
    other = tmp_path / "counter.2"
    await until(lambda: counter.exists() and other.exists(), "both count")
    await container.pause()
    before = counter.stat().st_mtime_ns, other.stat().st_mtime_ns
    for each in await container.processes():
        await in_state(each.pid, "T")
    await asyncio.sleep(0.05)  # time in which they would have written a thousand times
    assert (counter.stat().st_mtime_ns, other.stat().st_mtime_ns) == before
    await container.resume()
    await until(lambda: counter.stat().st_mtime_ns != before[0], "the first counts again")
    await until(lambda: other.stat().st_mtime_ns != before[1], "the second counts again")
    await container.destroy()


async def test_a_paused_created_container_becomes_created_again(engine: Engine) -> None:
    """HAZARDS 22."""
    container = await engine.create("web", spec=shell("exit 4"))
    await container.pause()
    record = record_of(container, engine.root)
    assert (record.status, record.paused_from) == (Status.PAUSED, Status.CREATED)
    with pytest.raises(asyncrt.InvalidTransition):
        await container.start()
    await container.resume()
    assert (await container.view()).status is Status.CREATED
    assert record_of(container, engine.root).paused_from is None
    await container.start()
    assert (await container.wait()).exit_code == 4
    await container.destroy()


async def test_a_second_pause_errors_and_changes_nothing(engine: Engine) -> None:
    """HAZARDS 22: pauses don't nest."""
    async with destroyed(await started(engine, "web", sleeper())) as container:
        await container.pause()
        before = raw_record(engine.root)
        with pytest.raises(asyncrt.InvalidTransition) as caught:
            await container.pause()
        assert caught.value.allowed == ("created", "running")
        assert raw_record(engine.root) == before
        await container.resume()
        assert (await container.view()).status is Status.RUNNING
        await in_state(init_of(container, engine.root), "S")


async def test_dead_while_paused_becomes_stopped(engine: Engine) -> None:
    """HAZARDS 21."""
    container = await started(engine, "web", sleeper())
    await container.pause()
    init = init_of(container, engine.root)
    os.kill(init, signal.SIGKILL)
    result = await container.wait()
    assert result.signal == 9
    assert (await container.view()).status is Status.STOPPED
    with pytest.raises(asyncrt.InvalidTransition) as caught:
        await container.resume()
    assert caught.value.status == "stopped"
    record = record_of(container, engine.root)
    assert (record.status, record.paused_from) == (Status.STOPPED, None)
    await container.destroy()


@pytest.mark.parametrize("how", ["destroy", "delete by force"])
async def test_a_paused_container_is_deleted_at_once(how: str, engine: Engine) -> None:
    """HAZARDS 22."""
    script = "trap '' TERM; setsid sleep 1000 & echo up; wait"
    container = await started(engine, "web", shell(script), stdout=asyncrt.PIPE)
    assert await line(container.stdout) == "up"
    pids = [each.pid for each in await container.processes()]
    await container.pause()
    with pytest.raises(asyncrt.InvalidTransition):
        await container.delete()
    if how == "destroy":
        await container.destroy()
    else:
        await engine.delete("web", force=True)
        await container.destroy()  # closes our end of its pipe
    assert not [pid for pid in pids if is_alive(pid)]
    assert names(engine.root) == []


async def test_pausing_one_container_leaves_the_others_running(engine: Engine) -> None:
    one, two = [await started(engine, id, sleeper()) for id in ("one", "two")]
    await one.pause()
    assert (await two.view()).status is Status.RUNNING
    await in_state(init_of(two, engine.root), "S")
    await one.destroy()
    await two.destroy()


async def test_a_paused_container_stays_paused_for_another_engine(engine: Engine) -> None:
    container = await started(engine, "web", sleeper())
    await container.pause()
    async with asyncrt.Engine(engine.root) as second:
        other = await second.load("web")
        assert (await other.view()).status is Status.PAUSED
        await other.resume()
    assert (await container.view()).status is Status.RUNNING
    await container.destroy()


async def test_what_forks_all_the_time_is_paused_completely(engine: Engine) -> None:
    script = "for i in 1 2 3; do (while :; do /bin/true; done) & done; echo up; wait"
    container = await started(engine, "web", shell(script), stdout=asyncrt.PIPE)
    assert await line(container.stdout) == "up"
    for _ in range(3):
        await container.pause()
        for each in await container.processes():
            await in_state(each.pid, "TDZ")
        first = {each.pid for each in await container.processes()}
        assert {each.pid for each in await container.processes()} == first
        await container.resume()
    await container.destroy()


async def test_pauses_and_resumes_of_many_tasks_are_one_after_the_other(engine: Engine) -> None:
    """HAZARDS 11."""
    container = await started(engine, "web", sleeper())
    verbs = [container.pause() for _ in range(10)] + [container.resume() for _ in range(10)]
    done = await asyncio.gather(*verbs, return_exceptions=True)
    assert all(each is None or isinstance(each, asyncrt.InvalidTransition) for each in done)
    paused = [each for each in done[:10] if each is None]
    resumed = [each for each in done[10:] if each is None]
    status = (await container.view()).status
    assert len(paused) - len(resumed) == (1 if status is Status.PAUSED else 0)
    init = init_of(container, engine.root)
    await in_state(init, "T" if status is Status.PAUSED else "S")
    await container.destroy()
    await gone(init)
