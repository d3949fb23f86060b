"""From nothing to a running program, and, attached, on to its end: the work of `run`."""

from __future__ import annotations

import asyncio
import logging
import signal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from asyncrt import DEVNULL, INHERIT, InvalidTransition, Lease, _threads
from asyncrt.cli import errors, flags, pid_file, show_logs, tty
from asyncrt.cli.placing import Place
from asyncrt.cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AbstractContextManager
    from typing import Any

    from asyncrt.cli.signals import Signals
    from asyncrt.container import Container, Log, Stream
    from asyncrt.engine import Engine
    from asyncrt.oci import Spec
    from asyncrt.platforms import Overlay
    from asyncrt.state import ExitResult

T = TypeVar("T")

_log = logging.getLogger("asyncrt.cli")


class Workload(Protocol):
    """What is to run: a bundle's path, or what makes a spec."""

    @property
    def bundle(self) -> str | None:
        """The path of the bundle, which the engine reads itself."""

    @property
    def by_file(self) -> bool:
        """Whether a file says what is to run, and no options."""

    async def spec(self) -> Spec | None:
        """The spec, if there is no bundle. If cancelled, nothing has happened."""


class Wanted(NamedTuple):
    """What the command line asks to be run."""

    id: str
    workload: Workload
    deadline: float | None
    pid_file: str | None
    output: Stream | Log
    terminal: bool
    console_socket: str | None
    detach_keys: bytes
    pass_fds: dict[int, int] | None = None
    overlay: Overlay | None = None
    tell_all: bool = False  # signals are passed on to all of its processes
    place: Place = Place()


async def run_detached(engine: Engine, wanted: Wanted) -> int:
    """Leave the program running. If it fails or is cancelled, nothing is left."""
    async with Progress(f"starting {wanted.id}"):
        container = await _create(engine, wanted, stdin=DEVNULL)
        try:
            pid = await _pid(container, wanted)
            with _named(wanted):
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
    showing: asyncio.Task[Any] | None = None
    lent: tty.Lent | None = None
    ended = detached = False
    try:
        pid = await _pid(container, wanted)
        if container.terminal:
            lent = tty.Lent(await container.attach(), wanted.detach_keys, ours=True)
            signals.lend(lent.resize, lent.continued)
            await lent.resize()  # before the program looks
            showing = asyncio.create_task(lent.until_end())
        elif wanted.output is not INHERIT:
            showing = asyncio.create_task(show_logs.copy(container.logs(follow=True)))
        with _named(wanted):
            await container.start()
        signals.forward(partial(container.kill, all=True) if wanted.tell_all else container.kill)
        if wanted.pid_file is not None:
            writing = asyncio.create_task(pid_file.write(wanted.pid_file, pid))
        if lent is not None and showing is not None:
            left = not await until_end(_result(showing), writing)
            if left and await _released(container):
                detached = True
                errors.say(f"detached; 'asyncrt attach {wanted.id}' comes back")
                return 0
        result = await until_end(container.wait(), writing, showing)
        if showing is not None:
            await showing
        ended = True
    finally:
        if showing is not None:
            showing.cancel()
            await asyncio.wait((showing,))
        if lent is not None:
            lent.close()
        if not (detached or (keep and ended)):
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


async def _released(container: Container) -> bool:
    """Let it run on without us; False when it has ended meanwhile."""
    try:
        await container.renew(None)
    except InvalidTransition:
        return False
    return True


async def _create(
    engine: Engine, wanted: Wanted, *, stdin: Any, lease: Lease | None = None
) -> Container:
    with _named(wanted):
        return await wanted.place.create(
            engine,
            wanted.id,
            spec=await wanted.workload.spec(),
            bundle=wanted.workload.bundle,
            stdin=stdin,
            stdout=wanted.output,
            stderr=wanted.output,
            deadline_seconds=wanted.deadline,
            lease=lease,
            terminal=tty.own_size() if wanted.terminal else None,
            console_socket=wanted.console_socket,
            pass_fds=wanted.pass_fds,
            overlay=wanted.overlay,
        )


def _named(wanted: Wanted) -> AbstractContextManager[None]:
    """What has options blamed for what they said, and a bundle's file for what it says."""
    return flags.named(by_file=wanted.workload.by_file)


async def _pid(container: Container, wanted: Wanted) -> int | None:
    """Init's pid for the pid file; to be asked before the start, a program may be over at once."""
    return None if wanted.pid_file is None else (await container.view()).pid


async def _result(task: asyncio.Task[T]) -> T:
    return await asyncio.shield(task)


async def until_end(waiting: Coroutine[Any, Any, T], *others: asyncio.Task[Any] | None) -> T:
    """The end of what is waited for; a pid file or output that can't be written ends the waiting.

    If cancelled, so is the waiting; the others are the caller's.
    """
    wait = asyncio.create_task(waiting)
    beside = {each for each in others if each is not None}
    try:
        while not wait.done():
            done, _ = await asyncio.wait({wait, *beside}, return_when=asyncio.FIRST_COMPLETED)
            for each in done & beside:
                beside.discard(each)
                each.result()
        return wait.result()
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
    elif result.reason == "oom":
        errors.say(f"{name!r} was killed: it was out of memory (its limit, or the machine's)")
    elif result.oom_killed and result.status_code == 128 + signal.SIGKILL:
        errors.say(f"a process of {name!r} was killed: out of memory (its limit, or the machine's)")
    elif result.reason not in {"exit", "signal"}:
        errors.say(f"{name!r} ended, reason: {result.reason}")
    _log.info("%s ended: %s", name, result)
