"""One of the processes that do random operations until they are told to stop, or killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from typing import TYPE_CHECKING

import asyncrt
from asyncrt import errors
from asyncrt._threads import run_blocking
from asyncrt.state import list_views, read_record
from tests.helpers import capabilities, reality
from tests.soak import in_sandboxes, operations
from tests.soak.operations import RefusedError
from tests.soak.oplog import OpLog
from tests.soak.own import Own, own_locks
from tests.soak.plans import Plans
from tests.soak.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncrt.status import Status
    from tests.soak.scene import Scene

_OPERATIONS = in_sandboxes.OPERATIONS | operations.OPERATIONS
HANGS_SECONDS = 150.0  # an operation that takes longer is a fault: all have bounds that are shorter
_SETTLING_SECONDS = 60.0  # for threads to end that wait for a lock nobody wants any more


class Worker:
    """An engine, some tasks, and dice."""

    def __init__(self, scene: Scene, name: str, seed: int) -> None:
        self.scene = scene
        self.dice = random.Random(seed)
        self.plans = Plans(scene, self.dice)
        self.faults: list[str] = []
        self.stopping = asyncio.Event()
        self._log = OpLog(scene.log_path, name)
        self._number = 0
        self._under_way: set[Task] = set()
        self._own = Own(scene.root)
        can_update = capabilities.has_cgroups("pids")
        self._verbs = [
            name
            for name, operation in _OPERATIONS.items()
            for _ in range(operation.weight if can_update or name != "update" else 0)
        ]
        self.engine = asyncrt.Engine(scene.root, durable=False, lock_timeout=5.0)

    async def work(self, tasks: int) -> None:
        """Until told to stop; then it has nothing that it hadn't before."""
        async with self.engine:
            async with asyncio.TaskGroup() as group:
                for _ in range(tasks):
                    group.create_task(self._operations())
            if not self.faults:
                await self._until_none("locks left", lambda: own_locks(self.scene.root))
                grown = self._own.grown()
                self.faults += [f"after {self._number} operations: {each}" for each in grown]
        if not self.faults:
            await self._until_none("descriptors left", self._own.left)
        self._log.close()

    async def _operations(self) -> None:
        while not self.stopping.is_set() and not self.faults:
            verb = self.dice.choice(self._verbs)
            operation = _OPERATIONS[verb]
            self._number += 1
            task = Task(self._log, self._number, verb)
            cancelled = self.dice.random() < 0.1
            seconds = self.dice.random() * 0.05 if cancelled else HANGS_SECONDS
            self._under_way.add(task)
            try:
                async with asyncio.timeout(seconds):
                    await operation.act(self, task)
                task.end("done")
            except operation.refused as error:
                task.end(f"refused: {error!r}")
            except RefusedError as error:
                task.end(f"as planned: {error.__cause__!r}")
            except TimeoutError as error:
                if cancelled:
                    task.end("cancelled")
                else:
                    self._fault(task, error)
            except Exception as error:  # whatever it is: told, and the end of this worker
                self._fault(task, error)
            finally:
                self._under_way.discard(task)
            self._look_at_locks()

    def _look_at_locks(self) -> None:
        if any(each.is_wide for each in self._under_way):
            return
        busy = {id for each in self._under_way for id in each.ids}
        self.faults += [f"a lock is left: {each}" for each in self._own.leaked_locks(busy)]

    async def _until_none(self, what: str, found: Callable[[], Sequence[object]]) -> None:
        try:
            async with asyncio.timeout(_SETTLING_SECONDS):
                while found():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            self.faults.append(f"{what} after {self._number} operations: {found()}")

    def _fault(self, task: Task, error: Exception) -> None:
        task.end(f"FAULT: {error!r}")
        self.faults.append(f"{task.verb}: {type(error).__name__}: {error}")

    # --- whom an operation is about

    async def any(
        self, task: Task, *statuses: Status, root: float = 0.15, layered: bool = False
    ) -> asyncrt.Container:
        """Most often one that is in one of these statuses, as far as anybody can know."""
        scene, dice = self.scene, self.dice
        ids = scene.pods if dice.random() < root else scene.subs
        if dice.random() < 0.8:
            ids = await self.there(ids, statuses, layered=layered) or ids
        id = dice.choice(ids)
        task.begin(id)
        container = await self.engine.load(id)
        task.target(container)
        return container

    async def there(
        self, ids: Sequence[str], statuses: Sequence[Status] = (), *, layered: bool = False
    ) -> tuple[str, ...]:
        """Those of them that are in one of these statuses, or in any."""
        return await run_blocking(self._there, ids, statuses, layered)

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

    # --- what has to be so when one is done

    async def none_alive(self, container: asyncrt.Container, mark: str) -> None:
        """Not one process of that container: what was done to it promises that it returns then."""
        if mark:
            seen = [each for each in await run_blocking(reality.everything) if each.mark == mark]
            self.faults += [f"{container}: alive after its end: {each}" for each in seen]

    def mark_of(self, container: asyncrt.Container) -> str:
        """What its processes have in their environment; "" once nobody can tell."""
        mark = self.scene.mark_of(container.id)
        with contextlib.suppress(errors.AsyncrtError):
            if read_record(self.engine.root, container.id).instance == container.instance:
                return str(mark or "")
        return ""

    def is_gone(self, id: str, instance: str) -> bool:
        """Whether that one isn't there any more, by its record."""
        try:
            return read_record(self.engine.root, id).instance != instance
        except errors.ContainerNotFound:
            return True


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
