"""OCI hooks: which run when, what they are told, what becomes of a container whose hook fails."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import asyncrt
from asyncrt import PIPE, Engine, Hook, Status, _procid
from asyncrt.oci.hooks import HOOK_KINDS
from tests.helpers.capabilities import User
from tests.helpers.containers import (
    SECONDS,
    Fifo,
    destroyed,
    gone,
    init_of,
    is_alive,
    line,
    shell,
    shell_hook,
    sleeper,
    started,
)
from tests.helpers.processes import Interpreter, until
from tests.helpers.records import names, raw_record

if TYPE_CHECKING:
    from asyncrt.oci.hooks import HookKind


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Fifo]:
    with Fifo(tmp_path / "told") as fifo:
        yield fifo


def telling(told: Fifo, name: str, *, code: int = 0) -> Hook:
    """A hook that says its name and the state it was given, in one line."""
    script = 'read -r state; echo "$2 $state" >"$1"; exit "$3"'
    return shell_hook(script, told.path, name, str(code))


def every_kind(told: Fifo, failing: str = "") -> dict[str, list[Hook]]:
    return {
        kind: [telling(told, f"{kind}{n}", code=int(kind == failing and n == 1)) for n in (1, 2)]
        for kind in HOOK_KINDS
    }


async def test_all_run_in_order_with_the_status_that_is_true_at_that_moment(
    engine: Engine, told: Fifo
) -> None:
    spec = sleeper(hooks=every_kind(told), annotations={"a": "b"})
    container = await engine.create("web", spec=spec)
    await container.start()
    pid = init_of(container, engine.root)
    await container.destroy()
    lines = [each.partition(" ") for each in told.lines()]
    assert [name for name, _, _ in lines] == [f"{kind}{n}" for kind in HOOK_KINDS for n in (1, 2)]
    states = {name: json.loads(state) for name, _, state in lines}
    for kind, status in {
        "prestart": "creating",
        "createRuntime": "creating",
        "createContainer": "creating",
        "startContainer": "created",
        "poststart": "running",
        "poststop": "stopped",
    }.items():
        for n in (1, 2):
            state = states[f"{kind}{n}"]
            assert state["status"] == status, kind
            assert state["id"] == "web"
            assert state["annotations"] == {"a": "b"}
            assert state["ociVersion"]
            if kind not in {"startContainer", "poststop"}:
                assert state["pid"] == pid


@pytest.mark.parametrize("kind", [kind for kind in HOOK_KINDS if kind != "poststop"])
async def test_a_failing_hook_destroys_the_container_and_runs_poststop(
    kind: HookKind, engine: Engine, told: Fifo
) -> None:
    """HAZARDS 31."""
    spec = sleeper(hooks=every_kind(told, failing=kind))

    async def life() -> None:
        container = await engine.create("web", spec=spec)
        await container.start()

    with pytest.raises(asyncrt.HookFailed) as caught:
        await life()
    assert (caught.value.kind, caught.value.path) == (kind, "/bin/sh")
    assert "exit status 1" in caught.value.why
    run = [each.partition(" ")[0] for each in told.lines()]
    before = HOOK_KINDS[: HOOK_KINDS.index(kind)]
    expected = [f"{each}{n}" for each in before for n in (1, 2)]
    assert run == [*expected, f"{kind}1", "poststop1", "poststop2"]
    assert names(engine.root) == []
    assert await engine.list() == []


async def test_what_a_failing_hook_said_is_in_the_error_on_one_line(engine: Engine) -> None:
    hook = shell_hook("echo one; echo two >&2; kill -9 $$")
    with pytest.raises(asyncrt.HookFailed) as caught:
        await engine.create("web", spec=sleeper(hooks={"prestart": [hook]}))
    assert "killed by signal 9" in str(caught.value)
    assert "one two" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/no/such/hook", "/tmp", "/etc/passwd"])
async def test_a_hook_that_cannot_be_executed_fails(path: str, engine: Engine) -> None:
    with pytest.raises(asyncrt.HookFailed) as caught:
        await engine.create("web", spec=sleeper(hooks={"createRuntime": [Hook(path=path)]}))
    assert path in str(caught.value)
    assert names(engine.root) == []


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(asyncrt.SpecInvalid) as caught:
        sleeper(hooks={"prestart": [Hook(path="bin/hook")]})
    assert caught.value.json_path == "hooks.prestart[0].path"


async def test_a_hook_has_its_own_arguments_and_environment_only(
    engine: Engine, told: Fifo
) -> None:
    hook = Hook(
        path="/bin/sh",
        args=("sh", "-c", 'echo "$A-$B-$1-$HOME" >"$0"', told.path, "arg"),
        env=("A=1", "B=2", "A=3"),
    )
    container = await engine.create("web", spec=sleeper(hooks={"createRuntime": [hook]}))
    assert await told.line() == "3-2-arg-"
    await container.destroy()


@pytest.mark.parametrize("kind", ["createRuntime", "startContainer", "poststart"])
async def test_a_timeout_kills_the_hooks_whole_group(kind: str, engine: Engine, told: Fifo) -> None:
    """HAZARDS 31."""
    said: list[str] = []
    seconds = 1
    while not said:  # on a slow machine its time may be up before it has said anything
        hook = shell_hook('sleep 1000 & echo $$ $! >"$1"; wait', told.path, timeout=seconds)

        async def life(hook: Hook) -> None:
            await started(engine, "web", sleeper(hooks={kind: [hook]}))

        with pytest.raises(asyncrt.HookFailed) as caught:
            await life(hook)
        assert f"longer than {seconds} s" in caught.value.why
        assert names(engine.root) == []
        said = told.lines()
        seconds *= 2
    for pid in said[0].split():
        await gone(int(pid))


async def test_a_timeout_of_ages_is_no_trouble(engine: Engine, told: Fifo) -> None:
    hook = shell_hook('echo x >"$1"', told.path, timeout=10**10)
    container = await engine.create("web", spec=sleeper(hooks={"createRuntime": [hook]}))
    assert told.lines() == ["x"]
    await container.destroy()


async def test_a_grandchild_that_keeps_the_pipes_open_holds_nobody_up(
    engine: Engine, told: Fifo
) -> None:
    """HAZARDS 31."""
    hook = shell_hook('setsid sleep 1000 & echo $! >"$1"', told.path)
    async with asyncio.timeout(SECONDS):
        container = await engine.create("web", spec=sleeper(hooks={"createRuntime": [hook]}))
    grandchild = int(await told.line())
    assert (await container.view()).status is Status.CREATED
    await container.destroy()

    def is_ours() -> bool:
        found = _procid.stat(grandchild)
        return found is None or found.ppid == os.getpid()

    await until(is_ours, "all that was above it has ended")
    assert is_alive(grandchild), "it left the hook on its own account, a network's helper say"
    os.kill(grandchild, 9)


async def test_a_failing_poststop_is_logged_and_the_others_run(
    engine: Engine, told: Fifo, caplog: pytest.LogCaptureFixture
) -> None:
    """HAZARDS 31."""
    hooks = {"poststop": [telling(told, "one"), telling(told, "two", code=3), telling(told, "3")]}
    container = await started(engine, "web", sleeper(hooks=hooks))
    with caplog.at_level(logging.WARNING, "asyncrt"):
        await container.destroy()
    assert [each.partition(" ")[0] for each in told.lines()] == ["one", "two", "3"]
    assert [record for record in caplog.records if "exit status 3" in record.getMessage()]
    assert names(engine.root) == []


DELETER = """
import asyncio, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        await engine.delete("web", force=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("finisher", ["create", "delete", "destroy"])
async def test_a_deletion_killed_in_a_poststop_hook_is_finished_without_repeating_what_is_done(
    finisher: str, engine: Engine, told: Fifo, tmp_path: Path
) -> None:
    """HAZARDS 31: not twice, and not lost."""
    with Fifo(tmp_path / "go") as go:
        held = shell_hook('echo held $$ >"$1"; read x <"$2"', told.path, go.path)
        hooks = {"poststop": [telling(told, "one"), held, telling(told, "three")]}
        await started(engine, "web", sleeper(hooks=hooks))
        with Interpreter(DELETER, engine.root) as deleter:
            assert (await told.line()).startswith("one ")
            pid = int((await told.line()).removeprefix("held "))
            assert raw_record(engine.root)["deletion"]["poststop"] == ["done", "begun", "pending"]
            deleter.kill()
        await gone(pid)  # a hook never outlives who asked for it
        (view,) = await engine.list()
        assert view.status is Status.STOPPED
        if finisher == "create":
            finishing = asyncio.create_task(engine.create("web", spec=sleeper()))
        elif finisher == "delete":
            finishing = asyncio.create_task(engine.delete("web"))  # type: ignore[arg-type]  # a coroutine of either kind
        else:
            finishing = asyncio.create_task((await engine.load("web")).destroy())  # type: ignore[arg-type]  # a coroutine of either kind
        assert (await told.line()).startswith("held ")
        go.say()
        found = await finishing
        assert (await told.line()).startswith("three ")
        assert told.lines() == []
        if finisher == "create":
            assert (await found.view()).status is Status.CREATED
            assert raw_record(engine.root)["deletion"] is None
            await found.destroy()
        assert names(engine.root) == []
        assert told.lines() == []


async def test_readers_do_not_wait_for_a_hook(engine: Engine, told: Fifo, tmp_path: Path) -> None:
    """HAZARDS 15."""
    with Fifo(tmp_path / "go") as go:
        held = shell_hook('echo held >"$1"; read x <"$2"', told.path, go.path)
        hooks = {"createRuntime": [held], "poststart": [held], "poststop": [held]}

        async def look(status: Status) -> None:
            assert await told.line() == "held"
            async with asyncio.timeout(SECONDS):
                (view,) = await engine.list()
                assert view.status is status
                assert (await (await engine.load("web")).view()).status is status
                await (await engine.load("web")).state()
            go.say()

        looks = asyncio.create_task(look(Status.CREATING))
        container = await engine.create("web", spec=sleeper(hooks=hooks))
        await looks
        looks = asyncio.create_task(look(Status.RUNNING))
        await container.start()
        await looks
        looks = asyncio.create_task(look(Status.STOPPED))
        await container.destroy()
        await looks


async def test_start_container_runs_right_before_the_program_in_its_place(
    engine: Engine, told: Fifo
) -> None:
    hook = shell_hook('echo $PPID $(umask) >"$1"', told.path)
    spec = shell("echo $$; exec sleep 1000", hooks={"startContainer": [hook]}, umask=0o27)
    container = await engine.create("web", spec=spec, stdout=PIPE)
    assert told.lines() == []
    await container.start()
    pid, mask = (await told.line()).split()
    assert int(pid) == int(await line(container.stdout)) == init_of(container, engine.root)
    assert mask == "0027"
    await container.destroy()


@pytest.mark.needs_root
async def test_start_container_runs_as_the_containers_user_and_the_others_as_the_engines(
    engine: Engine, ordinary_user: User, programs_directory: str
) -> None:
    with Fifo(f"{programs_directory}/told") as reachable:
        hook = shell_hook('id -u >"$1"', reachable.path)
        hooks = {kind: [hook] for kind in ("createRuntime", "startContainer", "poststart")}
        spec = sleeper(user=ordinary_user.uid, hooks=hooks)
        async with destroyed(await started(engine, "web", spec)):
            found = [await reachable.line() for _ in range(3)]
        os.unlink(reachable.path)
    assert found == [str(os.geteuid()), str(ordinary_user.uid), str(os.geteuid())]


async def test_a_cancelled_create_kills_the_hook_that_runs_and_leaves_nothing(
    engine: Engine, told: Fifo
) -> None:
    hook = shell_hook('echo $$ >"$1"; sleep 1000', told.path)
    creating = asyncio.create_task(
        engine.create("web", spec=sleeper(hooks={"createRuntime": [hook]}))
    )
    pid = int(await told.line())
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    await gone(pid)
    assert names(engine.root) == []


async def test_delete_by_force_ends_a_creation_under_way_which_rolls_back(
    engine: Engine, told: Fifo, tmp_path: Path
) -> None:
    with Fifo(tmp_path / "go") as go:
        hook = shell_hook('echo x >"$1"; read x <"$2"', told.path, go.path)
        creating = asyncio.create_task(
            engine.create("web", spec=sleeper(hooks={"createRuntime": [hook]}))
        )
        await told.line()
        deleting = asyncio.create_task(engine.delete("web", force=True))
        go.say()
        await deleting
        (outcome,) = await asyncio.gather(creating, return_exceptions=True)
        assert isinstance(outcome, asyncrt.AsyncrtError | asyncrt.Container)
        if isinstance(outcome, asyncrt.Container):  # it was created before it heard of its end
            with pytest.raises(asyncrt.ContainerNotFound):
                await outcome.view()
        await until(lambda: names(engine.root) == [], "nothing is left")


async def test_a_hook_whose_runner_cannot_be_started_is_a_failed_hook(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = await engine.create("web", spec=sleeper(hooks={"poststart": [shell_hook("true")]}))

    def full(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(engine._context.launcher.server, "hand", full)
    with pytest.raises(asyncrt.HookFailed) as caught:
        await container.start()
    assert "can't be started" in caught.value.why
    assert await engine.list() == []


async def test_a_creation_deleted_by_force_fails_although_its_hook_would_run_for_long(
    engine: Engine, tmp_path: Path
) -> None:
    async with Engine(engine.root) as other:
        marker = tmp_path / "begun"
        hook = shell_hook(f"touch {marker}; exec sleep 1000")
        spec = sleeper(hooks={"createRuntime": [hook]})
        creating = asyncio.create_task(engine.create("web", spec=spec))
        await until(marker.exists, "a running hook")
        await other.delete("web", force=True)
        with pytest.raises(asyncrt.SandboxUnresponsive, match="forced delete"):
            await creating
    assert names(engine.root) == []
