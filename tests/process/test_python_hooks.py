"""Hooks that are Python callables: where they run, what they are told, what their failure does."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, Status
from asyncrt._threads import run_blocking
from asyncrt.oci.hooks import HOOK_KINDS
from tests.helpers.containers import SECONDS, Fifo, init_of, shell_hook, sleeper
from tests.helpers.records import names

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
OURS = [kind for kind in HOOK_KINDS if kind != "startContainer"]
State = dict[str, object]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Fifo]:
    with Fifo(tmp_path / "told") as fifo:
        yield fifo


def noting(told: Fifo, name: str, *, fails: bool = False) -> Callable[[State], None]:
    def hook(state: State) -> None:
        told.say(f"{name} {state['status']} {state.get('pid')} {state['annotations']}")
        if fails:
            raise ValueError("no\nway")

    return hook


def anoting(told: Fifo, name: str, *, fails: bool = False) -> Callable[[State], Any]:
    sync = noting(told, name, fails=fails)

    async def hook(state: State) -> None:
        await asyncio.sleep(0)
        sync(state)

    return hook


async def test_they_run_after_the_specs_own_of_their_kind_with_the_same_state(
    root: str, told: Fifo
) -> None:
    spec = sleeper(
        hooks={
            kind: [shell_hook('echo "$2" >$1', told.path, f"{kind} spec")] for kind in HOOK_KINDS
        },
        annotations={"a": "b"},
    )
    hooks: dict[str, Any] = {
        kind: [noting(told, f"{kind} sync"), anoting(told, f"{kind} async")] for kind in OURS
    }
    async with Engine(root, hooks=hooks) as engine:
        container = await engine.create("web", spec=spec, **NULL)
        await container.start()
        pid = init_of(container, root)
        await container.destroy()
    said = told.lines()
    statuses = {"poststart": "running", "poststop": "stopped"}
    expected = []
    for kind in HOOK_KINDS:
        expected.append(f"{kind} spec")
        if kind in OURS:
            rest = f"{statuses.get(kind, 'creating')} {None if kind == 'poststop' else pid}"
            expected += [f"{kind} {how} {rest} {{'a': 'b'}}" for how in ("sync", "async")]
    assert said == expected


@pytest.mark.parametrize("make", [noting, anoting])
@pytest.mark.parametrize("kind", [kind for kind in OURS if kind != "poststop"])
async def test_a_failing_one_stops_and_destroys_the_container(
    root: str, told: Fifo, kind: str, make: Any
) -> None:
    hooks = {
        kind: [make(told, "fails", fails=True), make(told, "never")],
        "poststop": make(told, "stop"),
    }
    async with Engine(root, hooks=hooks) as engine:
        with pytest.raises(asyncrt.HookFailed) as caught:
            await (await engine.create("web", spec=sleeper(annotations={}), **NULL)).start()
        error = caught.value
        assert (error.kind, error.container_id) == (kind, "web")
        assert error.path.endswith("noting.<locals>.hook")
        assert error.why == "ValueError: no way"
        assert isinstance(error.__cause__, ValueError)
        assert "\n" not in str(error)
        assert [each.split()[0] for each in told.lines()] == ["fails", "stop"]
        assert names(root) == []


async def test_a_failing_poststop_is_logged_and_the_others_run(
    root: str, told: Fifo, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = [
        ("poststop", noting(told, "one", fails=True)),
        ("poststop", anoting(told, "two", fails=True)),
        ("poststop", noting(told, "three")),
    ]
    async with Engine(root, hooks=pairs) as engine:
        with caplog.at_level(logging.WARNING, "asyncrt"):
            await engine.run("web", spec=asyncrt.Spec.command(["true"], annotations={"a": "b"}))
    assert [each.split()[0] for each in told.lines()] == ["one", "two", "three"]
    assert [each for each in caplog.messages if "poststop hook" in each and "no way" in each]
    assert names(root) == []


async def test_a_sync_one_runs_in_no_default_thread_and_sees_the_callers_context(
    root: str,
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("set")
    seen: list[tuple[str, bool]] = []
    release = threading.Event()

    def hook(_: State) -> None:
        seen.append((variable.get(), threading.current_thread().daemon))
        if len(seen) == 40:  # as many as anyio's threads, all of them blocked
            release.set()
        release.wait(SECONDS)

    async with Engine(root, hooks={"createRuntime": hook}, durable=False) as engine:
        ids = [f"c{number}" for number in range(40)]
        await asyncio.gather(*(engine.create(id, spec=sleeper(), **NULL) for id in ids))
        assert seen == [("set", True)] * 40
        await engine.destroy_many(ids)


class Called:
    """An object whose call is a coroutine."""

    def __init__(self) -> None:
        self.states: list[State] = []

    async def __call__(self, state: State) -> None:
        self.states.append(state)


async def test_whatever_can_be_called_may_be_one(root: str) -> None:
    called, states = Called(), []

    async def with_more(more: str, state: State) -> None:
        states.append((more, state["id"]))

    hooks: Any = {
        "prestart": [called, functools.partial(with_more, "partial")],
        "poststart": lambda state: with_more("lambda", state),
    }
    async with Engine(root, hooks=hooks) as engine, engine.running("web", spec=sleeper(), **NULL):
        pass
    assert [state["id"] for state in called.states] == ["web"]
    assert states == [("partial", "web"), ("lambda", "web")]


async def test_an_exit_or_a_cancellation_of_its_own_is_a_failure_of_the_hook(root: str) -> None:
    async def cancels_itself(_: State) -> None:
        raise asyncio.CancelledError

    def exits(_: State) -> None:
        raise SystemExit(3)

    for hook, why in ((cancels_itself, "was cancelled, not by us"), (exits, "SystemExit: 3")):
        async with Engine(root, hooks={"prestart": hook}) as engine:
            with pytest.raises(asyncrt.HookFailed) as caught:
                await engine.create("web", spec=sleeper(), **NULL)
            assert caught.value.why == why
    assert names(root) == []


async def test_a_cancelled_create_cancels_an_async_one_and_waits_for_a_sync_one(root: str) -> None:
    begun, ended = threading.Event(), []

    async def slow(_: State) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("async")

    release = threading.Event()

    def blocking(_: State) -> None:
        begun.set()
        release.wait(SECONDS)
        ended.append("sync")

    for hook in (slow, blocking):
        begun.clear()
        async with Engine(root, hooks={"createContainer": hook}) as engine:
            creating = asyncio.create_task(engine.create("web", spec=sleeper(), **NULL))
            await run_blocking(begun.wait, SECONDS)
            creating.cancel()
            if hook is blocking:
                done, _ = await asyncio.wait((creating,), timeout=0.1)
                assert not done
                release.set()
            with pytest.raises(asyncio.CancelledError):
                await creating
            assert names(root) == []
    assert ended == ["async", "sync"]


async def test_only_the_process_that_runs_the_verb_has_them(root: str, engine: Engine) -> None:
    called = Called()
    hooks = {"poststart": called, "poststop": called}
    async with Engine(root, hooks=hooks) as hooked:
        container = await hooked.create("web", spec=sleeper(), **NULL)
    assert (await container.view()).status is Status.CREATED
    other = await engine.load("web")
    await other.start()
    await other.destroy()
    assert called.states == []
    assert names(root) == []


@pytest.mark.parametrize(
    ("hooks", "why"),
    [
        ({"startContainer": print}, "runs in the container"),
        ({"poststrat": print}, "no kind of hooks 'poststrat'"),
        ([("poststart", 3)], "3"),
        ({"poststart": ["echo"]}, "'echo' can't be called"),
    ],
)
def test_what_can_be_no_hook_is_refused(hooks: Any, why: str) -> None:
    with pytest.raises((asyncrt.SpecInvalid, TypeError), match=why if why != "3" else None):
        Engine(hooks=hooks)
