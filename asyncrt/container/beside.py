"""A container's place in somebody else's sandbox: found, taken, asked for an init, given back.

The supervisor of the sandbox's root container makes its init; from then on it has a control socket,
clients and an end of its own, and is handled like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from asyncrt import _durable, _paths
from asyncrt.container.context import refuse_foreign
from asyncrt.errors import (
    AsyncrtError,
    ContainerNotFound,
    InvalidId,
    InvalidTransition,
    SandboxUnresponsive,
    SpecInvalid,
)
from asyncrt.ids import check_id
from asyncrt.oci import Spec, membership
from asyncrt.platforms import Beside
from asyncrt.platforms.cgroups import SUPERVISOR
from asyncrt.sandbox import Channel, ChannelClosed
from asyncrt.state import look, read_record
from asyncrt.status import Status

if TYPE_CHECKING:
    import socket

    from asyncrt.container.context import Context
    from asyncrt.state import Observed, Record

_TOLD_SECONDS = 10.0
_HOSTS = (Status.CREATED, Status.RUNNING)  # a root container beside which others may be created


class Sandbox(NamedTuple):
    """One that a container is created in: its root container's record, and what plans need of it."""

    record: Record
    beside: Beside


async def find_sandbox(
    context: Context,
    container_id: str,
    spec: Spec,
    *,
    instance: str | None = None,
    share_pid: bool = False,
) -> Sandbox | None:
    """The sandbox that the spec's annotations put the container in, None if that is its own.

    `instance`: only in that one. Raises SpecInvalid for one that there isn't or that no container
    can be put in, InvalidTransition when it isn't live, ContainerNotFound when it is another by now. If
    cancelled, nothing has changed.
    """
    member = membership(spec.config)
    if member.sandbox_id is None:
        return None
    at = member.id_path

    def refuse(why: str) -> SpecInvalid:
        return SpecInvalid(json_path=at, why=why, path=spec.path)

    try:
        sandbox_id = check_id(member.sandbox_id)
    except InvalidId as error:
        raise refuse(str(error)) from error
    if sandbox_id == container_id:
        raise refuse("a container can't be in a sandbox of which it would be the root itself")
    try:
        found = await context.run(_look, context.root, sandbox_id)
    except ContainerNotFound as error:
        if instance is not None:
            raise
        raise refuse(f"there is no sandbox {sandbox_id!r} below {context.root}") from error
    record, observed, config = found
    if instance is not None and record.instance != instance:
        raise ContainerNotFound(container_id=sandbox_id, root=context.root, instance=instance)
    if record.sandbox != sandbox_id:
        raise refuse(f"{sandbox_id!r} is a container in sandbox {record.sandbox!r}, and no sandbox")
    if record.supervision != "own":
        raise refuse(f"{sandbox_id!r} has no supervisor to create a container beside it")
    if observed.status not in _HOSTS:
        raise _refused(record, observed.status)
    refuse_foreign(record, "create")
    if config is None:
        raise SandboxUnresponsive(
            container_id=sandbox_id, operation="create", why="its config.json is missing or broken"
        )
    beside = Beside(config.config, bool(record.cgroup), _leaves(record), share_pid)
    return Sandbox(record, beside)


def _refused(record: Record, status: Status) -> InvalidTransition:
    return InvalidTransition(
        container_id=record.id,
        operation="create one beside",
        status=status.value,
        allowed=[each.value for each in _HOSTS],
    )


def _look(root: str, sandbox_id: str) -> tuple[Record, Observed, Spec | None]:
    record, observed = look(root, sandbox_id)
    path = f"{root}/{sandbox_id}{_paths.DIRECTORY}/{_paths.CONFIG}"
    try:
        return record, observed, Spec.decode(_durable.read(path), path=path)
    except (OSError, SpecInvalid):
        return record, observed, None


def _leaves(record: Record) -> tuple[str, ...]:
    """Where the cgroups of a sandbox go that was made with room for several."""
    found = [os.path.dirname(each.path) for each in record.cgroup]
    return tuple(each for each in found if f"{each}/{SUPERVISOR}" in record.cgroups)


async def hand(context: Context, sandbox: Sandbox, theirs: socket.socket) -> None:
    """Have the sandbox's supervisor fork an init that listens to that socket, which stays ours.

    Raises InvalidTransition when it can't any more, ContainerNotFound when it is another by now,
    SandboxUnresponsive, StorageFailed. If cancelled, one may have been forked; it ends with the socket.
    """
    record = sandbox.record
    try:
        with context.channel(record, "create") as channel:
            answer = await channel.request("launch", [theirs.fileno()], instance=record.instance)
    except (ChannelClosed, SandboxUnresponsive) as error:
        # It has ended; so has the container, unless somebody has killed the supervisor alone.
        _, observed = await context.look(record.id, record.instance)
        if observed.status not in _HOSTS:
            raise _refused(record, observed.status) from error
        if isinstance(error, SandboxUnresponsive):
            raise
        raise SandboxUnresponsive(
            container_id=record.id, operation="create", why="its supervisor has ended just now"
        ) from error
    except AsyncrtError:
        raise  # it says what it is, be it an OSError as well
    except OSError as error:
        raise context.unreachable(record, error) from error
    if "ok" in answer:
        return
    if "replaced" in answer:
        raise ContainerNotFound(container_id=record.id, root=context.root, instance=record.instance)
    if "paused" in answer or "ended" in answer:
        raise _refused(record, Status.PAUSED if "paused" in answer else Status.STOPPED)
    if "failed" in answer:
        why = f"its supervisor can't fork: {os.strerror(answer['failed']['errno'])}"
    else:
        why = f"its supervisor answered {answer}"
    raise SandboxUnresponsive(container_id=record.id, operation="create", why=why)


async def tell(context: Context, record: Record, what: str, patience: float | None = None) -> None:
    """Let the supervisor of that container's sandbox know that it has "started" or is "destroyed".

    Returns when it has drawn its conclusions, if it can be reached; after `patience` seconds, at most
    the usual time, in any case. If cancelled, it may have been
    told.
    """
    told = record
    seconds = _TOLD_SECONDS if patience is None else min(patience, _TOLD_SECONDS)
    with contextlib.suppress(AsyncrtError, ChannelClosed, OSError):  # a TimeoutError is one
        if what == "destroyed":
            told = await context.run(read_record, context.root, record.sandbox)
        if told.supervisor is None or told.supervisor != record.supervisor:
            return
        with context.watching(told) as watch:
            if isinstance(watch, Channel):
                async with asyncio.timeout(seconds):
                    await watch.request(what)
