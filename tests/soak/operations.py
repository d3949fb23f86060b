"""What workers do to one container at a time, and how often; with what has to be so afterwards.

What an operation may be refused with is what others did meanwhile. All else is a fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import tarfile
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncrt
from asyncrt import errors
from asyncrt._threads import run_blocking
from asyncrt.status import Status
from tests.helpers import reality
from tests.soak.plans import HOOK_FAILS
from tests.soak.scene import Mark, pids_limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncrt import ExitResult
    from tests.soak.task import Task
    from tests.soak.worker import Worker

CREATED, RUNNING, PAUSED = Status.CREATED, Status.RUNNING, Status.PAUSED
_LIVE = (CREATED, RUNNING, PAUSED)

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
_EXEC_SECONDS = 2.0  # it may be paused, or as dead as its container

GONE = (errors.ContainerNotFound, errors.AmbiguousId)
OTHERS = (*GONE, errors.InvalidTransition, errors.ContainerBusy, errors.SandboxUnresponsive)


class RefusedError(Exception):
    """It was refused because of what was asked for, as it had to be."""


class Operation(NamedTuple):
    """How often it is done, what it is, and what it may be refused with."""

    weight: int
    act: Callable[[Worker, Task], Awaitable[None]]
    refused: tuple[type[Exception], ...]


@contextlib.contextmanager
def as_planned(*, kept: bool = False) -> Any:
    """A hook that is to fail fails, and a layer that another container has is refused."""
    try:
        yield
    except errors.HookFailed as error:
        if str(HOOK_FAILS) not in error.why:
            raise
        raise RefusedError(error) from error
    except errors.StartFailed as error:
        if not kept or error.errno != errno.EBUSY:
            raise
        raise RefusedError(error) from error


async def start(worker: Worker, task: Task) -> None:
    """What waits at its gate."""
    container = await worker.any(task, CREATED)
    with as_planned():
        await container.start()
    task.note("started", instance=container.instance)


async def pause(worker: Worker, task: Task) -> None:
    """For a while, or for ever."""
    container = await worker.any(task, CREATED, RUNNING)
    await container.pause()
    if worker.dice.random() < 0.5:
        await container.resume()


async def resume(worker: Worker, task: Task) -> None:
    """Whoever paused it."""
    await (await worker.any(task, PAUSED)).resume()


async def exec(worker: Worker, task: Task) -> None:
    """A program that ends at once, that has a time, or that stays."""
    dice = worker.dice
    container = await worker.any(task, CREATED, RUNNING)
    code, chance = dice.randrange(256), dice.random()
    args, deadline = ["/bin/sh", "-c", f"exit {code}"], None
    if chance < 0.4:
        args = ["/bin/sleep", "1000"]
        deadline = 0.2 if chance < 0.15 else None
    process = await container.exec(args, deadline_seconds=deadline, **NULL)
    try:
        if chance >= 0.4 or deadline is not None:
            async with asyncio.timeout(_EXEC_SECONDS):
                result = await process.wait()
            expected = (code, "exit") if deadline is None else (None, "deadline")
            if not _ended_so(result, *expected):
                worker.faults.append(f"{container}: {args} {deadline} ended by {result}")
        elif chance < 0.2:
            await process.kill()
    except TimeoutError:
        pass
    finally:
        process.close()


def _ended_so(result: ExitResult, code: int | None, reason: str) -> bool:
    """As it had to, or with its container, or with nobody left to tell."""
    if result.reason == "unknown":
        return result.exit_code is None and result.signal is None
    if result.signal is not None:
        return result.signal in {9, 15} and result.reason in {reason, "signal"} - {"exit"}
    return (result.exit_code, result.reason) == (code, reason)


async def ps(worker: Worker, task: Task) -> None:
    """All of its processes, and nobody else's."""
    container = await worker.any(task, *_LIVE)
    own = await run_blocking(worker.mark_of, container)
    for each in await container.processes():
        seen = reality.look(each.pid)
        mark = None if seen is None else Mark.parse(seen.mark)
        if own and mark is not None and str(mark) != own:
            worker.faults.append(f"{container}: {seen} is none of its processes")


async def kill(worker: Worker, task: Task) -> None:
    """Init, by a signal."""
    container = await worker.any(task, *_LIVE, root=0.05)
    await container.kill(worker.dice.choice(("KILL", "TERM")))


