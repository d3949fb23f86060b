"""destroy: stop everything, finish the hooks, take the files away. Repeatable until it succeeds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING

from asyncrt import _procid
from asyncrt._threads import run_blocking
from asyncrt.container import cgroup, hooks, layer
from asyncrt.container.beside import tell
from asyncrt.container.change import Change, change, mark_stopped
from asyncrt.container.context import exit_result, refuse_foreign
from asyncrt.container.tree import kill_tree
from asyncrt.errors import (
    AsyncrtError,
    ContainerNotFound,
    DestroyFailed,
    SandboxUnresponsive,
    StorageFailed,
)
from asyncrt.launch import servers
from asyncrt.sandbox import Channel, ChannelClosed, wait_gone
from asyncrt.state import Observed, observe, read_members
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.container.context import Context
    from asyncrt.ids import ContainerId
    from asyncrt.state import Identity, Record

_log = logging.getLogger("asyncrt.container")

# A supervisor ends a sandbox in milliseconds; one that doesn't in this time is taken for hung.
_ASKED_SECONDS = 10.0
_KILLED_SECONDS = 10.0
_ANSWER_SECONDS = 1.0  # of who serves the files of one that was killed

_END = {"op": "end", "req": 0}
_LIVE = (Status.CREATED, Status.RUNNING, Status.PAUSED)


async def destroy(
    context: Context,
    container_id: ContainerId,
    instance: str | None,
    timeout: float | None,
    *,
    ending: bool = False,
) -> None:
    """Stop and remove the container; one that is gone already is fine.

    `ending`: its supervisor was told to end all of its sandbox, and needn't be told again.

    Raises DestroyFailed with what is left when stopping failed; the record stays then. Raises
    ContainerBusy when it is locked for too long. If cancelled, what was done stays done, and the
    record stays until all is: destroying again finishes it.
    """
    try:
        async with change(
            context, container_id, "destroy", instance=instance, timeout=timeout, removal=True
        ) as held:
            await remove(held, timeout, ending=ending)
    except ContainerNotFound:
        return


async def end_sandbox(context: Context, root_id: ContainerId, instance: str) -> bool:
    """Tell the supervisor of a sandbox to end all of it at once; whether it was told.

    Nobody waits for that here. If cancelled, nothing has changed.
    """
    with contextlib.suppress(AsyncrtError):
        record, observed = await context.look(root_id, instance)
        if observed.status in _LIVE:
            refuse_foreign(record, "destroy")
            with context.watching(record) as watch:
                return isinstance(watch, Channel) and watch.send_nowait(_END)
    return False


async def delete_stopped(
    context: Context, container_id: ContainerId, instance: str | None, timeout: float | None
) -> None:
    """Remove a stopped container. Raises InvalidTransition for another one.

    If cancelled, the record stays until all is done: deleting again finishes it.
    """
    async with change(
        context, container_id, "delete", instance=instance, timeout=timeout, removal=True
    ) as held:
        await remove(held, timeout)


async def remove(held: Change, patience: float | None = None, *, ending: bool = False) -> None:
    """Destroy the container that `held` holds. If cancelled, the record stays until all is done."""
    record = held.record
    before = record.status
    await end_processes(held, patience, ending=ending)
    await hooks.run_poststop(held, Status.STOPPED)
    if record.sandbox != record.id and not ending and _is_supervised(record):
        # Before there is nothing left to find: whoever is killed in between is done by the next.
        await tell(held.context, record, "destroyed", patience)
    await held.state.destroy()
    held.context.watches.drop((record.id, record.instance))
    _log.info("container %s: %s -> gone", record.id, before)


async def end_processes(
    held: Change, patience: float | None = None, *, ending: bool = False
) -> None:
    """End every process of the container, its supervisor last, and make sure of it.

    Then its cgroups go, and what it wrote to a layer.

    A supervisor has `patience` seconds, at most the usual time, before it is killed.

    Raises DestroyFailed with what lives on. If cancelled, some may have ended.
    """
    context, record = held.context, held.record
    seconds = _ASKED_SECONDS if patience is None else min(patience, _ASKED_SECONDS)
    writes = True
    lived = record.status is not Status.STOPPED
    if lived:
        refuse_foreign(record, "destroy")
        if record.supervision == "own":
            writes = await _ask_supervisor(context, record, seconds, ending=ending)
    told = lived and record.status is Status.STOPPED  # by it: of a root after all others
    if record.status is not Status.STOPPED:
        await _kill_what_lives(record)
        observed = await context.run(observe, record, context.root)
        if observed.status is Status.STOPPED:
            mark_stopped(record, observed)
    if record.sandbox == record.id and record.supervision == "own":
        # They keep the supervisor, who has to go.
        for each in await context.run(read_members, context.root, record):
            await layer.end_gofer(each, _KILLED_SECONDS)
    await layer.end_gofer(record, _KILLED_SECONDS)
    if record.sandbox == record.id:
        await _end_supervisor(record, seconds)
        if not told:
            await _end_orphans(context, record)
    elif writes and _is_supervised(record):
        await _until_let_go(context, record, seconds, ending=ending)
    if (record.cgroups or record.cgroup) and not await context.end_cgroups(record):
        left = await run_blocking(cgroup.end, record, _KILLED_SECONDS)
        if left:
            raise DestroyFailed(container_id=record.id, left=left)
    await layer.clear(context, record)


def _is_supervised(record: Record) -> bool:
    return record.supervisor is None or _procid.alive(record.supervisor)


async def _end_supervisor(record: Record, seconds: float) -> None:
    supervisor = record.supervisor
    if supervisor is None or await _gone(supervisor, seconds):
        return
    # It has nothing left to do and doesn't end: hung, stopped by a signal, or its disk is full.
    _procid.send(supervisor, signal.SIGKILL)
    if not await _gone(supervisor, _KILLED_SECONDS):
        raise DestroyFailed(container_id=record.id, left=[f"supervisor (pid {supervisor.pid})"])


async def _ask_supervisor(
    context: Context, record: Record, seconds: float, *, ending: bool
) -> bool:
    """Let the supervisor end it, which it does best; one we know needn't answer.

    What it says of the end is in the record then. Whether it did, and may still write about that.
    """
    # Others may keep it after the end; and with all of its sandbox it ends when it has told of each.
    keeps = record.gofer is not None or record.sandbox == record.id or ending
    with (
        contextlib.suppress(ChannelClosed, SandboxUnresponsive),
        context.watching(record) as watch,
    ):
        if isinstance(watch, Channel):
            asked = ending or watch.send_nowait(_END)
            unknown = record.supervisor is None
            # One that can't be asked any more is ending: the end of the connection tells of it.
            told = watch.done if keeps else watch.over
            ended = (asked or unknown) and await _bounded(told, seconds)
            # Of a creation its creator tells, or nobody: the status stays.
            if watch.exit is not None and record.status is not Status.CREATING:
                mark_stopped(record, Observed(Status.STOPPED, exit_result(watch.exit)))
            if not ended and unknown:
                # A creator was killed before it could write down whom to kill.
                left = "a supervisor that doesn't answer and that no record names"
                raise DestroyFailed(container_id=record.id, left=[left])
            return ended and not ending and not watch.over.is_set()
    return False


async def _until_let_go(context: Context, record: Record, seconds: float, *, ending: bool) -> None:
    """Wait, bounded, until the supervisor of its sandbox has answered all and writes no more."""
    with (
        contextlib.suppress(SandboxUnresponsive, StorageFailed),
        context.watching(record) as watch,
    ):
        if isinstance(watch, Channel):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await (watch.done if ending else watch.over).wait()


async def _end_orphans(context: Context, record: Record) -> None:
    """With the root of a sandbox all of it ends, also what a killed supervisor has left running.

    Their records are others' to change, under locks of their own: reality tells of their end.
    """
    if record.supervision != "own":
        return
    for each in await context.run(read_members, context.root, record):
        if each.init is not None and _procid.alive(each.init) and not _procid.foreign(each.init):
            await _kill_what_lives(each)


async def _bounded(told: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await told.wait()
    except TimeoutError:
        _log.warning("a supervisor didn't end its sandbox in %g s; going on without it", seconds)
        return False
    return True


async def _kill_what_lives(record: Record) -> None:
    """By hand, for a supervisor that is gone or hung, and for init without one."""
    init, supervisor = record.init, record.supervisor
    if init is None or not _procid.alive(init):
        return
    try:
        await run_blocking(kill_tree, record, init, supervisor)
    except PermissionError as error:
        left = [f"init (pid {init.pid}), which is another user's now"]
        raise DestroyFailed(container_id=record.id, left=left) from error
    gofer = record.gofer
    if gofer is not None and _procid.alive(gofer) and not await _gone(init, _ANSWER_SECONDS):
        await run_blocking(servers.end, gofer.pid)
    if not await _gone(init, _KILLED_SECONDS):
        raise DestroyFailed(container_id=record.id, left=[f"init (pid {init.pid})"])


async def _gone(identity: Identity, seconds: float) -> bool:
    try:
        return await wait_gone(identity, seconds)
    except PermissionError:
        return False
