"""An exec that is given up while its request, or somebody else's, is too large for the socket."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, Lease, Status
from asyncrt.sandbox import Channel
from tests.helpers.containers import (
    destroyed,
    in_state,
    init_of,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import until

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
SLEEP = ["/bin/sleep", "1000"]
LARGE = ["/bin/sh", "-c", "exec sleep 1000", *("x" * 100_000 for _ in range(10))]


@pytest.fixture
async def owned(engine: Engine) -> AsyncIterator[asyncrt.Container]:
    """Attached to the engine, by the very connection that its requests go over."""
    container = await started(engine, "web", sleeper(), lease=Lease(0), **NULL)
    async with destroyed(container):
        yield container


async def _asked(container: asyncrt.Container, args: list[str]) -> asyncio.Task[asyncrt.Process]:
    """An exec whose request has been sent, or as much of it as there is room for."""
    (channel,) = container._context.watches._open.values()
    assert isinstance(channel, Channel)
    before = channel._requests
    asking = asyncio.create_task(container.exec(args, **NULL))
    await until(lambda: channel._requests > before, "it is asked for")
    return asking


async def _given_up(asking: asyncio.Task[asyncrt.Process]) -> None:
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def _is_alone(container: asyncrt.Container) -> None:
    """Once this one has run, what was asked for before it has gone or is being killed."""
    async with await container.exec(["/bin/true"], **NULL) as process:
        assert (await process.wait()).exit_code == 0
    init = init_of(container, container._context.root)

    async def others() -> list[int]:
        return [each.pid for each in await container.processes() if each.pid != init]

    async with asyncio.timeout(20):
        while await others():
            await asyncio.sleep(0)


async def test_it_costs_nobody_the_container_when_half_of_it_was_sent(
    owned: asyncrt.Container,
) -> None:
    supervisor = supervisor_of(owned, owned._context.root)
    os.kill(supervisor, signal.SIGSTOP)
    await in_state(supervisor, "T")
    await _given_up(await _asked(owned, LARGE))
    os.kill(supervisor, signal.SIGCONT)
    await _is_alone(owned)
    assert (await owned.view()).status is Status.RUNNING


async def test_it_leaves_no_process_although_anothers_request_is_in_the_way(
    owned: asyncrt.Container,
) -> None:
    supervisor = supervisor_of(owned, owned._context.root)
    os.kill(supervisor, signal.SIGSTOP)
    await in_state(supervisor, "T")
    first, large = await _asked(owned, SLEEP), await _asked(owned, LARGE)
    await _given_up(first)
    os.kill(supervisor, signal.SIGCONT)
    async with await large:
        pass
    await _is_alone(owned)