async def kill_all(worker: Worker, task: Task) -> None:
    """Everything of it, which is dead then if it can't help it."""
    container = await worker.any(task, *_LIVE, root=0.05)
    mark, signal = worker.mark_of(container), worker.dice.choice(("KILL", "KILL", "TERM"))
    await container.kill(signal, all=True)
    if signal == "KILL":
        await worker.none_alive(container, mark)


async def stop(worker: Worker, task: Task) -> None:
    """With a short grace."""
    container = await worker.any(task, *_LIVE, root=0.05)
    mark = worker.mark_of(container)
    await container.stop(0.1)
    await worker.none_alive(container, mark)


async def update(worker: Worker, task: Task) -> None:
    """A limit that nobody else sets, which holds then, or what came after it."""
    container = await worker.any(task, *_LIVE)
    limit = worker.dice.randrange(100, 30000)
    task.note("limit", instance=container.instance, wanted=limit)
    await container.update({"pids": {"limit": limit}})
    found = await run_blocking(pids_limit, worker.engine.root, container)
    if found is not None:
        task.note("limited", instance=container.instance, wanted=limit, found=found)


async def events(worker: Worker, task: Task) -> None:
    """What it uses and becomes, for some of its life."""
    container = await worker.any(task, *_LIVE)
    if worker.dice.random() < 0.5:
        await container.stats()
        return
    told = 0
    async with contextlib.aclosing(container.events(0.02)) as happening:
        async for _ in happening:
            told += 1
            if told >= 3:
                break


async def export(worker: Worker, task: Task) -> None:
    """Its layer, which has to be an archive if it comes to its end."""
    container = await worker.any(task, layered=True)
    async with contextlib.aclosing(container.export()) as pieces:
        archive = b"".join([each async for each in pieces])
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        found.getnames()


async def wait(worker: Worker, task: Task) -> None:
    """Its end, which is the same for all."""
    container = await worker.any(task)
    result = await container.wait(worker.dice.choice((0.05, 0.5)))
    found = [result.exit_code, result.signal, result.reason]
    task.note("ended", id=container.id, instance=container.instance, result=found)


async def destroy(worker: Worker, task: Task) -> None:
    """Whatever it does just now: nothing of it is there then."""
    container = await worker.any(task, root=0.02)
    mark = worker.mark_of(container)
    await container.destroy()
    await worker.none_alive(container, mark)
    if not worker.is_gone(container.id, container.instance):
        worker.faults.append(f"{container} is destroyed, and there")


async def delete(worker: Worker, task: Task) -> None:
    """By its id, of any status, of a creation under way too."""
    id = worker.dice.choice(worker.scene.subs)
    task.begin(id)
    await worker.engine.delete(id, force=True)


async def gc(worker: Worker, task: Task) -> None:
    """Mends what who was killed has left; now and then, that others see it first."""
    if worker.dice.random() < 0.6:
        await asyncio.sleep(worker.dice.random())
    task.begin("")
    task.found(await worker.engine.recover())


async def list(worker: Worker, task: Task) -> None:
    """All, or those of one sandbox."""
    pod = worker.dice.choice((None, *worker.scene.pods))
    task.begin(pod or "")
    views = await worker.engine.list(sandbox=pod)
    worker.faults += [f"list: {each}" for each in views if each.broken is not None]
    worker.faults += [f"list of {pod}: {each}" for each in views if pod not in {None, each.sandbox}]


OPERATIONS: dict[str, Operation] = {
    "start": Operation(6, start, OTHERS),
    "pause": Operation(4, pause, OTHERS),
    "resume": Operation(4, resume, OTHERS),
    "exec": Operation(7, exec, OTHERS),
    "ps": Operation(3, ps, OTHERS),
    "kill": Operation(3, kill, OTHERS),
    "kill_all": Operation(3, kill_all, OTHERS),
    "stop": Operation(2, stop, OTHERS),
    "update": Operation(3, update, OTHERS),
    "events": Operation(4, events, OTHERS),
    "export": Operation(4, export, (*OTHERS, errors.ExportFailed)),
    "wait": Operation(5, wait, (*GONE, TimeoutError)),
    "destroy": Operation(8, destroy, (*GONE, errors.ContainerBusy)),
    "delete": Operation(2, delete, (errors.ContainerBusy,)),
    "gc": Operation(1, gc, ()),
    "list": Operation(5, list, ()),
}
