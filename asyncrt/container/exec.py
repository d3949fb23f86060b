"""exec: one more process beside init, bounded in time, with streams of its own."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

import msgspec

from asyncrt import _procid
from asyncrt import status as statuses
from asyncrt._threads import run_blocking
from asyncrt.container import hooks
from asyncrt.container.change import hung_up, unresponsive
from asyncrt.container.context import exit_result, patience, refuse_foreign
from asyncrt.container.create import start_failed
from asyncrt.container.kill import signal_number
from asyncrt.container.lease import refuse_caller, seconds_of
from asyncrt.container.streams import DEVNULL, INHERIT, Streams, StreamTarget, open_streams
from asyncrt.errors import (
    InvalidTransition,
    SandboxUnresponsive,
    SpecInvalid,
    StartFailed,
)
from asyncrt.oci import derive_exec, is_known
from asyncrt.platforms import choose
from asyncrt.sandbox import Channel, ChannelClosed, PidWatch
from asyncrt.state import ExitResult, Identity
from asyncrt.status import Status

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from typing import Any

    from asyncrt.container.context import Context
    from asyncrt.container.kill import SignalLike
    from asyncrt.container.lease import Lease
    from asyncrt.ids import ContainerId
    from asyncrt.launch.plan import ProcessPlan
    from asyncrt.state import Record


class Process:
    """A process exec'd in a container.

    It goes on whether or not anybody waits. `stdin`, `stdout` and `stderr` are asyncio streams of
    those that were asked for as PIPE, else None; `close` lets go of them.
    """

    def __init__(
        self,
        identity: Identity,
        exit: asyncio.Future[dict[str, Any] | None],
        streams: Streams,
    ) -> None:
        """Made by Container.exec."""
        self._identity = identity
        self._exit = exit  # our own: told once, kept for whoever asks, whenever
        self._streams = streams
        self._result: ExitResult | None = None
        self.stdin = streams.stdin
        self.stdout = streams.stdout
        self.stderr = streams.stderr

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._identity.pid

    async def wait(self) -> ExitResult:
        """How it ended, as soon as it has; any number of times and waiters.

        If cancelled, nothing has changed.
        """
        if self._result is None:
            self._result = await self._ended()
        return self._result

    async def _ended(self) -> ExitResult:
        found = await asyncio.shield(self._exit)
        if found is not None:
            return exit_result(found)
        # Its supervisor is gone, or this connection to it: the kernel may still tell.
        pidfd = _procid.open_pidfd(self._identity)
        if pidfd is None:
            return ExitResult(reason="unknown")
        last = PidWatch(pidfd)
        try:
            await last.done.wait()
        finally:
            last.close()
        return ExitResult(reason="unknown") if last.exit is None else exit_result(last.exit)

    async def kill(self, signal: SignalLike = "KILL") -> None:
        """Signal exactly this process; one that has ended is fine.

        If cancelled, the signal may have been sent.
        """
        _procid.send(self._identity, signal_number(signal))

    async def __aenter__(self) -> Self:
        """Use it as a context: it is killed at the end. If cancelled, nothing changes."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Kill it if it still runs, and let go of its streams. If cancelled, it is killed."""
        await self.kill("KILL")
        self.close()

    def close(self) -> None:
        """Let go of the pipes; what wasn't read is lost."""
        self._streams.disconnect()


async def execute(
    context: Context,
    container_id: ContainerId,
    instance: str,
    args: Iterable[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    user: int | str | None = None,
    stdin: StreamTarget = DEVNULL,
    stdout: StreamTarget = INHERIT,
    stderr: StreamTarget = INHERIT,
    deadline_seconds: float | None = None,
    lease: Lease | None = None,
    ignore_paused: bool = False,
    timeout: float | None = None,
) -> Process:
    """Run a program beside init; see Container.exec."""
    if deadline_seconds is not None and not deadline_seconds >= 0:
        raise SpecInvalid(
            json_path="", why=f"deadline_seconds is {deadline_seconds:g}, must be 0 or more"
        )
    operation = "exec paused" if ignore_paused else "exec"
    record, observed = await context.look(container_id, instance)
    statuses.require(container_id, operation, observed.status)
    refuse_foreign(record, "exec")
    if lease is not None:
        refuse_caller(record.supervision)
    plan = await _plan(context, record, args, env, cwd, user)
    with open_streams(container_id, stdin, stdout, stderr) as streams:
        await streams.connect()
        try:
            with context.channel(record, "exec") as channel:
                return await _ask(
                    context,
                    record,
                    channel,
                    streams,
                    {
                        "plan": plan,
                        "deadline": deadline_seconds,
                        "lease": seconds_of(lease),
                        "ignore_paused": ignore_paused,
                    },
                    patience(timeout),
                )
        except BaseException:
            streams.disconnect()
            raise


async def _plan(
    context: Context,
    record: Record,
    args: Iterable[str | os.PathLike[str]],
    env: Mapping[str, str] | None,
    cwd: str | os.PathLike[str] | None,
    user: int | str | None,
) -> ProcessPlan:
    spec = await hooks.read_spec(context, record.id)
    if spec is None or spec.config.process is None:
        raise SandboxUnresponsive(
            container_id=record.id, operation="exec", why="its config.json is missing or broken"
        )
    base, platform = spec.config.process, choose(record.platform, spec)

    def make() -> ProcessPlan:
        return platform.plan_process(derive_exec(base, args, env=env, cwd=cwd, user=user))

    return make() if user is None and is_known(base) else await run_blocking(make)


async def _ask(
    context: Context,
    record: Record,
    channel: Channel,
    streams: Streams,
    fields: dict[str, object],
    seconds: float,
) -> Process:
    number = 0
    exit: asyncio.Future[dict[str, Any] | None] | None = None

    def asked(given: int) -> None:
        nonlocal number, exit
        number = given
        exit = channel.expect_exec(given)

    try:
        async with asyncio.timeout(seconds):
            answer = await channel.request("exec", streams.fds, asked, **fields)
        if "ok" in answer and exit is not None:
            return Process(msgspec.convert(answer["ok"]["process"], Identity), exit, streams)
    except TimeoutError:
        _withdraw(channel, number)
        raise unresponsive(record.id, "exec", seconds) from None
    except OSError as error:  # too large to be sent
        channel.forget_exec(number)
        raise StartFailed(
            container_id=record.id, what="exec", path="", errno=error.errno or 0
        ) from error
    except ChannelClosed:
        channel.forget_exec(number)
        operation = "exec paused" if fields["ignore_paused"] else "exec"
        raise await hung_up(context, record, operation) from None
    except BaseException:
        # Nobody would know the process: it must not live.
        _withdraw(channel, number)
        raise
    channel.forget_exec(number)
    if "failed" in answer:
        raise start_failed(record.id, answer["failed"])
    if "paused" not in answer and "ended" not in answer:
        raise SandboxUnresponsive(
            container_id=record.id, operation="exec", why=f"its supervisor answered {answer}"
        )
    status = Status.PAUSED if "paused" in answer else Status.STOPPED
    raise InvalidTransition(
        container_id=record.id,
        operation="exec",
        status=status.value,
        allowed=statuses.allowed("exec"),
    )


def _withdraw(channel: Channel, number: int) -> None:
    with contextlib.suppress(ChannelClosed):
        channel.send_nowait({"op": "withdraw", "req": 0, "exec": number})
    channel.forget_exec(number)
