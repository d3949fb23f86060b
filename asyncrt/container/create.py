"""create: from a spec to an init at its gate, or to nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from asyncrt import _durable, _paths
from asyncrt._threads import finish, run_blocking
from asyncrt.container import cgroup, hooks, layer, leaves
from asyncrt.container.beside import seated, tell
from asyncrt.container.change import Change, busy, check_timeout, unresponsive
from asyncrt.container.context import own_identity, patience
from asyncrt.container.create_hooks import CreateHooks, start_failed
from asyncrt.container.destroy import end_processes
from asyncrt.container.lease import check_lease, owned_by_us, refuse_caller, seconds_of
from asyncrt.container.log import close_all, make_logs
from asyncrt.container.passing import Passed
from asyncrt.container.streams import NAMES
from asyncrt.container.terminal import connect_console, planned
from asyncrt.errors import (
    AsyncrtError,
    ContainerNotFound,
    DestroyFailed,
    LockTimeout,
    SandboxUnresponsive,
    SpecInvalid,
    StartFailed,
    StorageFailed,
)
from asyncrt.launch import frames
from asyncrt.oci import HOOK_KINDS, hook_plans, is_sandbox
from asyncrt.platforms import choose, plan_overlay
from asyncrt.sandbox import ChannelClosed, LaunchFailed
from asyncrt.state import (
    CgroupPlace,
    Identity,
    Record,
    StateFile,
    add_member,
    read_exit,
    remove_member,
)
from asyncrt.status import Status

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from asyncrt.container.beside import Sandbox, Seat
    from asyncrt.container.context import Context
    from asyncrt.container.lease import Lease
    from asyncrt.container.log import Log
    from asyncrt.container.passing import PassedFds
    from asyncrt.container.streams import Streams
    from asyncrt.container.terminal import TerminalChoice
    from asyncrt.ids import ContainerId
    from asyncrt.launch.plan import OverlayPlan, ProcessPlan
    from asyncrt.oci import Spec
    from asyncrt.platforms import Overlay
    from asyncrt.sandbox import Channel, Launched

_log = logging.getLogger("asyncrt.container")

_CLEARING_SECONDS = 5.0

Supervision = Literal["own", "caller"]
PathLike = str | os.PathLike[str]


class Creation:
    """One create under the id's lock. Everything it begins is undone unless it comes to its end."""

    def __init__(
        self,
        context: Context,
        container_id: ContainerId,
        spec: Spec,
        *,
        supervision: Supervision,
        deadline_seconds: float | None,
        lease: Lease | None = None,
        terminal: TerminalChoice | None = None,
        console_socket: PathLike | None = None,
        pass_fds: PassedFds | None = None,
        overlay: Overlay | None = None,
        room: bool = False,
        sandbox: Sandbox | None = None,
    ) -> None:
        """Plan only; raises SpecInvalid or SpecUnsupported.

        `room`: others are to come beside it. `sandbox`: it comes beside others, in that one.
        """
        if spec.config.process is None:
            raise SpecInvalid(
                json_path="process", why="is required to create a container", path=spec.path
            )
        if deadline_seconds is not None and not deadline_seconds >= 0:
            raise SpecInvalid(
                json_path="", why=f"deadline_seconds is {deadline_seconds:g}, must be 0 or more"
            )
        if deadline_seconds is not None and supervision == "caller":
            raise SpecInvalid(
                json_path="", why='deadline_seconds needs supervision="own": nobody else keeps it'
            )
        check_lease(lease)
        if lease is not None:
            refuse_caller(supervision)
        self._context = context
        self._lease = lease
        self._spec = spec
        self._deadline = deadline_seconds
        self._sandbox = sandbox
        beside = None if sandbox is None else sandbox.beside
        if overlay is not None and supervision == "caller":
            raise SpecInvalid(
                json_path="", why='overlay needs supervision="own": nobody else keeps the layer'
            )
        instance = uuid.uuid4().hex
        name = cgroup.name_of(container_id, instance)
        self._layer = None if overlay is None else plan_overlay(overlay, name)
        platform = choose(context.platform, spec, beside, self._layer)
        if beside is not None and beside.cgroups:
            name = container_id
        elif room:
            name = f"{name}/{container_id}"
        self._plan: ProcessPlan = platform.plan(
            spec,
            name=name,
            hide=context.root,
            pivot_root=context.pivot_root,
            room=room,
            beside=beside,
            overlay=self._layer,
        )
        leaves.refuse_clash(container_id, self._plan.get("cgroup"), beside, room=room)
        if terminal is not None:
            self._plan["terminal"] = planned(terminal, self._plan.get("terminal"))
        self._patience = 0.0  # seconds for a supervisor to answer, set by `run`
        self._held: list[int] = []  # the directory of a kept layer
        self._passed = Passed(pass_fds)
        if self._passed.numbers:
            self._plan["passed"] = self._passed.numbers
        self._console_path = console_socket
        self._console: socket.socket | None = None
        if console_socket is not None and not self.has_terminal:
            raise SpecInvalid(
                json_path="", why="console_socket is for a terminal: set terminal=True, '--tty'"
            )
        if self.has_terminal and supervision == "caller" and console_socket is None:
            raise SpecInvalid(
                json_path="",
                why='a terminal with supervision="caller" needs a console_socket to be sent to',
            )
        self._state = StateFile(context.root, container_id, durable=context.durable)
        self._state.operation = "create"
        self._channel: Channel | None = None
        self._streams: Streams | None = None
        self._fifos: list[int] = []  # for the workload, in the order of the streams' logs
        # These hooks come before the container's root file system is entered.
        self._waits = self._plan.get("linux") is not None and (
            any(hook_plans(spec.config, kind) for kind in HOOK_KINDS[:3])
            or any(kind in context.hooks for kind in HOOK_KINDS[:2])
        )
        process = spec.config.process
        # Who supervises by itself has annotations of its own, and a sandbox that isn't ours.
        counts = supervision == "own" and not is_sandbox(spec.config)
        self.record = Record(
            id=container_id,
            instance=instance,
            sandbox=container_id if sandbox is None else sandbox.record.id,
            status=Status.CREATING,
            created_at=datetime.now(UTC),
            owner=context.owner,
            uid=os.geteuid(),
            bundle=spec.bundle,
            platform=platform.name,
            supervision=supervision,
            creator=own_identity(),
            protocol=frames.VERSION,
            lease=owned_by_us(lease),
            unpivoted=not context.pivot_root and self._plan.get("linux") is not None,
            oom_score_adj=process.oom_score_adj if counts else None,
            hooks=tuple(kind for kind in HOOK_KINDS if hook_plans(spec.config, kind)),
        )

    @property
    def has_terminal(self) -> bool:
        """Whether the workload's streams are a terminal."""
        return self._plan.get("terminal") is not None

    async def run(self, streams: Streams, timeout: float | None) -> None:
        """Create; the three standard streams stay the caller's.

        Raises ContainerExists, ContainerBusy, StartFailed, HookFailed, SandboxUnresponsive,
        StorageFailed; nothing is left of it then. If cancelled, it is rolled back under the same
        lock first.
        """
        context = self._context
        check_timeout(timeout)
        self._streams = streams
        if streams.logs and self.record.supervision == "caller":
            raise SpecInvalid(
                json_path="", why='LOG needs supervision="own": nobody else writes the log'
            )
        self.record.logs = tuple(NAMES[number] for number in sorted(streams.logs))
        if streams.logs and self._console_path is not None:
            raise SpecInvalid(
                json_path="", why="LOG with a console_socket: who gets the terminal has its output"
            )
        self.record.terminal = self.has_terminal and self._console_path is None
        self._patience = patience(timeout)
        limit = context.lock_timeout if timeout is None else timeout
        try:
            unfinished = await self._state.lock_for_new(timeout=limit, allow=_is_being_deleted)
        except LockTimeout as error:
            raise await busy(context, self._state.id, "create", error) from error
        try:
            if unfinished is not None:
                await self._finish_deletion(unfinished)
            try:
                async with context.launcher.turns:
                    with seated(context, self._sandbox) as seat:
                        await self._begin()
                        await self._launch(seat)
                assert self._channel is not None  # noqa: S101 - it was launched
                await CreateHooks(
                    context, self._spec, self.record, self._channel, waits=self._waits
                ).run()
                self.record.status = Status.CREATED
                await self._state.save_locked(self.record)
                await self._acknowledge()  # before the lock goes and another process says go
            except BaseException:
                await finish(self._roll_back())
                raise
        finally:
            close_all(self._held)
            self._state.close()
        _log.info("container %s: creating -> created", self.record.id)

    async def _finish_deletion(self, unfinished: Record) -> None:
        held = Change(self._context, self._state, unfinished)
        await end_processes(held)
        await hooks.run_poststop(held, Status.STOPPED)
        await self._state.clear_locked()

    async def _begin(self) -> None:
        """The directory, then the record that says creating, before anything is started.

        The cgroups that will be made are in it already: whoever finds it takes them away.
        """
        await self._context.run(self._make_directory)
        planned = self._plan.get("cgroup")
        if planned is not None:
            missing = await self._context.run(cgroup.missing, planned)
            self.record.cgroups = (*self._above(missing), *missing)
        self.record.layer = None if self._layer is None else self._layer["made"] or None
        await self._become_member()
        await self._state.save_locked(self.record)

    def _above(self, made: Sequence[str]) -> tuple[str, ...]:
        """The cgroups of its sandbox above those that are its own: whoever is last removes them."""
        found = () if self._sandbox is None else self._sandbox.beside.cgroups
        return tuple(each for each in found if any(path.startswith(f"{each}/") for path in made))

    async def _become_member(self) -> None:
        if self._sandbox is None:
            return
        sandbox_id = self._sandbox.record.id
        try:
            await self._context.run(add_member, self._context.root, sandbox_id, self.record.id)
        except FileNotFoundError as error:
            root, instance = self._context.root, self._sandbox.record.instance
            raise ContainerNotFound(
                container_id=sandbox_id, root=root, instance=instance
            ) from error
        except OSError as error:
            path = f"{self._context.directory(sandbox_id)}/{_paths.MEMBERS}"
            raise StorageFailed(path=path, errno=error.errno or 0) from error

    def _make_directory(self) -> None:
        path = self._context.directory(self.record.id)
        try:
            os.mkdir(path, 0o700)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                data = self._spec.encoded()
                _durable.replace(fd, _paths.CONFIG, data, mode=0o600, durable=self._context.durable)
                if self._logs:
                    self._fifos = make_logs(fd, self._logs, fifos=not self.has_terminal)
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageFailed(path=path, errno=error.errno or 0) from error

    @property
    def _logs(self) -> dict[int, Log]:
        return {} if self._streams is None else self._streams.logs

    def _fds(self) -> list[int]:
        """The workload's standard streams."""
        assert self._streams is not None  # noqa: S101 - there from the beginning of run
        fds = list(self._streams.fds)
        if self.has_terminal:
            # The terminal takes their places; what is logged, its supervisor writes.
            fds = [fds[0]] * 3
            return fds if self._console is None else [*fds, self._console.fileno()]
        for number, fd in zip(self._logs, self._fifos, strict=True):
            fds[number] = fd
        return fds

    async def _launch(self, seat: Seat | None) -> None:
        context, record, seconds = self._context, self.record, self._patience
        if self._console_path is not None:
            self._console = connect_console(record.id, self._console_path)
        directory = context.directory(record.id)
        try:
            dir_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageFailed(path=directory, errno=error.errno or 0) from error
        try:
            if self._layer is not None and self._layer["kind"] == "kept":
                await finish(run_blocking(self._hold_layer, self._layer))
            async with asyncio.timeout(seconds):
                try:
                    launched = await self._ask(dir_fd, seat)
                except ChannelClosed:
                    if await context.run(self._was_ended):
                        raise  # by a forced delete, which is to have its way
                    # Somebody killed the spare that took it, and nothing is left of that one.
                    for name in (_paths.GATE, _paths.CONTROL):
                        with contextlib.suppress(OSError):
                            os.unlink(name, dir_fd=dir_fd)
                    await self._clear()
                    with seated(context, self._sandbox) as another:
                        launched = await self._ask(dir_fd, another)
        except AsyncrtError:
            raise  # it says what it is, be it an OSError as well
        except TimeoutError:
            raise unresponsive(record.id, "create", seconds) from None
        except LaunchFailed as error:
            raise start_failed(record.id, error.report) from error
        except ChannelClosed as error:
            raise SandboxUnresponsive(
                container_id=record.id,
                operation="create",
                why="its supervisor was killed before init stood at its gate",
            ) from error
        except OSError as error:
            raise StartFailed(
                container_id=record.id,
                what="launch",
                path=str(error.filename or ""),
                errno=error.errno or 0,
            ) from error
        finally:
            os.close(dir_fd)
            close_all(self._fifos)
            self._fifos = []
            if self._console is not None:
                self._console.close()
        self._channel = launched.channel
        record.init = msgspec.convert(launched.init, Identity)
        if record.supervision == "own":
            record.supervisor = msgspec.convert(launched.launcher, Identity)
        if launched.gofer is not None:
            record.gofer = msgspec.convert(launched.gofer, Identity)
        if launched.cgroup is not None:
            made = launched.cgroup["made"]
            record.cgroups = (*self._above(made), *made)
            record.cgroup = tuple(CgroupPlace(*each) for each in launched.cgroup["places"])

    def _hold_layer(self, plan: OverlayPlan) -> None:
        """Kept here and not returned: who is cancelled meanwhile has it closed all the same."""
        self._held = [layer.hold(self.record.id, plan)]

    def _was_ended(self) -> bool:
        """Whether a supervisor has written this instance's end down: it is to have but one."""
        record = self.record
        return read_exit(self._context.root, record.id, record.instance) is not None

    async def _clear(self) -> None:
        """What an init that was killed has made would be somebody else's to the next."""
        await layer.clear(self._context, self.record)
        planned = self._plan.get("cgroup")
        if planned is None:
            return
        full = await run_blocking(cgroup.too_small, planned)
        if full is not None:
            raise StartFailed(
                container_id=self.record.id,
                what="linux.resources.memory.limit",
                path=full,
                errno=errno.ENOMEM,
            )
        left = await run_blocking(cgroup.end, self.record, _CLEARING_SECONDS)
        if left:
            raise DestroyFailed(container_id=self.record.id, left=left)

    async def _ask(self, dir_fd: int, seat: Seat | None) -> Launched:
        fds = (dir_fd, *self._fds(), *self._passed.fds, *self._held)
        return await self._context.launcher.launch(
            self.record.supervision, self._message(), fds, seat, self._patience
        )

    def _message(self) -> dict[str, object]:
        record, spec = self.record, self._spec
        start_hooks = hook_plans(spec.config, "startContainer")
        state = ""
        if start_hooks:
            state = json.dumps(hooks.report(record, spec, Status.CREATED, None))
        return {
            "id": record.id,
            "instance": record.instance,
            "durable": self._context.durable,
            "deadline": self._deadline,
            "lease": seconds_of(self._lease),
            "score": record.oom_score_adj,
            "plan": self._plan,
            "hooks": start_hooks,
            "waits": self._waits,
            "container_hooks": hook_plans(spec.config, "createContainer") if self._waits else [],
            "logs": [] if self.has_terminal else sorted(self._logs),
            "state": state,
        }

    async def _acknowledge(self) -> None:
        """Tell the launcher that the record is saved; init needs to watch nobody from here on.

        One that hears nothing ends. If cancelled, it may have been told.
        """
        channel = self._channel
        if channel is None:
            return
        try:
            await channel.send(frames.ACKNOWLEDGE)
        except ChannelClosed:
            pass  # it has ended, which is told by whoever looks
        except OSError as error:
            raise StartFailed(
                container_id=self.record.id, what="launch", path="", errno=error.errno or 0
            ) from error
        if self.record.supervision == "own":
            key = self.record.id, self.record.instance
            if self._lease is not None:
                self._context.watches.hold(key)
            self._context.watches.adopt(key, channel)
        else:
            channel.close()

    async def _roll_back(self) -> None:
        """Undo everything, still under the lock; poststop hooks run if a hook's failure led here."""
        await self._undo()
        if self._layer is not None and self._held:
            await run_blocking(layer.unmake, self._layer, self._held[0])

    async def _undo(self) -> None:
        close_all(self._fifos)
        self._fifos = []
        if self._console is not None:
            self._console.close()  # the directory couldn't be opened after it was connected
        if self._channel is not None:
            await self._context.launcher.abandon(self._channel)
        if self.record.revision == 0:
            # Not even the record was saved: only the directory may be there, and the name.
            if self._sandbox is not None:
                remove_member(self._context.root, self._sandbox.record.id, self.record.id)
            with contextlib.suppress(StorageFailed):
                await self._state.destroy()
            return
        held = Change(self._context, self._state, self.record)
        try:
            await end_processes(held)
            await hooks.run_poststop(held, Status.STOPPED)
            await self._state.destroy()
            if self._sandbox is not None and self.record.oom_score_adj is not None:
                # Somebody else's start may have counted it already.
                self.record.supervisor = self._sandbox.record.supervisor
                await tell(self._context, self.record, "destroyed")
        except Exception:  # noqa: BLE001 - the error that led here is the one to raise
            # The record stays and says creating or deleting; delete and gc finish it.
            _log.exception("container %s: could not be rolled back", self.record.id)


def _is_being_deleted(record: Record) -> bool:
    return record.deletion is not None
