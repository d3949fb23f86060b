"""exec: one more process beside init, bounded in time, with streams of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Self

import msgspec

from asyncrt import _procid
from asyncrt import status as statuses
from asyncrt._seconds import check_seconds
from asyncrt._threads import run_blocking
from asyncrt.container import cgroup
from asyncrt.container.change import check_timeout, hung_up, unresponsive
from asyncrt.container.context import exit_result, patience, refuse_foreign
from asyncrt.container.create_hooks import Looked, start_failed
from asyncrt.container.exec_plan import plan_program
from asyncrt.container.kill import refusals, signal_number
from asyncrt.container.lease import check_lease, refuse_caller, seconds_of
from asyncrt.container.log import Log, close_all, open_fifo
from asyncrt.container.passing import Passed
from asyncrt.container.streams import (
    DEVNULL,
    INHERIT,
    NAMES,
    Streams,
    StreamTarget,
    open_streams,
)
from asyncrt.container.terminal import (
    Attachment,
    TerminalChoice,
    connect_console,
    planned,
    take_terminal,
)
from asyncrt.container.wait import wait_ended
from asyncrt.errors import (
    AsyncrtError,
    InvalidTransition,
    SandboxUnresponsive,
    SpecInvalid,
    StartFailed,
)
from asyncrt.sandbox import Channel, ChannelClosed, PidWatch
from asyncrt.state import ExitResult, Identity, read_record
from asyncrt.status import Status

if TYPE_CHECKING:
    from typing import Any

    from asyncrt.container.context import Context
    from asyncrt.container.exec_plan import Program
    from asyncrt.container.kill import SignalLike
    from asyncrt.container.lease import Lease
    from asyncrt.container.passing import PassedFds
    from asyncrt.ids import ContainerId
    from asyncrt.state import Record


_ENDING_SECONDS = 1.0
# setns of its namespaces, a fork in its pid namespace, and what was killed with it.
_OF_THE_DYING = {errno.ESRCH, errno.ENOMEM, errno.ECHILD}


class Process:
    """A process exec'd in a container.

    It goes on whether or not anybody waits. `stdin`, `stdout` and `stderr` are asyncio streams of
    those that were asked for as PIPE, else None, and `terminal` is the one that was asked for;
    `close` lets go of them.
    """

    def __init__(
        self,
        container_id: str,
        identity: Identity,
        exit: asyncio.Future[dict[str, Any] | None],
        streams: Streams,
        terminal: Attachment | None = None,
    ) -> None:
        """Made by Container.exec."""
        self._container_id = container_id
        self._identity = identity
        self._exit = exit  # our own: told once, kept for whoever asks, whenever
        self._streams = streams
        self._result: ExitResult | None = None
        self.stdin = streams.stdin
        self.stdout = streams.stdout
        self.stderr = streams.stderr
        self.terminal = terminal

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

        Raises SignalRefused for one that has become another user's.
        If cancelled, the signal may have been sent.
        """
        number = signal_number(signal)
        with refusals(self._container_id, self.pid):
            _procid.send(self._identity, number)

    async def __aenter__(self) -> Self:
        """Use it as a context: it is killed at the end. If cancelled, nothing changes."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Kill it if it still runs, and let go of its streams. If cancelled, it is killed."""
        await self.kill("KILL")
        self.close()

    def close(self) -> None:
        """Let go of pipes and terminal; what wasn't read is lost."""
        self._streams.disconnect()
        if self.terminal is not None:
            self.terminal.close()


