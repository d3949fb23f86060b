"""wait: the exit of a container, the same for everybody who asks, before or after it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

from asyncrt import _paths, _procid
from asyncrt._threads import run_blocking
from asyncrt.container import cgroup
from asyncrt.container.change import change
from asyncrt.container.context import exit_result, refuse_foreign
from asyncrt.errors import AsyncrtError, ContainerNotFound, SandboxUnresponsive
from asyncrt.ids import ContainerId
from asyncrt.locking import FileLock
from asyncrt.sandbox import PidWatch
from asyncrt.state import ExitResult
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.container.context import Context
    from asyncrt.state import Identity, Record

_WRITING_SECONDS = 10.0

# With these an init ends that has executed no program: it gave up at its gate, or couldn't. They
# are ours, no program's, unless the record says that one was started.
_OURS = (125, 127)
_REMEMBERING_SECONDS = 1.0


async def wait(
    context: Context, container_id: ContainerId, instance: str, timeout: float | None
) -> ExitResult:
    """How the container ended, as soon as it has; TimeoutError after `timeout` seconds.

    Costs one descriptor per container, however many wait. Raises ContainerNotFound when it was
    destroyed before anybody could tell. If cancelled, nothing has changed.
    """
    try:
        async with asyncio.timeout(timeout):
            again = False
            while True:
                result = await _wait_once(context, container_id, instance, again=again)
                if result is not None:
                    return result
                again = True
    except TimeoutError as error:
        if isinstance(error, AsyncrtError) or timeout is None:
            raise
        why = f"container {container_id!r} hasn't ended within {timeout:g} s; it goes on"
        raise TimeoutError(why) from None


async def _wait_once(
    context: Context, container_id: ContainerId, instance: str, *, again: bool
) -> ExitResult | None:
    channel = context.watches.open_channel((container_id, instance))
    if channel is not None:
        # Connected since its creation, or by somebody else's wait: what comes there is the truth.
        with context.watches.use((container_id, instance), lambda: channel):
            await channel.done.wait()
            if channel.exit is not None:
                return exit_result(channel.exit)
    record, observed = await context.look(container_id, instance)
    if observed.exit is not None:
        return observed.exit
    if observed.status is Status.CREATING:
        await _until_created(context, container_id)
        return None
    refuse_foreign(record, "wait")
    unheard = False
    try:
        with context.watching(record) as watch:
            if watch is not None:
                await watch.done.wait()
                if isinstance(watch, PidWatch):
                    return await _told_by_pidfd(context, record, watch)
                if watch.exit is not None:
                    return exit_result(watch.exit)
                unheard = again
    except SandboxUnresponsive:
        unheard = True
    if unheard and record.init is not None:
        # Its supervisor lives and takes no connection: asking again and again would be polling.
        init = record.init
        with context.watches.use(
            (record.id, f"{record.instance} init"), lambda: _watch(init)
        ) as last:
            if isinstance(last, PidWatch):
                await last.done.wait()
                return await _told_by_pidfd(context, record, last)
    if observed.exit_pending:
        await context.until_told(record, _WRITING_SECONDS)
    return None  # the supervisor is gone: look again, the exit record or the pidfd will tell


def _watch(init: Identity) -> PidWatch | None:
    pidfd = _procid.open_pidfd(init)
    return None if pidfd is None else PidWatch(pidfd)


async def _told_by_pidfd(context: Context, record: Record, watch: PidWatch) -> ExitResult | None:
    """Init has ended unseen by us: the exit record tells how, else the kernel may have.

    None means that the supervisor is still writing, and to look again.
    """
    try:
        record, observed = await context.look(record.id, record.instance)
    except ContainerNotFound:
        observed = None
    if observed is not None:
        if observed.exit_pending:
            await context.until_told(record, _WRITING_SECONDS)
            return None
        if observed.exit is not None and observed.exit.reason != "unknown":
            return observed.exit
    ended = watch.exit
    if ended is None or (record.started_at is None and ended["exit_code"] in _OURS):
        return ExitResult(reason="unknown", started_at=record.started_at)
    killed = await run_blocking(cgroup.oom_killed, record) if record.cgroup else None
    if killed and ended["signal"] == signal.SIGKILL:
        ended = {**ended, "reason": "oom"}
    result = exit_result({**ended, "oom_killed": killed, "started_at": record.started_at})
    if observed is not None:
        await _remember(context, record, result)
    return result


async def _remember(context: Context, record: Record, result: ExitResult) -> None:
    """Nobody recorded this end, and the kernel tells it only to those who watched: write it down.

    So whoever asks later hears the same. Best effort, not worth a long wait for the lock.
    """
    with contextlib.suppress(AsyncrtError):
        async with change(
            context,
            ContainerId(record.id),
            "wait",
            instance=record.instance,
            timeout=_REMEMBERING_SECONDS,
        ) as held:
            known = held.record.exit
            if held.record.status is Status.STOPPED and (
                known is None or known.reason == "unknown"
            ):
                held.record.exit = result
                await held.save()


async def _until_created(context: Context, container_id: ContainerId) -> None:
    """A creator holds the lock until its create has succeeded or is rolled back."""
    path = f"{context.root}/{container_id}"
    lock = FileLock(path + _paths.LOCK, create=False, gate=path + _paths.QUEUE)
    try:
        await lock.acquire(shared=True)
        lock.release()
    except FileNotFoundError:
        pass  # rolled back: the next look says that there is none
    finally:
        lock.close()


async def wait_ended(context: Context, record: Record, seconds: float) -> bool:
    """Whether the container ended within so many seconds. If cancelled, nothing has changed."""
    try:
        await wait(context, ContainerId(record.id), record.instance, seconds)
    except TimeoutError:
        return False
    except ContainerNotFound:
        return True
    return True
