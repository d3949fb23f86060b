"""create: from a plan to an init at its gate, or to nothing at all."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from asyncrt import _paths
from asyncrt._threads import finish, run_blocking
from asyncrt.container import cgroup, hooks, leaves
from asyncrt.container.beside import seated, tell
from asyncrt.container.change import Change, busy, check_timeout
from asyncrt.container.context import patience
from asyncrt.container.create_hooks import CreateHooks
from asyncrt.container.create_launch import CreateLaunch
from asyncrt.container.destroy import end_processes
from asyncrt.container.nesting import refuse_nested
from asyncrt.container.streams import NAMES
from asyncrt.errors import (
    ContainerNotFound,
    LockTimeout,
    SpecInvalid,
    StartFailed,
    StorageFailed,
)
from asyncrt.ids import ContainerId
from asyncrt.launch import frames
from asyncrt.sandbox import ChannelClosed
from asyncrt.state import Record, StateFile, add_member, remove_member
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.container.context import Context
    from asyncrt.container.create_plan import CreatePlan
    from asyncrt.container.streams import Streams
    from asyncrt.sandbox import Channel

_log = logging.getLogger("asyncrt.container")


class Creation:
    """One create under the id's lock. Everything it begins is undone unless it comes to its end."""

    def __init__(self, context: Context, plan: CreatePlan) -> None:
        self._context = context
        self._plan = plan
        self._sandbox = plan.sandbox
        self.record = plan.record
        container_id = ContainerId(plan.record.id)
        self._state = StateFile(context.root, container_id, durable=context.durable)
        self._state.operation = "create"

    async def run(self, streams: Streams, timeout: float | None) -> None:
        """Create; the three standard streams stay the caller's.

        Raises ContainerExists, ContainerBusy, StartFailed, HookFailed, SandboxUnresponsive,
        StorageFailed; nothing is left of it then. If cancelled, it is rolled back under the same
        lock first.
        """
        context = self._context
        check_timeout(timeout)
        self._note(streams)
        launch = CreateLaunch(context, self._plan, streams, patience(timeout))
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
                        await self._begin(launch)
                        channel = await launch.run(seat)
                await CreateHooks(
                    context, self._plan.spec, self.record, channel, waits=self._plan.waits
                ).run()
                self.record.status = Status.CREATED
                await self._state.save_locked(self.record)
                # Before the lock goes and another process says go.
                await self._acknowledge(channel)
            except BaseException:
                await finish(self._roll_back(launch))
                raise
        finally:
            launch.close()
            self._state.close()
        _log.info("container %s: creating -> created", self.record.id)

    def _note(self, streams: Streams) -> None:
        """Which streams are logged or a terminal to attach to, in the record. Raises SpecInvalid."""
        record, console = self.record, self._plan.console_path
        if streams.logs and record.supervision == "caller":
            raise SpecInvalid(
                json_path="", why='LOG needs supervision="own": nobody else writes the log'
            )
        if streams.logs and console is not None:
            raise SpecInvalid(
                json_path="", why="LOG with a console_socket: who gets the terminal has its output"
            )
        record.logs = tuple(NAMES[number] for number in sorted(streams.logs))
        record.terminal = self._plan.has_terminal and console is None

    async def _finish_deletion(self, unfinished: Record) -> None:
        held = Change(self._context, self._state, unfinished)
        await end_processes(held)
        await hooks.run_poststop(held, Status.STOPPED)
        await self._state.clear_locked()

    async def _begin(self, launch: CreateLaunch) -> None:
        """The directory, then the record that says creating, before anything is started.

        The cgroups that will be made are in it already: whoever finds it takes them away.
        """
        await self._context.run(launch.make_directory)
        planned = self._plan.process.get("cgroup")
        if planned is not None:
            missing = await self._context.run(cgroup.missing, planned)
            self.record.cgroups = leaves.recorded(missing, self._sandbox)
        layer = self._plan.layer
        self.record.layer = None if layer is None else layer["made"] or None
        await self._become_member()
        await self._state.save_locked(self.record)
        linux = self._plan.spec.config.linux
        if planned is not None and linux is not None and linux.cgroups_path:
            await run_blocking(refuse_nested, self._context.root, self.record, planned)

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

    async def _acknowledge(self, channel: Channel) -> None:
        """Tell the launcher that the record is saved; init needs to watch nobody from here on.

        One that hears nothing ends. If cancelled, it may have been told.
        """
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
            if self._plan.lease is not None:
                self._context.watches.hold(key)
            self._context.watches.adopt(key, channel)
        else:
            channel.close()

    async def _roll_back(self, launch: CreateLaunch) -> None:
        """Undo everything, still under the lock; poststop hooks run if a hook's failure led here."""
        await launch.abandon()
        await self._undo()
        await launch.unmake_layer()

    async def _undo(self) -> None:
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
            if self._sandbox is not None and self.record.oom_score_adj is not None:
                # Somebody else's start may have counted it already.
                await tell(self._context, self.record, "destroyed")
            await self._state.destroy()
        except Exception:  # noqa: BLE001 - the error that led here is the one to raise
            # The record stays and says creating or deleting; delete and gc finish it.
            _log.exception("container %s: could not be rolled back", self.record.id)


def _is_being_deleted(record: Record) -> bool:
    return record.deletion is not None
