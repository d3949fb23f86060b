"""The launch of a creation: what init is given, and who answers from its gate, in the record."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
from typing import TYPE_CHECKING

import msgspec

from asyncrt import _durable, _paths
from asyncrt._threads import finish, run_blocking
from asyncrt.container import cgroup, hooks, layer, leaves
from asyncrt.container.beside import seated
from asyncrt.container.change import unresponsive
from asyncrt.container.create_hooks import Looked, start_failed
from asyncrt.container.lease import seconds_of
from asyncrt.container.log import close_all, make_logs
from asyncrt.container.terminal import connect_console
from asyncrt.errors import (
    AsyncrtError,
    DestroyFailed,
    SandboxUnresponsive,
    StartFailed,
    StorageFailed,
)
from asyncrt.oci import hook_plans
from asyncrt.sandbox import ChannelClosed, LaunchFailed
from asyncrt.state import CgroupPlace, Identity, read_exit
from asyncrt.status import Status

if TYPE_CHECKING:
    import socket

    from asyncrt.container.beside import Seat
    from asyncrt.container.context import Context
    from asyncrt.container.create_plan import CreatePlan
    from asyncrt.container.streams import Streams
    from asyncrt.launch.plan import OverlayPlan
    from asyncrt.sandbox import Channel, Launched

_CLEARING_SECONDS = 5.0


class CreateLaunch:
    """One creation's, from the container's directory on; undone by `abandon`."""

    def __init__(
        self, context: Context, plan: CreatePlan, streams: Streams, patience: float
    ) -> None:
        """The streams stay the caller's. `patience`: seconds for a supervisor to answer."""
        self._context = context
        self._plan = plan
        self._record = plan.record
        self._streams = streams
        self._patience = patience
        self._fifos: list[int] = []  # for the workload, in the order of the streams' logs
        self._held: list[int] = []  # the directory of a kept layer
        self._console: socket.socket | None = None
        self._channel: Channel | None = None

    def make_directory(self) -> None:
        """Make the container's directory, with its config and its logs. Raises StorageFailed. Blocks."""
        path = self._context.directory(self._record.id)
        logs = self._streams.logs
        try:
            os.mkdir(path, 0o700)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                data = self._plan.spec.encoded()
                _durable.replace(fd, _paths.CONFIG, data, mode=0o600, durable=self._context.durable)
                if logs:
                    self._fifos = make_logs(fd, logs, fifos=not self._plan.has_terminal)
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageFailed(path=path, errno=error.errno or 0) from error

    async def run(self, seat: Seat | None) -> Channel:
        """Launch; the channel to the supervisor, or to what has launched, of an init that is ready.

        Raises StartFailed, HookFailed, SandboxUnresponsive, StorageFailed. If cancelled, what was
        begun is for `abandon` to end.
        """
        context, record, seconds = self._context, self._record, self._patience
        directory = context.directory(record.id)
        try:
            dir_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageFailed(path=directory, errno=error.errno or 0) from error
        try:
            if self._plan.console_path is not None:
                self._console = connect_console(record.id, self._plan.console_path)
            if self._plan.layer is not None and self._plan.layer["upper"]:
                await finish(run_blocking(self._hold_layer, self._plan.layer))
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
                    with seated(context, self._plan.sandbox) as another:
                        launched = await self._ask(dir_fd, another)
        except AsyncrtError:
            raise  # it says what it is, be it an OSError as well
        except TimeoutError:
            raise unresponsive(record.id, "create", seconds) from None
        except LaunchFailed as error:
            plan = self._plan.process
            looked = Looked(plan["args"][0], plan["env"], plan["cwd"])
            raise start_failed(record.id, error.report, looked) from error
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
            self._close_fifos()
            if self._console is not None:
                self._console.close()
        self._channel = launched.channel
        self._note(launched)
        return launched.channel

    def _note(self, launched: Launched) -> None:
        record = self._record
        record.init = msgspec.convert(launched.init, Identity)
        if record.supervision == "own":
            record.supervisor = msgspec.convert(launched.launcher, Identity)
        if launched.gofer is not None:
            record.gofer = msgspec.convert(launched.gofer, Identity)
        if launched.cgroup is not None:
            record.cgroups = leaves.recorded(launched.cgroup["made"], self._plan.sandbox)
            record.cgroup = tuple(CgroupPlace(*each) for each in launched.cgroup["places"])

    def _hold_layer(self, plan: OverlayPlan) -> None:
        """Kept here and not returned: who is cancelled meanwhile has it closed all the same."""
        layer.refuse_place(plan)
        if plan["kind"] == "kept":
            self._held = [layer.hold(self._record.id, plan)]

    def _was_ended(self) -> bool:
        """Whether a supervisor has written this instance's end down: it is to have but one."""
        record = self._record
        return read_exit(self._context.root, record.id, record.instance) is not None

    async def _clear(self) -> None:
        """What an init that was killed has made would be somebody else's to the next."""
        await layer.clear(self._context, self._record)
        planned = self._plan.process.get("cgroup")
        if planned is None:
            return
        full = await run_blocking(cgroup.too_small, planned)
        if full is not None:
            raise StartFailed(
                container_id=self._record.id,
                what="linux.resources.memory.limit",
                path=full,
                errno=errno.ENOMEM,
            )
        left = await run_blocking(cgroup.end, self._record, _CLEARING_SECONDS)
        if left:
            raise DestroyFailed(container_id=self._record.id, left=left)

    async def _ask(self, dir_fd: int, seat: Seat | None) -> Launched:
        fds = (dir_fd, *self._fds(), *self._plan.passed.fds, *self._held)
        return await self._context.launcher.launch(
            self._record.supervision, self._message(), fds, seat, self._patience
        )

    def _fds(self) -> list[int]:
        """The workload's standard streams."""
        fds = list(self._streams.fds)
        if self._plan.has_terminal:
            # The terminal takes their places; what is logged, its supervisor writes.
            fds = [fds[0]] * 3
            return fds if self._console is None else [*fds, self._console.fileno()]
        for number, fd in zip(self._streams.logs, self._fifos, strict=True):
            fds[number] = fd
        return fds

    def _message(self) -> dict[str, object]:
        record, plan = self._record, self._plan
        config = plan.spec.config
        start_hooks = hook_plans(config, "startContainer")
        state = ""
        if start_hooks:
            state = json.dumps(hooks.report(record, plan.spec, Status.CREATED, None))
        return {
            "id": record.id,
            "instance": record.instance,
            "durable": self._context.durable,
            "deadline": plan.deadline,
            "lease": seconds_of(plan.lease),
            "score": record.oom_score_adj,
            "plan": plan.process,
            "hooks": start_hooks,
            "waits": plan.waits,
            "container_hooks": hook_plans(config, "createContainer") if plan.waits else [],
            "logs": [] if plan.has_terminal else sorted(self._streams.logs),
            "state": state,
        }

    async def abandon(self) -> None:
        """Have what was launched end. If cancelled, it may not have ended yet."""
        self._close_fifos()
        if self._channel is not None:
            await self._context.launcher.abandon(self._channel)

    async def unmake_layer(self) -> None:
        """Take away what was made to hold a layer that is kept, which nobody writes to any more.

        If cancelled, it may be there still.
        """
        if self._plan.layer is not None and self._held:
            await run_blocking(layer.unmake, self._plan.layer, self._held[0])

    def _close_fifos(self) -> None:
        close_all(self._fifos)
        self._fifos = []

    def close(self) -> None:
        """Let go of the layer; its gofer, if there is one by now, has it."""
        close_all(self._held)
