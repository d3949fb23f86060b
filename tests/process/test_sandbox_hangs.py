"""A sandbox whose supervisor hangs: whoever says how long to wait waits so long, and not for ever."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from asyncrt import (
    Container,
    Engine,
    InvalidTransition,
    Overlay,
    Sandbox,
    SandboxUnresponsive,
    Status,
    _procid,
)
from asyncrt.container import Context, beside, change
from asyncrt.sandbox import launcher
from asyncrt.state import Record
from tests.helpers.containers import SECONDS, gone, init_of, is_alive, record_of
from tests.helpers.pods import Pods, members

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]

_BRIEFLY = 0.2


@pytest.fixture
async def pods(engine: Engine, rootfs: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pods]:
    """Where nothing but a caller's timeout bounds a wait: what ignores that, the test's own time ends."""
    for module, name in (
        (launcher, "_GIVE_UP_SECONDS"),
        (beside, "_TOLD_SECONDS"),
        (change, "_PENDING_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 1000.0)
    yield Pods(engine, "linux", rootfs)
    monkeypatch.undo()
    for each in await engine.list():
        await engine.delete(each.id, force=True)


class _Hung:
    """A sandbox with a container that was created and one that runs, whose supervisor stands still."""

    def __init__(self, sandbox: Sandbox, created: Container, running: Container) -> None:
        self.sandbox = sandbox
        self.created = created
        self.running = running


@pytest.fixture
async def hung(pods: Pods) -> AsyncIterator[_Hung]:
    """It goes on at the end."""
    sandbox = await pods.sandbox()
    found = _Hung(
        sandbox,
        await sandbox.create("one", spec=pods.sleeper()),
        await pods.running(sandbox, "two"),
    )
    supervisor = record_of(sandbox.root, pods.root).supervisor
    assert supervisor is not None
    assert _procid.send(supervisor, signal.SIGSTOP)
    try:
        yield found
    finally:
        _procid.send(supervisor, signal.SIGCONT)


_REFUSED: dict[str, Callable[[_Hung, Pods], Awaitable[object]]] = {
    "create": lambda hung, pods: hung.sandbox.create(
        "three", spec=pods.sleeper(), timeout=_BRIEFLY
    ),
    "pause": lambda hung, _: hung.running.pause(timeout=_BRIEFLY),
    "exec": lambda hung, _: hung.running.exec(["/bin/true"], timeout=_BRIEFLY),
    "stop": lambda hung, _: hung.running.stop(0, timeout=_BRIEFLY),
}


@pytest.mark.parametrize("verb", _REFUSED)
async def test_a_verb_that_needs_it_says_so_in_time(hung: _Hung, pods: Pods, verb: str) -> None:
    before = {each.id: each.status for each in await pods.engine.list()}
    with pytest.raises(SandboxUnresponsive):
        await _REFUSED[verb](hung, pods)
    if verb != "stop":
        assert {each.id: each.status for each in await pods.engine.list()} == before
    assert members(pods.root) == ["one", "two"]


async def test_a_start_is_done_although_nobody_can_be_told(hung: _Hung) -> None:
    await hung.created.start(timeout=_BRIEFLY)
    assert (await hung.created.view()).status is Status.RUNNING


async def test_a_kill_and_a_destroy_are_done_without_it(hung: _Hung, pods: Pods) -> None:
    init = record_of(hung.running, pods.root).init
    assert init is not None
    await hung.running.kill("KILL", all=True, timeout=_BRIEFLY)
    assert not is_alive(init.pid)
    # Nobody has seen how it ended, and nobody invents that.
    view = await hung.running.view()
    assert (view.status, view.exit) == (Status.STOPPED, None)
    await hung.running.destroy(timeout=_BRIEFLY)
    await hung.created.destroy(timeout=_BRIEFLY)
    assert members(pods.root) == []
    with pytest.raises(InvalidTransition):
        await hung.sandbox.root.resume()


async def test_an_end_is_waited_for_and_not_whoever_stays_for_others_or_a_layer(
    pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a destroy right after a kill takes as long as it may take for a supervisor to end."""
    pending = asyncio.Event()  # it has found an end that isn't recorded yet
    until_told = Context.until_told

    async def waits(context: Context, record: Record, seconds: float) -> None:
        pending.set()
        await until_told(context, record, seconds)

    monkeypatch.setattr(Context, "until_told", waits)
    sandbox = await pods.sandbox(overlay=Overlay.memory("1M"))
    await pods.running(sandbox, "one")
    supervisor = record_of(sandbox.root, pods.root).supervisor
    assert supervisor is not None
    assert _procid.send(supervisor, signal.SIGSTOP)
    try:
        init = init_of(sandbox.root, pods.root)
        await sandbox.root.kill("KILL")
        await gone(init)
        destroying = asyncio.ensure_future(sandbox.root.destroy())
        async with asyncio.timeout(SECONDS):
            await pending.wait()
    finally:
        _procid.send(supervisor, signal.SIGCONT)
    async with asyncio.timeout(SECONDS):
        await destroying


async def test_what_was_given_up_does_not_come_once_it_goes_on(hung: _Hung, pods: Pods) -> None:
    for verb in ("create", "pause"):
        with pytest.raises(SandboxUnresponsive):
            await _REFUSED[verb](hung, pods)
    supervisor = record_of(hung.sandbox.root, pods.root).supervisor
    assert supervisor is not None
    assert _procid.send(supervisor, signal.SIGCONT)
    # It hears requests in their order: by this one's answer it has heard those.
    process = await hung.running.exec(["/bin/true"])
    assert (await process.wait()).exit_code == 0
    process.close()
    three = await pods.running(hung.sandbox, "three")
    assert (await three.view()).status is Status.RUNNING
