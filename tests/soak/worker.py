"""One of the processes that do random operations until they are told to stop, or killed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import tarfile
from typing import TYPE_CHECKING, Any

import asyncrt
from asyncrt import errors
from asyncrt._threads import run_blocking
from asyncrt.state import list_views, read_record
from asyncrt.status import Status
from tests.helpers.sandboxes import ROOT
from tests.soak import oplog
from tests.soak.oplog import OpLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.soak.scene import Scene

    Operation = Callable[["Worker", "Task"], Awaitable[None]]

CREATED, RUNNING, PAUSED = Status.CREATED, Status.RUNNING, Status.PAUSED
_LIVE = (CREATED, RUNNING, PAUSED)
_HOSTS = (CREATED, RUNNING)  # a sandbox in which containers can be created

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
HANGS_SECONDS = 150.0  # an operation that takes longer is a fault: all have bounds that are shorter

_GONE = (errors.ContainerNotFound, errors.AmbiguousId)
_OTHERS = (*_GONE, errors.InvalidTransition, errors.ContainerBusy, errors.SandboxUnresponsive)


class Task:
    """One operation: what it is about to do goes to the log, and what became of it."""

    def __init__(self, log: OpLog, number: int, verb: str) -> None:
        self._log = log
        self._number = number
        self.verb = verb

    def begin(self, id: str) -> None:
        """It is about that container or sandbox; written before anything is done."""
        self._log.write("begin", op=self._number, verb=self.verb, id=id)

    def target(self, container: asyncrt.Container | asyncrt.Sandbox) -> None:
        """That is who it is done to."""
        id, instance = container.id, container.instance
        self._log.write("target", op=self._number, verb=self.verb, id=id, instance=instance)

    def found(self, report: asyncrt.RecoveryReport) -> None:
        """What gc had to mend; whoever is killed after it did and before this has told nobody."""
        oplog.write_findings(self._log, self._number, report)

    def end(self, outcome: str) -> None:
        """It is done, refused or cancelled."""
        self._log.write("end", op=self._number, verb=self.verb, outcome=outcome)


class Worker:
    """An engine, some tasks, and dice."""

    def __init__(self, scene: Scene, name: str, seed: int) -> None:
        self.scene = scene
        self.dice = random.Random(seed)
        self.faults: list[str] = []
        self.stopping = asyncio.Event()
        self._log = OpLog(scene.log_path, name)
        self._number = 0
        # An ordinary user's containers have no cgroup, unless one was delegated.
        self._verbs = [each for each in _VERBS if scene.who == ROOT or each != "update"]
        self.engine = asyncrt.Engine(scene.root, durable=False, lock_timeout=5.0)

    async def work(self, tasks: int) -> None:
        """Until told to stop."""
        async with self.engine, asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(self._operations())
        self._log.close()

    async def _operations(self) -> None:
        while not self.stopping.is_set() and not self.faults:
            verb = self.dice.choice(self._verbs)
            operation, expected = _OPERATIONS[verb]
            self._number += 1
            task = Task(self._log, self._number, verb)
            cancelled = self.dice.random() < 0.1
            seconds = self.dice.random() * 0.05 if cancelled else HANGS_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    await operation(self, task)
                task.end("done")
            except expected as error:
                task.end(f"refused: {error!r}")
            except TimeoutError as error:
                if cancelled:
                    task.end("cancelled")
                else:
                    self._fault(task, error)
            except Exception as error:  # whatever it is: told, and the end of this worker
                self._fault(task, error)

    def _fault(self, task: Task, error: Exception) -> None:
        task.end(f"FAULT: {error!r}")
        self.faults.append(f"{task.verb}: {type(error).__name__}: {error}")

    # --- sandboxes

    async def sandbox(self, task: Task) -> None:
        """A new one, most often with a root container that runs."""
        dice, scene = self.dice, self.scene
        pod = dice.choice(scene.pods)
        task.begin(pod)
        overlay = None
        if scene.is_on_linux(pod) and dice.random() < 0.3:
            overlay = scene.overlay(dice)
        spec = scene.sandbox_spec(pod, dice)
        made = await self.engine.create_sandbox(pod, spec=spec, overlay=overlay, **NULL)
        task.target(made)
        if dice.random() < 0.9:
            await made.root.start()

    async def create(self, task: Task) -> None:
        """One beside it."""
        dice, scene = self.dice, self.scene
        pods, ids = scene.pods, scene.subs
        if dice.random() < 0.8:
            pods = await run_blocking(self._there, pods, _HOSTS, False) or pods
            there = set(await run_blocking(self._there, ids, (), False))
            ids = tuple(each for each in ids if each not in there) or ids
        pod, id = dice.choice(pods), dice.choice(ids)
        task.begin(id)
        sandbox = await self.engine.load_sandbox(pod)
        on_linux = scene.is_on_linux(sandbox.id)
        overlay = scene.overlay(dice) if on_linux and dice.random() < 0.4 else None
        spec = scene.sub_spec(id, dice, on_linux=on_linux)
        made = await sandbox.create(id, spec=spec, overlay=overlay, **NULL)
        task.target(made)
        if dice.random() < 0.7:
            await made.start()

    async def members(self, task: Task) -> None:
        """All that a sandbox says are in it."""
        pod = self.dice.choice(self.scene.pods)
        task.begin(pod)
        sandbox = await self.engine.load_sandbox(pod)
        found = await sandbox.containers()
        ids = [each.id for each in found]
        if ids != sorted(set(ids)) or sandbox.id in ids:
            self.faults.append(f"members of {sandbox.id}: {ids}")

    async def end(self, task: Task) -> None:
        """All of one, or its root container under the others."""
        pod = self.dice.choice(self.scene.pods)
        task.begin(pod)
        sandbox = await self.engine.load_sandbox(pod)
        task.target(sandbox)
        await (sandbox.destroy() if self.dice.random() < 0.5 else sandbox.root.destroy())

    # --- containers

    async def _any(
        self, task: Task, *statuses: Status, root: float = 0.15, layered: bool = False
    ) -> asyncrt.Container:
        """Most often one that is in one of these statuses, as far as anybody can know."""
        scene, dice = self.scene, self.dice
        ids = scene.pods if dice.random() < root else scene.subs
        if dice.random() < 0.8:
            ids = await run_blocking(self._there, ids, statuses, layered) or ids
        id = dice.choice(ids)
        task.begin(id)
        container = await self.engine.load(id)
        task.target(container)
        return container

    def _there(
        self, ids: Sequence[str], statuses: Sequence[Status], layered: bool
    ) -> tuple[str, ...]:
        root = self.engine.root
        found = []
        for view in list_views(root):
            if view.id in ids and (not statuses or view.status in statuses):
                with contextlib.suppress(errors.ContainerNotFound):
                    if not layered or read_record(root, view.id).gofer is not None:
                        found.append(view.id)
        return tuple(found)

    async def start(self, task: Task) -> None:
        """What waits at its gate."""
        await (await self._any(task, CREATED)).start()

    async def pause(self, task: Task) -> None:
        """For a while, or for ever."""
        container = await self._any(task, CREATED, RUNNING)
        await container.pause()
        if self.dice.random() < 0.5:
            await container.resume()

    async def resume(self, task: Task) -> None:
        """Whoever paused it."""
        await (await self._any(task, PAUSED)).resume()

    async def exec(self, task: Task) -> None:
        """A program that ends at once, or stays."""
        container = await self._any(task, CREATED, RUNNING)
        stays = self.dice.random() < 0.3
        args = ["/bin/sleep", "1000"] if stays else ["/bin/true"]
        process = await container.exec(args, **NULL)
        try:
            if not stays:
                async with asyncio.timeout(2):  # it may be paused, or as dead as its container
                    await process.wait()
        except TimeoutError:
            pass
        finally:
            process.close()

    async def kill(self, task: Task) -> None:
        """Init, by a signal."""
        await (await self._any(task, *_LIVE, root=0.05)).kill(self.dice.choice(("KILL", "TERM")))

    async def kill_all(self, task: Task) -> None:
        """Everything of it."""
        container = await self._any(task, *_LIVE, root=0.05)
        await container.kill(self.dice.choice(("KILL", "KILL", "TERM")), all=True)

    async def stop(self, task: Task) -> None:
        """With a short grace."""
        await (await self._any(task, *_LIVE, root=0.05)).stop(0.1)

    async def update(self, task: Task) -> None:
        """Its limits."""
        container = await self._any(task, *_LIVE)
        await container.update({"pids": {"limit": self.dice.choice((50, 100, -1))}})

    async def events(self, task: Task) -> None:
        """What it uses and becomes, for some of its life."""
        container = await self._any(task, *_LIVE)
        if self.dice.random() < 0.5:
            await container.stats()
            return
        told = 0
        async with contextlib.aclosing(container.events(0.02)) as happening:
            async for _ in happening:
                told += 1
                if told >= 3:
                    break

    async def export(self, task: Task) -> None:
        """Its layer, which has to be an archive if it comes to its end."""
        container = await self._any(task, layered=True)
        async with contextlib.aclosing(container.export()) as pieces:
            archive = b"".join([each async for each in pieces])
        with tarfile.open(fileobj=io.BytesIO(archive)) as found:
            found.getnames()

    async def wait(self, task: Task) -> None:
        """Its end, which is the same for all."""
        container = await self._any(task)
        result = await container.wait(self.dice.choice((0.05, 0.5)))
        found = [result.exit_code, result.signal, result.reason]
        self._log.write("ended", id=container.id, instance=container.instance, result=found)

    async def destroy(self, task: Task) -> None:
        """Whatever it does just now."""
        await (await self._any(task, root=0.02)).destroy()

    async def delete(self, task: Task) -> None:
        """By its id, of any status, of a creation under way too."""
        id = self.dice.choice(self.scene.subs)
        task.begin(id)
        await self.engine.delete(id, force=True)

    # --- the root directory

    async def gc(self, task: Task) -> None:
        """Mends what who was killed has left."""
        task.begin("")
        task.found(await self.engine.recover())

    async def list(self, task: Task) -> None:
        """All, or those of one sandbox."""
        pod = self.dice.choice((None, *self.scene.pods))
        task.begin(pod or "")
        views = await self.engine.list(sandbox=pod)
        self.faults += [f"list: {each}" for each in views if each.broken is not None]
        self.faults += [
            f"list of {pod}: {each}" for each in views if pod not in {None, each.sandbox}
        ]


_CREATING = (*_OTHERS, errors.ContainerExists)

# By name: how often, what, and what it may be refused with because of others. All else is a fault.
_WEIGHTED: dict[str, tuple[int, Operation, tuple[type[Exception], ...]]] = {
    "sandbox": (6, Worker.sandbox, _CREATING),
    "create": (16, Worker.create, (*_CREATING, errors.SpecInvalid)),
    "members": (4, Worker.members, (*_GONE, errors.SpecInvalid)),
    "end": (1, Worker.end, (*_GONE, errors.SpecInvalid, errors.ContainerBusy)),
    "start": (6, Worker.start, _OTHERS),
    "pause": (4, Worker.pause, _OTHERS),
    "resume": (4, Worker.resume, _OTHERS),
    "exec": (6, Worker.exec, _OTHERS),
    "kill": (3, Worker.kill, _OTHERS),
    "kill_all": (3, Worker.kill_all, _OTHERS),
    "stop": (2, Worker.stop, _OTHERS),
    "update": (3, Worker.update, _OTHERS),
    "events": (4, Worker.events, _OTHERS),
    "export": (4, Worker.export, (*_OTHERS, errors.ExportFailed)),
    "wait": (5, Worker.wait, (*_GONE, TimeoutError)),
    "destroy": (8, Worker.destroy, (*_GONE, errors.ContainerBusy)),
    "delete": (2, Worker.delete, (errors.ContainerBusy,)),
    "gc": (2, Worker.gc, ()),
    "list": (5, Worker.list, ()),
}
_OPERATIONS = {name: (what, expected) for name, (_, what, expected) in _WEIGHTED.items()}
_VERBS = [name for name, (weight, _, _) in _WEIGHTED.items() for _ in range(weight)]


async def work(scene: Scene, name: str, seed: int, tasks: int) -> list[str]:
    """Say that it begins, and work until standard input ends; what went wrong."""
    worker = Worker(scene, name, seed)
    os.write(1, b"{}\n")
    loop = asyncio.get_running_loop()
    loop.add_reader(0, worker.stopping.set)
    try:
        await worker.work(tasks)
    finally:
        loop.remove_reader(0)
    return worker.faults
