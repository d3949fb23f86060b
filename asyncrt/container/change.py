"""The one way to change a container: lock, then read, check reality, check the status, act, save.

A status read before the lock is never acted on. What reality says and the record doesn't yet (an
exit, a program that a killed starter had let go) is saved first, so that the record a verb acts on
is the truth.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from asyncrt import status as statuses
from asyncrt._seconds import check_seconds
from asyncrt.container.context import patience
from asyncrt.errors import (
    AsyncrtError,
    ContainerBusy,
    ContainerNotFound,
    InvalidTransition,
    LockTimeout,
    SandboxUnresponsive,
    SchemaTooNew,
    StateCorrupted,
    StorageFailed,
)
from asyncrt.state import StateFile, look, observe
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncrt.container.context import Context
    from asyncrt.ids import ContainerId
    from asyncrt.state import Observed, Record

_PENDING_SECONDS = 10.0  # how long a supervisor whose init is dead may take for the exit record


class Change:
    """A verb's hold on one container: its lock, and its record as it truly is."""

    def __init__(self, context: Context, state: StateFile, record: Record) -> None:
        self.context = context
        self.state = state
        self.record = record

    async def save(self) -> None:
        """Save the record as the verb has changed it. If cancelled, it is saved all the same."""
        await self.state.save_locked(self.record)

    async def refresh(self, *, save: bool = True, patience: float = _PENDING_SECONDS) -> Observed:
        """Fold what is true now into the record and, unless it goes anyway, save that if it is news.

        A supervisor that has yet to tell of an end is waited for `patience` seconds, at most the usual
        time. If cancelled, the record on disk is the old or the new one.
        """
        context, record = self.context, self.record
        observed = await context.run(observe, record, context.root)
        if observed.exit_pending:
            await context.until_told(record, min(patience, _PENDING_SECONDS))
            observed = await context.run(observe, record, context.root)
        if observed.status is record.status:
            return observed
        if observed.status is Status.RUNNING:
            record.status = Status.RUNNING
        elif observed.status is Status.STOPPED and not observed.exit_pending:
            mark_stopped(record, observed)
        else:
            return observed
        if save:
            await self.save()
        return observed


def mark_stopped(record: Record, observed: Observed) -> None:
    """Write an end that was observed into the record."""
    record.status = Status.STOPPED
    record.paused_from = None
    record.exit = observed.exit
    if record.started_at is None and observed.exit is not None:
        record.started_at = observed.exit.started_at


@contextlib.asynccontextmanager
async def change(
    context: Context,
    container_id: ContainerId,
    operation: str,
    *,
    instance: str | None,
    timeout: float | None,
    removal: bool = False,
) -> AsyncIterator[Change]:
    """Hold the container's lock with its true record, in a status that `operation` is allowed in.

    With `removal` what is news about it isn't saved, since nobody will read it.

    Raises ContainerBusy, ContainerNotFound, InvalidTransition, SandboxUnresponsive and what reading
    a record raises; nothing is held then. If cancelled, the lock is released.
    """
    state = StateFile(context.root, container_id, durable=context.durable)
    state.operation = operation
    await lock_in_time(context, state, operation, timeout)
    try:
        record = await state.load_locked()
        if instance is not None and record.instance != instance:
            raise ContainerNotFound(container_id=container_id, root=context.root, instance=instance)
        held = Change(context, state, record)
        observed = await held.refresh(save=not removal, patience=patience(timeout))
        statuses.require(container_id, operation, observed.status)
        yield held
    finally:
        state.close()


def check_timeout(timeout: float | None) -> None:
    """Raise SpecInvalid for a timeout that is negative or not a number."""
    check_seconds(timeout, "timeout")


async def lock_in_time(
    context: Context, state: StateFile, operation: str, timeout: float | None
) -> None:
    """Take the lock; a LockTimeout becomes a ContainerBusy that says who holds it.

    If cancelled, the lock isn't held.
    """
    check_timeout(timeout)
    limit = context.lock_timeout if timeout is None else timeout
    try:
        await state.lock(timeout=limit)
    except LockTimeout as error:
        raise await busy(context, state.id, operation, error) from error


async def busy(
    context: Context, container_id: ContainerId, operation: str, error: LockTimeout
) -> ContainerBusy:
    """The error that tells who holds the container's lock, and in which status it is.

    If cancelled, nothing has changed.
    """
    status = None
    # Whatever else is wrong with it is told to those who read it; this is about the lock.
    with contextlib.suppress(ContainerNotFound, StateCorrupted, SchemaTooNew, StorageFailed):
        _, observed = await context.run(look, context.root, container_id)
        status = observed.status.value
    return ContainerBusy(
        container_id=container_id,
        operation=operation,
        timeout=error.timeout,
        holder=error.holder,
        status=status,
    )


class Deadline:
    """What is left of the time a call may take."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, never below zero."""
        return max(0.0, self._end - time.monotonic())


async def hung_up(context: Context, record: Record, operation: str) -> AsyncrtError:
    """The error for a supervisor that hung up instead of answering: ended, killed, or overrun.

    If cancelled, nothing has changed.
    """
    try:
        _, observed = await context.look(record.id, record.instance)
        statuses.require(record.id, operation, observed.status)
    except (ContainerNotFound, InvalidTransition) as error:
        return error
    return SandboxUnresponsive(
        container_id=record.id,
        operation=operation.partition(" ")[0],
        why="its supervisor hung up without an answer",
    )


def unresponsive(container_id: str, operation: str, seconds: float) -> SandboxUnresponsive:
    """The error for an answer that didn't come in time."""
    return SandboxUnresponsive(
        container_id=container_id,
        operation=operation,
        why=f"its supervisor gave no answer in {seconds:g} s",
    )
