"""watch: what happens on a root, of every process, to whoever follows."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
from typing import Any

import pytest
import uvloop

import asyncrt
from asyncrt import _events, _libc
from asyncrt.state import Event, event_log, look, missing_events
from tests.helpers.containers import gone, init_of, shell_hook, sleeper, started, supervisor_of
from tests.helpers.events import append_line, take, take_life
from tests.helpers.processes import Interpreter

TRUE = asyncrt.Spec.command(["/bin/true"])

LIFE = """
import asyncio, sys, asyncrt
async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        c = await engine.create("web", spec=asyncrt.Spec.command(["/bin/sleep", "1000"]))
        await c.start()
        await c.pause()
        await c.resume()
        await c.kill("KILL")
        await c.wait()
        await c.destroy()
asyncio.run(main())
print("done")
"""

LIFE_EVENTS = [
    ("create", None, "creating"),
    ("create", "creating", "created"),
    ("start", "created", "running"),
    ("pause", "running", "paused"),
    ("resume", "paused", "running"),
    ("exit", "running", "stopped"),
    ("destroy", "stopped", "destroyed"),
]


def ways(events: list[Event]) -> list[tuple[str, str | None, str]]:
    return [(each.operation, each.previous, each.status) for each in events]


async def of_a_life(engine: asyncrt.Engine) -> list[Event]:
    async with engine.watch() as watch, asyncio.timeout(20):
        with Interpreter(LIFE, engine.root) as other:
            events = await take(watch, len(LIFE_EVENTS))
            assert await other.next_line() == "done"
    return events


async def test_each_step_of_a_life_in_another_process_is_told(engine: asyncrt.Engine) -> None:
    events = await of_a_life(engine)
    assert ways(events) == LIFE_EVENTS
    assert {each.id for each in events} == {each.sandbox for each in events} == {"web"}
    assert len({each.instance for each in events}) == 1
    assert [each.revision for each in events] == [1, 2, 3, 4, 5, None, 5]
    assert [each.time for each in events] == sorted(each.time for each in events)
    ends = [each.exit for each in events if each.exit is not None]
    assert [(each.signal, each.reason) for each in ends] == [(signal.SIGKILL, "signal")]


async def test_on_a_disk_and_on_the_other_event_loop(disk_root: str) -> None:
    async def main() -> None:
        async with asyncrt.Engine(disk_root, durable=False) as engine:
            assert ways(await of_a_life(engine)) == LIFE_EVENTS

    await main()

    def elsewhere() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    await asyncio.to_thread(elsewhere)  # noqa: TID251 - a loop of its own needs a thread


async def test_without_a_log_it_waits_for_the_first_line(engine: asyncrt.Engine) -> None:
    first = asyncio.create_task(_first(engine.watch()))
    while not engine._context.watchers:
        await asyncio.sleep(0)
    append_line(engine.root, "web")
    assert (await first).id == "web"


async def _first(watch: asyncrt.Watch) -> Event:
    async for event in watch:
        return event
    raise AssertionError("it ended")


async def test_only_what_was_asked_for(engine: asyncrt.Engine) -> None:
    for id in ("a", "ab", "b"):
        append_line(engine.root, id, 1, status="created")
        append_line(engine.root, id, 2, status="running")
        append_line(engine.root, id, 2, status="destroyed")

    async def found(**wanted: object) -> list[tuple[str, str]]:
        watch = engine.watch("oldest", **wanted)  # type: ignore[arg-type]  # passed on
        append_line(engine.root, "end", 1, instance="", status="running")
        events: list[tuple[str, str]] = []
        async with asyncio.timeout(20), contextlib.aclosing(watch.__aiter__()) as following:
            async for event in following:
                events.append((event.id, event.status))
                if watch.position == str(event_log.EventLog(engine.root).begin(None)):
                    break
        return [each for each in events if each[0] != "end"]

    ends = ("end",)
    assert await found(ids=("a", *ends)) == [("a", "created"), ("a", "running"), ("a", "destroyed")]
    assert await found(ids="end") == []
    assert await found(ids=["b", "end"], status=["destroyed", "running"]) == [
        ("b", "running"),
        ("b", "destroyed"),
    ]
    assert await found(status=asyncrt.Status.RUNNING) == [
        ("a", "running"),
        ("ab", "running"),
        ("b", "running"),
    ]


async def test_what_makes_no_sense_is_refused(engine: asyncrt.Engine) -> None:
    with pytest.raises(asyncrt.InvalidId):
        engine.watch(ids=["a/b"])
    with pytest.raises(asyncrt.SpecInvalid, match="flying"):
        engine.watch(status="flying")
    positions: tuple[Any, ...] = ("", "garbage", "-1", "0123456789ab:-5", 5, b"oldest")
    for after in positions:
        with pytest.raises(asyncrt.InvalidPosition):
            await _first(engine.watch(after))
    with pytest.raises(asyncrt.EventsLost):
        await _first(engine.watch("0123456789ab:5"))
    async with engine.watch() as watch:
        with pytest.raises(RuntimeError, match="begun"):
            await watch.__aenter__()
        middle = watch.position[:-1] + str(int(watch.position[-1]) - 1)
    with pytest.raises(asyncrt.InvalidPosition, match="middle"):
        await _first(engine.watch(middle))


async def test_it_goes_on_where_it_broke_off(engine: asyncrt.Engine) -> None:
    async with engine.watch() as watch:
        begun = watch.position
        for number in range(10):
            append_line(engine.root, f"c{number}")
        assert [each.id for each in await take(watch, 3)] == ["c0", "c1", "c2"]
        position = watch.position
        # The same watch, iterated over again, and another one.
        assert [each.id for each in await take(watch, 3)] == ["c3", "c4", "c5"]
    async with engine.watch(position) as watch:
        assert [each.id for each in await take(watch, 7)] == [f"c{n}" for n in range(3, 10)]
        assert watch.position == str(event_log.EventLog(engine.root).begin(None))
    async with engine.watch(begun) as watch:
        assert len(await take(watch, 10)) == 10


async def test_followers_go_on_over_rotations_and_are_told_when_they_were_too_slow(
    engine: asyncrt.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "ROTATE_BYTES", 0)
    async with engine.watch() as quick, engine.watch() as slow:
        for number in range(5):
            append_line(engine.root, f"c{number}")
            assert event_log.rotate(engine.root)
            assert [each.id for each in await take(quick, 1)] == [f"c{number}"]
        with pytest.raises(asyncrt.EventsLost) as caught:
            await take(slow, 1)
    async with engine.watch(caught.value.oldest) as again:
        assert [each.id for each in await take(again, 1)] == ["c4"]


async def test_a_log_that_is_removed_ends_its_followers_with_a_loss(engine: asyncrt.Engine) -> None:
    async with engine.watch() as watch:
        waiting = asyncio.create_task(take(watch, 1))
        await asyncio.sleep(0)
        os.unlink(f"{engine.root}/~events")
        with pytest.raises(asyncrt.EventsLost):
            await waiting
    async with engine.watch() as watch:
        append_line(engine.root, "web")
        assert [each.id for each in await take(watch, 1)] == ["web"]


async def test_a_watch_costs_one_descriptor_and_a_loop_left_early_gives_it_back(
    engine: asyncrt.Engine,
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    append_line(engine.root, "web")
    async with engine.watch("oldest") as watch:
        assert len(os.listdir("/proc/self/fd")) == before + 1
        await take(watch, 1)
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before
    assert (await _first(engine.watch("oldest"))).id == "web"
    while engine._context.watchers:
        await asyncio.sleep(0)  # the loop closes a generator that nobody holds
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_watcher_that_doesnt_read_keeps_nobody_waiting_and_holds_a_page_at_most(
    engine: asyncrt.Engine,
) -> None:
    async with engine.watch() as watch:
        for number in range(3000):
            append_line(engine.root, f"c{number}")
        await take(watch, 1)
        assert 0 < len(watch._feed.page) < 1000
        assert [each.id for each in await take(watch, 2999)][-1] == "c2999"


async def test_it_ends_with_its_engine(root: str) -> None:
    async with asyncrt.Engine(root) as engine:
        waiting = asyncio.create_task(_all(engine.watch()))
        while not engine._context.watchers:
            await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert await waiting == []


async def _all(watch: asyncrt.Watch) -> list[Event]:
    return [each async for each in watch]


async def test_when_there_is_no_inotify_instance_left_it_says_so(
    engine: asyncrt.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted() -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(_libc, "inotify", exhausted)
    with pytest.raises(asyncrt.StorageFailed, match="inotify: Too many open files"):
        await _first(engine.watch())


async def test_no_verb_fails_because_its_event_cant_be_written_and_what_lacks_is_found(
    engine: asyncrt.Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    container = await engine.create("web", spec=sleeper())
    monkeypatch.setattr(_events, "append", full)
    with caplog.at_level(logging.WARNING, "asyncrt.state"):
        await container.start()
    monkeypatch.undo()
    assert "its event running isn't written: [Errno 28] No space left" in caplog.text
    (missing,) = missing_events(engine.root, [look(engine.root, "web")])
    assert (missing.id, missing.instance, missing.status) == ("web", container.instance, "running")
    await container.destroy()


async def test_a_failing_rotation_fails_no_verb(
    engine: asyncrt.Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_log, "ROTATE_BYTES", 0)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    append_line(engine.root, "other")
    monkeypatch.setattr(os, "link", full)
    async with engine.watch() as watch:
        await engine.run("web", spec=TRUE)
        assert [each.status for each in await take(watch, 2)] == ["creating", "created"]
    assert "No space left" in caplog.text


async def test_what_engines_save_is_told_while_they_rotate(
    engine: asyncrt.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "ROTATE_BYTES", 1500)  # more than one life
    async with engine.watch() as watch:
        generations: set[str] = set()
        for number in range(8):
            await engine.run(f"c{number}", spec=TRUE)
            events = await take_life(watch)
            generations |= {each.position[:12] for each in events}
            assert {each.id for each in events} == {f"c{number}"}
            # The end of so short a program may be told before its start, which is left out then.
            assert [each.status for each in events if each.status != "running"] == [
                "creating",
                "created",
                "stopped",
                "destroyed",
            ]
    assert len(generations) > 3


async def test_every_way_a_life_may_end_is_told_as_what_it_was(engine: asyncrt.Engine) -> None:
    async with engine.watch() as watch:

        async def told(count: int) -> list[tuple[str, str | None, str]]:
            return ways(await take(watch, count))

        created = LIFE_EVENTS[:2]
        # A program that can't be executed.
        container = await engine.create("bad", spec=asyncrt.Spec.command(["/no/such/program"]))
        with pytest.raises(asyncrt.StartFailed):
            await container.start()
        await container.delete()
        events = await take(watch, 4)
        assert ways(events) == [
            *created,
            ("exit", "created", "stopped"),
            ("delete", "stopped", "destroyed"),
        ]
        assert events[2].exit is not None
        assert events[2].exit.reason == "start failed"
        # A create that fails.
        hook = shell_hook("exit 1")
        with pytest.raises(asyncrt.HookFailed):
            await engine.create("hooked", spec=sleeper(hooks={"createRuntime": [hook]}))
        assert await told(3) == [
            created[0],
            ("exit", "creating", "stopped"),
            ("create", "creating", "destroyed"),
        ]
        # Killed while paused.
        container = await started(engine, "paused", sleeper())
        await container.pause()
        await container.kill("KILL")
        await container.wait()
        await container.destroy()
        assert (await told(6))[4:] == [
            ("exit", "paused", "stopped"),
            ("destroy", "stopped", "destroyed"),
        ]
        # A deadline.
        await engine.run("slow", spec=sleeper(), deadline_seconds=0.01)
        events = await take_life(watch)
        assert [each.exit.reason for each in events if each.exit is not None] == ["deadline"]


async def test_an_end_that_no_supervisor_told_is_told_by_the_verb_that_finds_it(
    engine: asyncrt.Engine,
) -> None:
    container = await started(engine, "web", sleeper())
    supervisor, init = supervisor_of(container, engine.root), init_of(container, engine.root)
    os.kill(supervisor, signal.SIGKILL)
    await gone(supervisor)
    os.kill(init, signal.SIGKILL)
    await gone(init)
    async with engine.watch() as watch:
        with pytest.raises(asyncrt.InvalidTransition):
            await container.start()
        (event,) = await take(watch, 1)
        assert ways([event]) == [("start", "running", "stopped")]
        assert event.exit is not None
        assert event.exit.reason == "unknown"
        await container.destroy()
        assert ways(await take(watch, 1)) == [("destroy", "stopped", "destroyed")]


async def test_an_end_that_was_told_isnt_told_again_when_a_verb_folds_it_into_the_record(
    engine: asyncrt.Engine,
) -> None:
    async with engine.watch() as watch:
        container = await started(engine, "web", sleeper())
        await container.kill("KILL")
        await container.wait()
        with pytest.raises(asyncrt.InvalidTransition):
            await container.start()
        await container.destroy()
        statuses = [each.status for each in await take(watch, 5)]
        assert statuses == ["creating", "created", "running", "stopped", "destroyed"]


async def test_the_removal_of_what_cant_be_read_is_told_by_its_id(engine: asyncrt.Engine) -> None:
    await engine.run("warm", spec=TRUE)
    async with engine.watch() as watch:
        for name in ("web.lock", "web.state"):
            with open(f"{engine.root}/{name}", "w") as file:
                file.write("broken")
        await engine.delete("web", force=True)
        (event,) = await take(watch, 1)
        assert (event.id, event.instance, event.status) == ("web", "", "destroyed")
        assert (event.operation, event.previous) == ("delete", None)
