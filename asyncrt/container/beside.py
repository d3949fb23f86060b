"""A container's place in somebody else's sandbox: found, taken, asked for an init, given back.

The supervisor of the sandbox's root container makes its init; from then on it has a control socket,
clients and an end of its own, and is handled like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
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
    from collections.abc import Iterator
    from typing import Any

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
    can be put in, InvalidTransition when it isn't live, ContainerNotFound when that one is gone. If
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


class Seat:
    """An init of the sandbox's supervisor, asked for, and the socket over which it hears the rest.

    It is no container's before it does, and ends with the socket: it may be asked for early.
    """

    def __init__(self, context: Context, record: Record) -> None:
        """Ask, `record` being the root container's. Why that failed is told to whoever takes it."""
        self._context = context
        self._record = record
        self._channel: Channel | None = None
        self._is_taken = False
        self._failure: Exception | None = None
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._theirs: socket.socket | None = None
        self._used = contextlib.ExitStack()
        try:
            ours, self._theirs = socket.socketpair()
            ours.setblocking(False)
            self._channel = Channel(ours)
            supervisor = self._used.enter_context(context.channel(record, "create"))
            fds = [self._theirs.fileno()]
            self._answer = supervisor.ask("launch", fds, instance=record.instance)
        except (AsyncrtError, ChannelClosed, OSError) as error:
            self._failure = error
            self._let_go()

    def take(self) -> Channel:
        """The channel to it, whose end is the caller's to see to from here on. Raises OSError."""
        if self._channel is None:
            assert self._failure is not None  # noqa: S101 - or there was one
            raise self._failure
        self._is_taken = True
        return self._channel

    async def taken(self) -> None:
        """Returns once there is an init.

        Raises InvalidTransition when there can't be any more, ContainerNotFound when the root is
        another by now, SandboxUnresponsive, StorageFailed. If cancelled, there may be one; it ends
        with the socket.
        """
        context, record = self._context, self._record
        try:
            answer = await self._answered()
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
            root, instance = context.root, record.instance
            raise ContainerNotFound(container_id=record.id, root=root, instance=instance)
        if "paused" in answer or "ended" in answer:
            raise _refused(record, Status.PAUSED if "paused" in answer else Status.STOPPED)
        if "failed" in answer:
            why = f"its supervisor can't fork: {os.strerror(answer['failed']['errno'])}"
        else:
            why = f"its supervisor answered {answer}"
        raise SandboxUnresponsive(container_id=record.id, operation="create", why=why)

    async def _answered(self) -> dict[str, Any]:
        try:
            if self._answer is None:
                assert self._failure is not None  # noqa: S101 - or it was asked
                raise self._failure
            return await self._answer
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Of what is needed until there is an answer; their end, or ours would never hear of its end."""
        if self._answer is not None:
            self._answer.cancel()
        if self._theirs is not None:
            self._theirs.close()
        self._used.close()

    def close(self) -> None:
        """Let go of all of it but a channel that was taken. Idempotent."""
        self._let_go()
        if self._channel is not None and not self._is_taken:
            self._channel.close()


@contextlib.contextmanager
def seated(context: Context, sandbox: Sandbox | None) -> Iterator[Seat | None]:
    """An init asked for in that sandbox, for the time of the block or for whoever takes it."""
    if sandbox is None:
        yield None
        return
    with contextlib.closing(Seat(context, sandbox.record)) as seat:
        yield seat


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
        # A creator may have been killed before it could write down who that is.
        if told.supervisor is None or record.supervisor not in {None, told.supervisor}:
            return
        with context.watching(told) as watch:
            if isinstance(watch, Channel):
                async with asyncio.timeout(seconds):
                    await watch.request(what, id=record.id)
