"""create: from a spec to an init at its gate, or to nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from asyncrt import _durable, _paths
from asyncrt._threads import finish
from asyncrt.container import hooks
from asyncrt.container.change import Change, busy, check_timeout, unresponsive
from asyncrt.container.context import own_identity, patience
from asyncrt.container.destroy import end_processes
from asyncrt.container.lease import owned_by_us, refuse_caller, seconds_of
from asyncrt.errors import (
    HookFailed,
    LockTimeout,
    SandboxUnresponsive,
    SpecInvalid,
    StartFailed,
    StorageFailed,
)
from asyncrt.launch import frames
from asyncrt.oci import HOOK_KINDS, hook_plans, membership
from asyncrt.platforms import choose
from asyncrt.sandbox import ChannelClosed, LaunchFailed
from asyncrt.state import Identity, Record, StateFile
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.container.context import Context
    from asyncrt.container.lease import Lease
    from asyncrt.ids import ContainerId
    from asyncrt.launch.failure import FailureReport
    from asyncrt.launch.plan import ProcessPlan
    from asyncrt.oci import Spec
    from asyncrt.sandbox import Channel, Launched

_log = logging.getLogger("asyncrt.container")

Supervision = Literal["own", "caller"]


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
    ) -> None:
        """Plan only; raises SpecInvalid or SpecUnsupported."""
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
        if lease is not None:
            refuse_caller(supervision)
        self._context = context
        self._lease = lease
        self._spec = spec
        self._deadline = deadline_seconds
        platform = choose(context.platform, spec)
        self._plan: ProcessPlan = platform.plan(spec)
        self._state = StateFile(context.root, container_id, durable=context.durable)
        self._state.operation = "create"
        self._channel: Channel | None = None
        self.record = Record(
            id=container_id,
            instance=uuid.uuid4().hex,
            sandbox=membership(spec.config).sandbox_id or container_id,
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
            hooks=tuple(kind for kind in HOOK_KINDS if hook_plans(spec.config, kind)),
        )

    async def run(self, fds: Sequence[int], timeout: float | None) -> None:
        """Create; `fds` are the three standard streams and stay the caller's.

        Raises ContainerExists, ContainerBusy, StartFailed, HookFailed, SandboxUnresponsive,
        StorageFailed; nothing is left of it then. If cancelled, it is rolled back under the same
        lock first.
        """
        context = self._context
        check_timeout(timeout)
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
                    await self._begin()
                    await self._launch(fds, patience(timeout))
                await self._run_create_hooks()
                self.record.status = Status.CREATED
                await self._state.save_locked(self.record)
                self._acknowledge()  # before the lock goes and another process says go
            except BaseException:
                await finish(self._roll_back())
                raise
        finally:
            self._state.close()
        _log.info("container %s: creating -> created", self.record.id)

    async def _finish_deletion(self, unfinished: Record) -> None:
        held = Change(self._context, self._state, unfinished)
        await end_processes(held)
        await hooks.run_poststop(held, Status.STOPPED)
        await self._state.clear_locked()

    async def _begin(self) -> None:
        """The directory, then the record that says creating, before anything is started."""
        await self._context.run(self._make_directory)
        await self._state.save_locked(self.record)

    def _make_directory(self) -> None:
        path = self._context.directory(self.record.id)
        try:
            os.mkdir(path, 0o700)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                data = self._spec.encoded()
                _durable.replace(fd, _paths.CONFIG, data, mode=0o600, durable=self._context.durable)
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageFailed(path=path, errno=error.errno or 0) from error

    async def _launch(self, fds: Sequence[int], seconds: float) -> None:
        context, record = self._context, self.record
        dir_fd = os.open(context.directory(record.id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            async with asyncio.timeout(seconds):
                try:
                    launched = await self._ask(dir_fd, fds)
                except ChannelClosed:
                    # Somebody killed the spare that took it, and nothing is left of that one.
                    for name in (_paths.GATE, _paths.CONTROL):
                        with contextlib.suppress(OSError):
                            os.unlink(name, dir_fd=dir_fd)
                    launched = await self._ask(dir_fd, fds)
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
                container_id=record.id, what="launch", path="", errno=error.errno or 0
            ) from error
        finally:
            os.close(dir_fd)
        self._channel = launched.channel
        record.init = msgspec.convert(launched.init, Identity)
        if record.supervision == "own":
            record.supervisor = msgspec.convert(launched.launcher, Identity)

    async def _ask(self, dir_fd: int, fds: Sequence[int]) -> Launched:
        return await self._context.launcher.launch(
            self.record.supervision, self._message(), (dir_fd, *fds)
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
            "plan": self._plan,
            "hooks": start_hooks,
            "state": state,
        }

    async def _run_create_hooks(self) -> None:
        """Run the hooks of creation, for as long as init waits: a forced delete ends it."""
        record, channel = self.record, self._channel
        assert channel is not None  # noqa: S101 - it was launched
        if hooks.has_hooks(self._context, record, *HOOK_KINDS[:3]):
            running = asyncio.ensure_future(
                hooks.run_hooks(self._context, self._spec, record, Status.CREATING, *HOOK_KINDS[:3])
            )
            ended = asyncio.ensure_future(channel.over.wait())
            try:
                await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended.cancel()
                if not running.done():
                    running.cancel()
                await finish(_settle(running))
            if not running.cancelled():
                running.result()
        if channel.closed:
            raise SandboxUnresponsive(
                container_id=record.id,
                operation="create",
                why="its init was ended meanwhile, by a forced delete perhaps",
            )

    def _acknowledge(self) -> None:
        """Tell the launcher that the record is saved; init needs to watch nobody from here on."""
        channel = self._channel
        if channel is None:
            return
        channel.send_nowait(frames.ACKNOWLEDGE)
        if self.record.supervision == "own":
            key = self.record.id, self.record.instance
            if self._lease is not None:
                self._context.watches.hold(key)
            self._context.watches.adopt(key, channel)
        else:
            channel.close()

    async def _roll_back(self) -> None:
        """Undo everything, still under the lock; poststop hooks run if a hook's failure led here."""
        if self._channel is not None:
            await self._context.launcher.abandon(self._channel)
        if self.record.revision == 0:
            # Not even the record was saved: only the directory may be there.
            with contextlib.suppress(StorageFailed):
                await self._state.destroy()
            return
        held = Change(self._context, self._state, self.record)
        try:
            await end_processes(held)
            await hooks.run_poststop(held, Status.STOPPED)
            await self._state.destroy()
        except Exception:  # noqa: BLE001 - the error that led here is the one to raise
            # The record stays and says creating or deleting; delete and gc finish it.
            _log.exception("container %s: could not be rolled back", self.record.id)


async def _settle(task: asyncio.Future[None]) -> None:
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # looked at, in case that nobody is left to raise it to


def _is_being_deleted(record: Record) -> bool:
    return record.deletion is not None


def start_failed(container_id: str, report: FailureReport) -> StartFailed | HookFailed:
    """The error for a failure that launch code reported."""
    hook = report.get("hook")
    if hook:
        return HookFailed(
            container_id=container_id, kind="startContainer", path=report["path"], why=str(hook)
        )
    return StartFailed(
        container_id=container_id, what=report["what"], path=report["path"], errno=report["errno"]
    )
