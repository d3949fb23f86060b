"""What workers do to sandboxes: create them and containers in them, and whatever is done to all in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncrt import errors
from asyncrt.errors import AsyncrtError
from asyncrt.state import list_views
from tests.soak.operations import (
    CREATED,
    GONE,
    NULL,
    OTHERS,
    RUNNING,
    Operation,
    as_planned,
)

if TYPE_CHECKING:
    import asyncrt
    from tests.soak.task import Task
    from tests.soak.worker import Worker

_HOSTS = (CREATED, RUNNING)  # a sandbox in which containers can be created


async def sandbox(worker: Worker, task: Task) -> None:
    """A new one, most often with a root container that runs."""
    pod = worker.dice.choice(worker.scene.pods)
    task.begin(pod)
    plan = worker.plans.of_sandbox(pod)
    task.planned(plan)
    with as_planned(kept=plan.facts["kept"] is not None):
        made = await worker.engine.create_sandbox(pod, spec=plan.spec, overlay=plan.overlay, **NULL)
        task.target(made)
        if worker.dice.random() < 0.9:
            await made.root.start()
            task.note("started", instance=made.instance)


async def create(worker: Worker, task: Task) -> None:
    """One beside it."""
    dice, scene = worker.dice, worker.scene
    pods, ids = scene.pods, scene.subs
    if dice.random() < 0.8:
        pods = await worker.there(pods, _HOSTS) or pods
        there = set(await worker.there(ids))
        ids = tuple(each for each in ids if each not in there) or ids
    pod, id = dice.choice(pods), dice.choice(ids)
    task.begin(id)
    found = await worker.engine.load_sandbox(pod)
    plan = worker.plans.of_container(id, found.id)
    task.planned(plan)
    with as_planned(kept=plan.facts["kept"] is not None):
        made = await found.create(id, spec=plan.spec, overlay=plan.overlay, **NULL)
        task.target(made)
        if dice.random() < 0.7:
            await made.start()
            task.note("started", instance=made.instance)


async def members(worker: Worker, task: Task) -> None:
    """All that a sandbox says are in it."""
    found = await _any(worker, task)
    ids = [each.id for each in await found.containers()]
    if ids != sorted(set(ids)) or found.id in ids:
        worker.faults.append(f"members of {found.id}: {ids}")


async def end(worker: Worker, task: Task) -> None:
    """All of one, or its root container under the others."""
    found = await _any(worker, task)
    whole = worker.dice.random() < 0.5
    await (found.destroy() if whole else found.root.destroy())
    if not worker.is_gone(found.id, found.instance):
        worker.faults.append(f"{found} is destroyed, and there")


async def kill_pod(worker: Worker, task: Task) -> None:
    """Signal all in one, all of each or the inits."""
    found, dice = await _any(worker, task), worker.dice
    number, whole = dice.choice(("KILL", "TERM")), dice.random() < 0.5
    results = await worker.engine.kill_many(signal=number, sandbox=found.id, all=whole)
    _judge(worker, task, results)


async def stop_pod(worker: Worker, task: Task) -> None:
    """Stop all in one."""
    found = await _any(worker, task)
    _judge(worker, task, await worker.engine.stop_many(grace_seconds=0.1, sandbox=found.id))


async def destroy_pod(worker: Worker, task: Task) -> None:
    """Remove all in one: those that it was said of are gone."""
    found = await _any(worker, task)
    before: dict[str, str] = {
        view.id: view.instance
        for view in list_views(worker.engine.root)
        if view.sandbox == found.id and view.broken is None
    }
    results = await worker.engine.destroy_many(sandbox=found.id)
    _judge(worker, task, results)
    worker.faults += [
        f"{task.verb}: {id} is destroyed, and there"
        for id, error in results.items()
        if error is None and id in before and not worker.is_gone(id, before[id])
    ]


async def _any(worker: Worker, task: Task) -> asyncrt.Sandbox:
    pod = worker.dice.choice(worker.scene.pods)
    task.begin(pod)
    found = await worker.engine.load_sandbox(pod)
    task.target(found)
    return found


def _judge(worker: Worker, task: Task, results: dict[str, Exception | None]) -> None:
    for id, error in results.items():
        if error is not None:
            task.note("of one", id=id, outcome=repr(error))
        if not isinstance(error, (AsyncrtError, type(None))) or (
            error is not None and not isinstance(error, OTHERS)
        ):
            worker.faults.append(f"{task.verb}: {id}: {error!r}")


_CREATING = (*OTHERS, errors.ContainerExists)
_LOADING = (*GONE, errors.SpecInvalid)

OPERATIONS: dict[str, Operation] = {
    "sandbox": Operation(6, sandbox, _CREATING),
    "create": Operation(16, create, (*_CREATING, errors.SpecInvalid)),
    "members": Operation(4, members, _LOADING),
    "end": Operation(1, end, (*_LOADING, errors.ContainerBusy)),
    "kill_pod": Operation(1, kill_pod, _LOADING),
    "stop_pod": Operation(1, stop_pod, _LOADING),
    "destroy_pod": Operation(1, destroy_pod, (*_LOADING, errors.ContainerBusy)),
}
