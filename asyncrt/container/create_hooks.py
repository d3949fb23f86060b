"""The hooks of a creation, run while init waits for them, and the error for what a launch reports."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
from typing import TYPE_CHECKING, NamedTuple

from asyncrt._threads import finish
from asyncrt.container import hooks
from asyncrt.errors import HookFailed, SandboxUnresponsive, StartFailed
from asyncrt.launch import overlay
from asyncrt.oci import DEFAULT_PATH, HOOK_KINDS
from asyncrt.sandbox import ChannelClosed, LaunchFailed
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.container.context import Context
    from asyncrt.launch.failure import FailureReport
    from asyncrt.oci import Spec
    from asyncrt.sandbox import Channel
    from asyncrt.state import Record


class CreateHooks:
    """Those of one creation. `waits`: init enters its root file system after the first of them."""

    def __init__(
        self, context: Context, spec: Spec, record: Record, channel: Channel, *, waits: bool
    ) -> None:
        self._context = context
        self._spec = spec
        self._record = record
        self._channel = channel
        self._waits = waits
        self._proceeding = False

    async def run(self) -> None:
        """Run them, for as long as init waits: a forced delete ends it.

        Raises HookFailed, StartFailed, SandboxUnresponsive. If cancelled, what runs is killed first.
        """
        record, channel = self._record, self._channel
        if hooks.has_hooks(self._context, record, *HOOK_KINDS[:3]):
            running = asyncio.ensure_future(self._run())
            ended = asyncio.ensure_future(channel.over.wait())
            try:
                await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
                if self._proceeding:
                    await asyncio.wait((running,))  # hears of the end itself, and of its cause
            finally:
                ended.cancel()
                if not running.done():
                    running.cancel()
                await finish(_settle(running))
            if not running.cancelled():
                running.result()
        if channel.closed:
            # What failed there while it waited was told before.
            with contextlib.suppress(ChannelClosed):
                said = await channel.greeting()
                if "failed" in said:
                    raise start_failed(record.id, said["failed"])
            raise SandboxUnresponsive(
                container_id=record.id,
                operation="create",
                why="its init was ended meanwhile, by a forced delete perhaps",
            )

    async def _run(self) -> None:
        record, context, spec = self._record, self._context, self._spec
        if not self._waits:
            await hooks.run_hooks(context, spec, record, Status.CREATING, *HOOK_KINDS[:3])
            return
        await hooks.run_hooks(context, spec, record, Status.CREATING, *HOOK_KINDS[:2])
        pid = record.init.pid if record.init is not None else None
        told = hooks.report(record, spec, Status.CREATING, pid)
        self._proceeding = True
        try:
            await context.launcher.proceed(self._channel, json.dumps(told))
        except LaunchFailed as error:
            raise start_failed(record.id, error.report) from error
        except ChannelClosed:
            return  # whoever waits for the hooks says so
        except OSError as error:
            raise StartFailed(
                container_id=record.id, what="launch", path="", errno=error.errno or 0
            ) from error
        finally:
            self._proceeding = False
        await hooks.run_hooks(context, None, record, Status.CREATING, HOOK_KINDS[2])


async def _settle(task: asyncio.Future[None]) -> None:
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # looked at, in case that nobody is left to raise it to


class Looked(NamedTuple):
    """What a program is looked for with: its name, its environment, its working directory."""

    program: str
    env: Sequence[str]
    cwd: str

    def why_missing(self) -> str:
        """Where it isn't, and what to do."""
        if "/" not in self.program:
            path = DEFAULT_PATH
            for pair in self.env:
                if pair.startswith("PATH="):
                    path = pair[5:]
            return f"it isn't in PATH={path}: give its whole path, or another PATH (--env PATH=...)"
        if self.program.startswith("/"):
            return ""
        return f"looked for in {self.cwd}, the working directory: --cwd chooses another"


def start_failed(
    container_id: str, report: FailureReport, looked: Looked | None = None
) -> StartFailed | HookFailed:
    """The error for a failure that launch code reported; `looked` is how its program was looked for."""
    hook = report.get("hook")
    if hook:
        kind, _, _ = report["what"].partition(" ")
        return HookFailed(container_id=container_id, kind=kind, path=report["path"], why=str(hook))
    return StartFailed(
        container_id=container_id,
        what=report["what"],
        path=report["path"],
        errno=report["errno"],
        why=_advice(report, looked),
    )


def _advice(report: FailureReport, looked: Looked | None) -> str:
    """What the errno of a missing file leaves out; "" when nothing is known."""
    if report["errno"] != errno.ENOENT:
        return ""
    if report["what"] == "program" and looked is not None:
        return looked.why_missing()
    if report["what"] == "root.path":
        return "put a root file system there"
    if report["what"] == overlay.WHAT:
        return f"make the directory {os.path.dirname(report['path'])} first"
    return ""
