"""Every verb in every status: what is allowed succeeds, the rest changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

import asyncrt
from asyncrt.status import TABLE, Status
from tests.helpers.containers import (
    Fifo,
    line,
    record_of,
    shell,
    shell_hook,
    sleeper,
    started,
)
from tests.helpers.records import raw_record

if TYPE_CHECKING:
    from asyncrt.engine import Engine


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
