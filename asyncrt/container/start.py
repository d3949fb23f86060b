"""start: open the gate, see the program run, record it."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from asyncrt import status as statuses
from asyncrt._threads import finish
from asyncrt.container import beside, hooks
from asyncrt.container.change import Change, change, unresponsive
from asyncrt.container.context import ANSWER_SECONDS, patience
from asyncrt.container.create_hooks import Looked, start_failed
from asyncrt.container.destroy import remove
from asyncrt.errors import DestroyFailed, HookFailed, SandboxUnresponsive, StorageFailed
from asyncrt.sandbox import GateBusy, NoGate, open_gate, wait_gone
from asyncrt.state import ExitResult
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.container.context import Context
    from asyncrt.ids import ContainerId
    from asyncrt.state import Record

_log = logging.getLogger("asyncrt.container")


async def start(
    context: Context, container_id: ContainerId, instance: str, timeout: float | None
) -> None:
    """Start the program of a created container.

    Raises StartFailed when it can't be executed (the container stops then), HookFailed (it is
    destroyed then), InvalidTransition, ContainerBusy, ContainerNotFound, SandboxUnresponsive. If
    cancelled before the gate is opened the container stays created; after that the start is
    finished and recorded first.
    """
    async with change(context, container_id, "start", instance=instance, timeout=timeout) as held:
        await finish(_open(held, patience(timeout)))
        await _poststart(held)


async def _open(held: Change, seconds: float) -> None:
    record, context = held.record, held.context
    try:
        async with asyncio.timeout(seconds):
            failure = await open_gate(context.directory(record.id))
    except TimeoutError:
        raise unresponsive(record.id, "start", seconds) from None
    except GateBusy:
        raise SandboxUnresponsive(
            container_id=record.id, operation="start", why="too many clients are at its gate"
        ) from None
    except NoGate:
        # Init ended on its way, or at its gate: what is true now decides what we say.
        await _until_ended(held)
        statuses.require(record.id, "start", held.record.status)
        raise unresponsive(record.id, "start", 0) from None
    if failure is None:
        record.status = Status.RUNNING
        record.started_at = datetime.now(UTC)
        await held.save()
        _log.info("container %s: created -> running", record.id)
        if record.sandbox != record.id or record.oom_score_adj is not None:
            await beside.tell(context, record, "started", seconds)
        return
    await _until_ended(held)
    if record.supervision == "caller" and record.exit is not None:
        # Nobody of ours saw the status, but we were told what happened.
        record.exit = ExitResult(reason="start failed", finished_at=datetime.now(UTC))
        await held.save()
    error = start_failed(record.id, failure, await _looked(context, record))
    if isinstance(error, HookFailed):
        await _destroy_after(held, error)
    raise error


async def _looked(context: Context, record: Record) -> Looked | None:
    """How its program was looked for. If cancelled, nothing has changed."""
    spec = await hooks.read_spec(context, record.id)
    process = None if spec is None else spec.config.process
    if process is None or not process.args:
        return None
    return Looked(process.args[0], process.env or (), process.cwd)


async def _until_ended(held: Change) -> None:
    if held.record.init is not None:
        await wait_gone(held.record.init, ANSWER_SECONDS)
    await held.refresh()


async def _poststart(held: Change) -> None:
    if not hooks.has_hooks(held.context, held.record, "poststart"):
        return
    spec = await hooks.read_spec(held.context, held.record.id)
    try:
        await hooks.run_hooks(held.context, spec, held.record, Status.RUNNING, "poststart")
    except HookFailed as error:
        await _destroy_after(held, error)
        raise


async def _destroy_after(held: Change, error: HookFailed) -> None:
    """A failing hook takes its container along; what can't be removed now stays for a retry."""
    try:
        await finish(remove(held))
    except (DestroyFailed, StorageFailed) as failure:
        error.add_note(str(failure))
