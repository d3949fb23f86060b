"""The end of a soak: what it left is mended, is exactly what the records say, and goes without a trace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from asyncrt import _paths
from asyncrt._threads import run_blocking
from tests.helpers import reality, reaping, truth
from tests.helpers.records import names
from tests.helpers.sandboxes import ROOT
from tests.soak import oplog
from tests.soak.look import Look, our_cgroups, our_mounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt import Engine
    from asyncrt.ids import ContainerId
    from tests.soak.oplog import OpLog
    from tests.soak.scene import Scene

_SETTLE_SECONDS = 60.0  # for what was killed just now to end, on a machine that is busy
_RECOVERIES = 20
# A supervisor's own, the namespaces that it shares, a connection of each engine there still is. A
# hundred lives in its sandbox have left it none.
_DESCRIPTORS = 34


async def mended(scene: Scene, engine: Engine, log: OpLog) -> list[str]:
    """Nobody works any more: gc mends all there is, and then everything is exactly as it is told."""
    wrong = await recovered(engine, log)
    if scene.who == ROOT:  # nobody else may look at what waits at its gate
        wrong += _settled(lambda: truth.lies(scene.root))
    wrong += _settled(lambda: [*_suspicions(scene)])
    for pod in scene.pods:
        wrong += await run_blocking(_members, scene, pod)
    wrong += [f"locked: {each}" for each in reality.locked_files(scene.root)]
    return wrong


async def recovered(engine: Engine, log: OpLog) -> list[str]:
    """As often as it takes until there is nothing to mend."""
    report = await engine.recover()
    for _ in range(_RECOVERIES):
        oplog.write_findings(log, -1, report)
        again = await engine.recover()
        if not report.complete:
            return [f"not mended: {each}" for each in report.findings]
        if not again.findings:
            return []
        report = again
    return [f"mended again and again: {each}" for each in report.findings]


def _settled(wrong: Callable[[], list[str]]) -> list[str]:
    found = reality.settles(wrong, seconds=_SETTLE_SECONDS)
    return [str(each) for each in found] if isinstance(found, list) else []


def _suspicions(scene: Scene) -> list[str]:
    look = Look(scene)
    return [*look.wrong, *(f"{' '.join(key)}: {text}" for key, text in look.suspicions.items())]


def _members(scene: Scene, pod: str) -> list[str]:
    """What is noted down is what is there."""
    known = Look(scene).known
    root = known.get(pod)
    if root is None:
        return []
    try:
        noted = sorted(os.listdir(f"{scene.root}/{pod}{_paths.DIRECTORY}/{_paths.MEMBERS}"))
    except FileNotFoundError:
        noted = []
    there = sorted(
        id
        for id, each in known.items()
        if each.record.sandbox == pod != id and each.record.supervisor == root.record.supervisor
    )
    # Of a sandbox that was here before they may be noted down as well, if that was lost.
    stale = [each for each in noted if each not in known]
    missing = [each for each in there if each not in noted]
    return [f"{pod}: {missing} aren't noted down, {stale} are"] if stale or missing else []


async def destroyed(scene: Scene, engine: Engine, log: OpLog) -> list[str]:
    """First the containers beside the roots, which leaves supervisors as they began; then all."""
    views = await engine.list()
    wrong = await _destroy(engine, log, [each.id for each in views if each.sandbox != each.id])
    for seen in [*Look(scene).ours()]:
        count = _descriptors(seen.pid)
        log.write("descriptors", pid=seen.pid, name=seen.comm, count=count)
        if count > _DESCRIPTORS:
            wrong.append(f"{seen} has {count} descriptors, and nothing beside its root container")
    return wrong + await _destroy(engine, log, [each.id for each in await engine.list()])


async def _destroy(engine: Engine, log: OpLog, ids: list[ContainerId]) -> list[str]:
    for number, id in enumerate(ids):
        log.write("begin", op=number, verb="destroy", id=id)
    found = await engine.destroy_many(ids)
    return [f"{id} isn't destroyed: {error!r}" for id, error in found.items() if error is not None]


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except FileNotFoundError:
        return 0


def left(scene: Scene, keep: set[int]) -> list[str]:
    """Of all that was there nothing is: files, processes but those to keep, cgroups, mounts, layers."""
    wrong = [f"file {each}" for each in names(scene.root)]
    children = reaping.settle(keep=keep, seconds=_SETTLE_SECONDS)
    wrong += [f"process {reaping.describe(pid)}" for pid in sorted(children)]
    wrong += [f"cgroup {each}" for each in _settled(lambda: sorted(our_cgroups(scene)))]
    wrong += [f"mount {each}" for each in our_mounts(scene)]
    wrong += [f"layer {each}" for each in os.listdir(scene.layers)]
    return [f"left: {each}" for each in wrong]