async def execute(
    context: Context,
    container_id: ContainerId,
    instance: str,
    program: Program,
    *,
    stdin: StreamTarget = DEVNULL,
    stdout: StreamTarget = INHERIT,
    stderr: StreamTarget = INHERIT,
    terminal: TerminalChoice | None = None,
    console_socket: str | os.PathLike[str] | None = None,
    pass_fds: PassedFds | None = None,
    deadline_seconds: float | None = None,
    lease: Lease | None = None,
    ignore_paused: bool = False,
    timeout: float | None = None,
) -> Process:
    """Run a program beside init; see Container.exec."""
    check_seconds(deadline_seconds, "deadline_seconds")
    check_timeout(timeout)
    operation = "exec paused" if ignore_paused else "exec"
    record, observed = await context.look(container_id, instance)
    statuses.require(container_id, operation, observed.status)
    refuse_foreign(record, "exec")
    check_lease(lease)
    if lease is not None:
        refuse_caller(record.supervision)
    plan = await plan_program(context, record, program)
    passed = Passed(pass_fds)
    if passed.numbers:
        plan["passed"] = passed.numbers
    size = plan.get("terminal")
    if terminal is not None:
        size = planned(terminal, size)
    if console_socket is not None and size is None:
        raise SpecInvalid(
            json_path="", why="console_socket is for a terminal: set terminal=True, '--tty'"
        )
    if size is not None and isinstance(stdout, Log):
        raise SpecInvalid(json_path="", why="stdout=LOG: an exec's terminal isn't logged")
    plan["terminal"] = size
    with (
        _Console(container_id, console_socket, wanted=size is not None) as console,
        open_streams(container_id, stdin, stdout, stderr, terminal=size is not None) as streams,
    ):
        streams.fds += (*console.fds, *passed.fds)
        fifos = _open_logs(context, record, streams)
        try:
            await streams.connect()
            with context.channel(record, "exec") as channel:
                process = await _ask(
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
                process.terminal = console.take()
                if record.cgroup:
                    await _keep_up(context, record, process)
                return process
        except BaseException:
            streams.disconnect()
            raise
        finally:
            close_all(fifos)


class _Console:
    """The console socket that an exec's terminal comes over: a pair of ours, or somebody else's."""

    def __init__(
        self, container_id: str, path: str | os.PathLike[str] | None, *, wanted: bool
    ) -> None:
        self._container_id = container_id
        self._path = path
        self._wanted = wanted
        self._ours: socket.socket | None = None
        self._theirs: socket.socket | None = None

    @property
    def fds(self) -> list[int]:
        """For the new process, behind its streams."""
        return [] if self._theirs is None else [self._theirs.fileno()]

    def __enter__(self) -> Self:
        if self._path is not None:
            self._theirs = connect_console(self._container_id, self._path)
        elif self._wanted:
            try:
                self._ours, self._theirs = socket.socketpair()
            except OSError as error:
                raise StartFailed(
                    container_id=self._container_id, what="exec", path="", errno=error.errno or 0
                ) from error
            self._ours.setblocking(False)
        return self

    def take(self) -> Attachment | None:
        """The terminal, which was sent before the program ran; None if it isn't for us."""
        if self._ours is None:
            return None
        fd = take_terminal(self._ours)
        return None if fd is None else Attachment(fd, None)

    def __exit__(self, *error: object) -> None:
        for each in (self._ours, self._theirs):
            if each is not None:
                each.close()


def _open_logs(context: Context, record: Record, streams: Streams) -> list[int]:
    """What goes to a log goes to the container's: its FIFOs, put in their places."""
    fifos: list[int] = []
    if not streams.logs:
        return fifos
    try:
        directory = os.open(
            context.directory(record.id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
        try:
            for number in streams.logs:
                if NAMES[number] not in record.logs:
                    raise SpecInvalid(
                        json_path="",
                        why=f"{NAMES[number]}=LOG: container {record.id!r} has no log for it",
                    )
                fifos.append(open_fifo(NAMES[number], directory))
                streams.fds[number] = fifos[-1]
        finally:
            os.close(directory)
    except OSError as error:
        close_all(fifos)
        raise StartFailed(
            container_id=record.id, what="streams", path="", errno=error.errno or 0
        ) from error
    except SpecInvalid:
        close_all(fifos)
        raise
    return fifos


async def _keep_up(context: Context, record: Record, process: Process) -> None:
    """An update may have given the container one more cgroup since its record was read.

    If cancelled, the process is killed.
    """
    try:
        with contextlib.suppress(AsyncrtError):  # it ended meanwhile, or others will hear of it
            now = await context.run(read_record, context.root, record.id)
            if now.instance == record.instance and now.cgroup != record.cgroup:
                await run_blocking(cgroup.gather_all, now)
    except BaseException:
        await process.kill()
        process.close()
        raise


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
            identity = msgspec.convert(answer["ok"]["process"], Identity)
            return Process(record.id, identity, exit, streams)
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
        await _refuse_if_ended(context, record, answer["failed"]["errno"])
        plan: Any = fields["plan"]
        looked = Looked(plan["args"][0], plan["env"], plan["cwd"])
        raise start_failed(record.id, answer["failed"], looked)
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


async def _refuse_if_ended(context: Context, record: Record, number: int) -> None:
    """A container that is ending can't be joined, which says less than that it has ended.

    Raises InvalidTransition, ContainerNotFound. If cancelled, nothing has changed.
    """
    if number in _OF_THE_DYING:
        # An init that has begun to end has no namespaces, and lives until all below it are dead.
        await wait_ended(context, record, _ENDING_SECONDS)
    _, observed = await context.look(record.id, record.instance)
    if observed.status is Status.STOPPED:
        statuses.require(record.id, "exec", observed.status)


def _withdraw(channel: Channel, number: int) -> None:
    channel.tell({"op": "withdraw", "req": 0, "exec": number})
    channel.forget_exec(number)
