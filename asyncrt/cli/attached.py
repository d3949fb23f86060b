"""From nothing to a running program, and, attached, on to its end: the work of `run`."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from asyncrt import DEVNULL, INHERIT, Lease, _threads
from asyncrt.cli import errors, pid_file
from asyncrt.cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from asyncrt.cli.signals import Signals
    from asyncrt.cli.workload import Workload
    from asyncrt.container import Container
    from asyncrt.engine import Engine
    from asyncrt.state import ExitResult

_log = logging.getLogger("asyncrt.cli")


class Wanted(NamedTuple):
    """What the command line asks to be run."""

    id: str
    workload: Workload
    deadline: float | None
    pid_file: str | None


async def run_detached(engine: Engine, wanted: Wanted) -> int:
    """Leave the program running. If it fails or is cancelled, nothing is left."""
    async with Progress(f"starting {wanted.id}"):
        container = await _create(engine, wanted, stdin=DEVNULL)
        try:
            pid = await _pid(container, wanted)
            await container.start()
            if wanted.pid_file is not None:
                await pid_file.write(wanted.pid_file, pid)
        except BaseException:
            await _threads.finish(container.destroy())
            raise
    return 0


async def run_attached(engine: Engine, signals: Signals, wanted: Wanted, *, keep: bool) -> int:
    """The program's exit status, after its end and the container's (which `keep` spares).

    If cancelled, or if it fails before the end, the container is destroyed.
    """
    signals.hold()
    # However this process ends, nothing is left running that nobody waits for.
    container = await _create(engine, wanted, stdin=INHERIT, lease=Lease(0))
    writing: asyncio.Task[None] | None = None
    ended = False
    try:
        pid = await _pid(container, wanted)
        await container.start()
        signals.forward(container.kill)
        if wanted.pid_file is not None:
            writing = asyncio.create_task(pid_file.write(wanted.pid_file, pid))
        result = await until_end(container.wait(), writing)
        ended = True
    finally:
        if not (keep and ended):
            await _threads.finish(container.destroy())
        if writing is not None and not ended:
            writing.cancel()
    if keep:
        await container.renew(None)  # or gc would take it for left over when we are gone
    if writing is not None:
        signals.interrupt()  # nobody may ever read a FIFO
        await writing
    tell_reason(wanted.id, result)
    return result.status_code


async def _create(
    engine: Engine, wanted: Wanted, *, stdin: Any, lease: Lease | None = None
) -> Container:
    return await engine.create(
        wanted.id,
        spec=await wanted.workload.spec(),
        bundle=wanted.workload.bundle,
        stdin=stdin,
        stdout=INHERIT,
        stderr=INHERIT,
        deadline_seconds=wanted.deadline,
        lease=lease,
    )


async def _pid(container: Container, wanted: Wanted) -> int | None:
    """Init's pid for the pid file; to be asked before the start, a program may be over at once."""
    return None if wanted.pid_file is None else (await container.view()).pid


async def until_end(
    waiting: Coroutine[Any, Any, ExitResult], writing: asyncio.Task[None] | None
) -> ExitResult:
    """The end of what is waited for; a pid file that can't be written ends the waiting.

    If cancelled, so is the waiting; the writing is the caller's.
    """
    if writing is None:
        return await waiting
    wait = asyncio.create_task(waiting)
    try:
        await asyncio.wait((wait, writing), return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            writing.result()
        return await wait
    finally:
        if not wait.done():
            wait.cancel()
            await asyncio.wait((wait,))


def tell_reason(name: str, result: ExitResult) -> None:
    """Say on stderr why something ended, unless its exit status says it all."""
    if result.reason == "deadline":
        errors.say(f"{name!r} was killed: it reached its deadline")
    elif result.reason == "lease":
        errors.say(f"{name!r} was killed: its owner is gone")
    elif result.reason not in {"exit", "signal"}:
        errors.say(f"{name!r} ended, reason: {result.reason}")
    _log.info("%s ended: %s", name, result)
