"""kill and stop: signals by proven identity, without the container's lock."""

from __future__ import annotations

import asyncio
import contextlib
import signal as signals
from typing import TYPE_CHECKING

from asyncrt import _procid
from asyncrt import status as statuses
from asyncrt._seconds import check_seconds, refuse_no_number
from asyncrt._threads import run_blocking
from asyncrt.container import cgroup, tree
from asyncrt.container.change import check_timeout, unresponsive
from asyncrt.container.context import patience, refuse_foreign
from asyncrt.container.wait import wait_ended
from asyncrt.errors import (
    AsyncrtError,
    ContainerNotFound,
    ProcessNotFound,
    SandboxUnresponsive,
    SignalRefused,
    SpecInvalid,
    StorageFailed,
)
from asyncrt.sandbox import Channel, wait_gone
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncrt.container.context import Context
    from asyncrt.ids import ContainerId
    from asyncrt.state import Record

SignalLike = str | int | signals.Signals


def signal_number(signal: SignalLike) -> int:
    """A signal by number, by name in any case, with or without SIG. Raises SpecInvalid."""
    valid = signals.valid_signals()
    if isinstance(signal, str):
        text = signal.strip().upper()
        if text.isascii() and text.isdigit():
            signal = int(text)
        else:
            name = text if text.startswith("SIG") else f"SIG{text}"
            found = signals.Signals.__members__.get(name)
            if found is None:
                base, sign, offset = name.partition("+")
                start = signals.Signals.__members__.get(base) if sign else None
                if start is None or base != "SIGRTMIN" or not offset.isdecimal():
                    raise SpecInvalid(
                        json_path="",
                        why=f"there is no signal {signal!r}; give a name like TERM or a number",
                    )
                found_number = start + int(offset)
                return signal_number(found_number)
            return int(found)
    if int(signal) not in valid:
        raise SpecInvalid(
            json_path="", why=f"there is no signal {int(signal)}; give a name like TERM or a number"
        )
    return int(signal)


async def kill(
    context: Context,
    container_id: ContainerId,
    instance: str,
    signal: SignalLike,
    *,
    all: bool,
    pid: int | None,
    pgid: int | None,
    timeout: float | None,
) -> None:
    """Signal init; with `all` every process, with `pid` or `pgid` one process or group of it.

    KILL with `all` returns when nothing of the container is alive. Raises ProcessNotFound for a pid
    or group that isn't the container's, InvalidTransition, ContainerNotFound. If cancelled, the
    signal may have been sent.
    """
    number = signal_number(signal)
    check_timeout(timeout)
    if sum((all, pid is not None, pgid is not None)) > 1:
        raise SpecInvalid(
            json_path="", why="all, pid and pgid exclude each other; give one of them"
        )
    operation = "kill all" if all else "kill" if pid is None and pgid is None else "kill process"
    record, observed = await context.look(container_id, instance)
    statuses.require(container_id, operation, observed.status)
    refuse_foreign(record, "kill")
    if observed.status is Status.PAUSED and number == signals.SIGCONT:
        return  # resume brings it; sent now it would end the pause behind the record's back
    with refusals(container_id, None if all else pid):
        if all:
            record.exit = observed.exit
            await _kill_all(context, record, number, patience(timeout))
        elif pid is not None:
            if not await run_blocking(tree.signal_process, record, pid, number, context.root):
                raise ProcessNotFound(container_id=container_id, pid=pid)
        elif pgid is not None:
            if not await run_blocking(tree.signal_group, record, pgid, number, context.root):
                raise ProcessNotFound(container_id=container_id, pid=pgid)
        else:
            assert record.init is not None  # noqa: S101 - a status with a process
            if number == signals.SIGKILL and observed.status is Status.PAUSED and record.cgroup:
                # Version 1's freezer keeps a signal until the thaw; and with init all ends anyway.
                await run_blocking(cgroup.kill, record, patience(timeout))
            elif not _procid.send(record.init, number):
                _, observed = await context.look(container_id, instance)
                statuses.require(container_id, operation, observed.status)


@contextlib.contextmanager
def refusals(container_id: str, pid: int | None) -> Iterator[None]:
    """What the kernel has against a signal, as errors of ours."""
    try:
        yield
    except (AsyncrtError, TimeoutError):
        raise
    except PermissionError as error:
        raise SignalRefused(container_id=container_id, pid=pid) from error
    except OSError as error:  # no descriptor or memory to see whose a pid is
        raise StorageFailed(path="/proc", errno=error.errno or 0) from error


async def _kill_all(context: Context, record: Record, number: int, seconds: float) -> None:
    if number != signals.SIGKILL:
        await run_blocking(tree.signal_all, record, number, context.root)
        return
    supervised = record.supervisor is not None and _procid.alive(record.supervisor)
    if supervised:
        with contextlib.suppress(SandboxUnresponsive), context.channel(record, "kill") as channel:
            asked = channel.send_nowait({"op": "end", "req": 0})
            if asked and await _within(channel, seconds):
                return
    if record.init is not None:
        await run_blocking(tree.kill_tree, record, record.init, record.supervisor)
        if not await wait_gone(record.init, seconds):
            raise unresponsive(record.id, "kill", seconds)
    if not await run_blocking(cgroup.kill, record, seconds):
        raise unresponsive(record.id, "kill", seconds)


async def _kill_rest(context: Context, record: Record, seconds: float) -> None:
    """End what init has left in its cgroup, of which a supervisor that was killed hasn't."""
    if not record.cgroup or (record.supervisor is not None and _procid.alive(record.supervisor)):
        return
    try:
        _, observed = await context.look(record.id, record.instance)
    except ContainerNotFound:
        return  # nothing can be left
    record.exit = observed.exit
    if not await run_blocking(cgroup.kill, record, seconds):
        raise unresponsive(record.id, "stop", seconds)


async def _within(channel: Channel, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await channel.done.wait()
    except TimeoutError:
        return False
    return channel.exit is not None


def check_grace(grace_seconds: float) -> None:
    """Raise SpecInvalid for a grace that is negative or not a number."""
    refuse_no_number(grace_seconds, "grace_seconds")  # None neither
    check_seconds(grace_seconds, "grace_seconds")


async def stop(
    context: Context,
    container_id: ContainerId,
    instance: str,
    *,
    grace_seconds: float,
    timeout: float | None,
) -> None:
    """TERM to init, up to `grace_seconds` for it to end, then KILL to all. Stopped afterwards.

    No lock is held. A paused container can't react and is killed at once. Raises InvalidTransition,
    ContainerNotFound, SandboxUnresponsive. If cancelled, TERM may have been sent and nothing waits.
    """
    check_grace(grace_seconds)
    check_timeout(timeout)
    record, observed = await context.look(container_id, instance)
    statuses.require(container_id, "stop", observed.status)
    refuse_foreign(record, "stop")
    assert record.init is not None  # noqa: S101 - a status with a process
    with refusals(container_id, record.init.pid):
        if observed.status is not Status.PAUSED and grace_seconds:
            _procid.send(record.init, signals.SIGTERM)
            if await wait_ended(context, record, grace_seconds):
                await _kill_rest(context, record, patience(timeout))
                return
        seconds = patience(timeout)
        await _kill_all(context, record, signals.SIGKILL, seconds)
    if not await wait_ended(context, record, seconds):
        raise unresponsive(container_id, "stop", seconds)
