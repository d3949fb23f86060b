"""delete --force: of any status, of a creation under way, of what can't even be read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from asyncrt import _paths
from asyncrt.container.change import lock_in_time
from asyncrt.container.destroy import destroy
from asyncrt.errors import ContainerNotFound, DestroyFailed, SchemaTooNew, StateCorrupted
from asyncrt.sandbox import Channel, unix
from asyncrt.state import StateFile, look
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.container import Context
    from asyncrt.ids import ContainerId

_log = logging.getLogger("asyncrt.engine")

_END_SECONDS = 10.0


async def delete_forced(context: Context, container_id: ContainerId, timeout: float | None) -> None:
    """Remove the container whatever it is; one that is gone is fine.

    A creation under way fails and rolls itself back: its supervisor is told to end, its creator is
    never signalled. If cancelled, deleting again finishes it.
    """
    try:
        _, observed = await context.run(look, context.root, container_id)
        if observed.status is Status.CREATING:
            await _end_supervisor(context, container_id, 0)
        await destroy(context, container_id, None, timeout)
    except ContainerNotFound:
        await _sweep(context, container_id, timeout)
    except (StateCorrupted, SchemaTooNew) as error:
        _log.info("removing container %s, which can't be read: %s", container_id, error)
        await _remove_unreadable(context, container_id, timeout)


async def _sweep(context: Context, container_id: ContainerId, timeout: float | None) -> None:
    """Whoever was killed in the middle of a create or a delete leaves files without a record."""
    state = StateFile(context.root, container_id, durable=context.durable)
    with contextlib.suppress(ContainerNotFound):
        await lock_in_time(context, state, "delete", timeout)
        state.close()  # somebody has just made one: it isn't what was to be deleted


async def _remove_unreadable(
    context: Context, container_id: ContainerId, timeout: float | None
) -> None:
    """Its record tells no processes; its supervisor, found by its socket, knows them."""
    state = StateFile(context.root, container_id, durable=context.durable)
    state.operation = "delete"
    try:
        await lock_in_time(context, state, "delete", timeout)
    except ContainerNotFound:
        return
    try:
        if not await _end_supervisor(context, container_id, _END_SECONDS):
            left = f"a supervisor that doesn't answer at {_paths.CONTROL}"
            raise DestroyFailed(container_id=container_id, left=[left])
        await state.destroy()
    finally:
        state.close()


async def _end_supervisor(context: Context, container_id: ContainerId, seconds: float) -> bool:
    """Tell the supervisor behind the control socket to end; whether it has, within that time."""
    try:
        channel = Channel(unix.connect(context.directory(container_id), _paths.CONTROL))
    except BlockingIOError:
        return False  # hung: its queue of clients is full
    except OSError:
        return True
    try:
        channel.send_nowait({"op": "end", "req": 0})
        if seconds:
            async with asyncio.timeout(seconds):
                await channel.over.wait()
    except TimeoutError:
        return False
    finally:
        channel.close()
    return True
