"""pause and resume: every process of one container stops, and goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from asyncrt import _procid
from asyncrt._threads import finish, run_blocking
from asyncrt.container import cgroup, tree
from asyncrt.container.change import Change, Deadline, change, unresponsive
from asyncrt.container.context import patience, refuse_foreign
from asyncrt.errors import SandboxUnresponsive, StorageFailed
from asyncrt.sandbox import ChannelClosed, wait_gone
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.container.context import Context
    from asyncrt.ids import ContainerId
    from asyncrt.state import Identity, Record

_log = logging.getLogger("asyncrt.container")


async def pause(
    context: Context, container_id: ContainerId, instance: str, timeout: float | None
) -> None:
    """Stop the side effects of a created or running container; it remembers which it was.

    Raises InvalidTransition, ContainerBusy, ContainerNotFound, SandboxUnresponsive; nothing has
    changed then. If cancelled while it waits for the lock nothing has changed; after that the pause
    is finished and recorded first.
    """
    async with change(context, container_id, "pause", instance=instance, timeout=timeout) as held:
        await finish(_pause(held, patience(timeout)))


async def resume(
    context: Context, container_id: ContainerId, instance: str, timeout: float | None
) -> None:
    """Let a paused container go on; one that was paused while created is created again.

    Raises and, if cancelled, behaves as pause does.
    """
    async with change(context, container_id, "resume", instance=instance, timeout=timeout) as held:
        await finish(_resume(held, patience(timeout)))


async def _pause(held: Change, seconds: float) -> None:
    record = held.record
    before = record.status
    time = Deadline(seconds)
    try:
        await _act(held, "pause", seconds)
        record.status, record.paused_from = Status.PAUSED, before
        await held.save()
    except (SandboxUnresponsive, StorageFailed):
        # What couldn't be recorded must not stay stopped: everybody would call it running.
        record.status, record.paused_from = before, None
        # A supervisor that took all the time for no answer hears both when it wakes up.
        with contextlib.suppress(SandboxUnresponsive):  # what went wrong first is the one to tell
            await _act(held, "resume", time.left)
        raise
    _log.info("container %s: %s -> paused", record.id, before)


async def _resume(held: Change, seconds: float) -> None:
    record = held.record
    await _act(held, "resume", seconds)
    record.status, record.paused_from = record.paused_from or Status.RUNNING, None
    await held.save()
    _log.info("container %s: paused -> %s", record.id, record.status)


async def _act(held: Change, operation: str, seconds: float) -> None:
    record = held.record
    refuse_foreign(record, operation)
    init = record.init
    assert init is not None  # noqa: S101 - a status with a process
    if not await _asked(held, operation, seconds):
        if not _procid.alive(init):
            raise SandboxUnresponsive(
                container_id=record.id, operation=operation, why="it ended just now"
            )
        await run_blocking(_freeze if operation == "pause" else _thaw, record, init)


def _freeze(record: Record, init: Identity) -> None:
    if not cgroup.freeze(record):
        tree.freeze(init)


def _thaw(record: Record, init: Identity) -> None:
    if not cgroup.thaw(record):
        tree.thaw(init)


async def _asked(held: Change, operation: str, seconds: float) -> bool:
    """Whether its supervisor did it; False when there is none, also when it was killed just now."""
    record, context = held.record, held.context
    supervisor = record.supervisor
    if supervisor is None or not _procid.alive(supervisor):
        return False
    try:
        with context.channel(record, operation) as channel:
            async with asyncio.timeout(seconds):
                answer = await channel.request(operation)
    except SandboxUnresponsive:  # a TimeoutError too, but not ours
        if _procid.alive(supervisor) and (record.init is None or _procid.alive(record.init)):
            raise
        return False
    except TimeoutError:
        raise unresponsive(record.id, operation, seconds) from None
    except ChannelClosed:
        if record.sandbox != record.id:
            return False  # that one may live on for the others
        # A process that is killed closes its sockets before it is dead.
        if await wait_gone(supervisor, seconds):
            return False
        raise unresponsive(record.id, operation, seconds) from None
    except OSError as error:
        raise context.unreachable(record, error) from error
    if "ok" not in answer and "ended" not in answer:
        raise SandboxUnresponsive(
            container_id=record.id, operation=operation, why=f"its supervisor answered {answer}"
        )
    return "ok" in answer
