"""The end of a soak: what it left is mended, is exactly what the records say, and goes without a trace."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from asyncrt import _paths
from asyncrt._threads import run_blocking
from asyncrt.errors import SandboxUnresponsive
from asyncrt.state import read_record
from asyncrt.status import Status
from tests.helpers import reality, reaping, truth
from tests.helpers.records import names
from tests.helpers.sandboxes import ROOT
from tests.soak import oplog
from tests.soak.deeds import Deeds
from tests.soak.look import Look, our_cgroups, our_mounts
from tests.soak.places import FROZEN, UNFROZEN, score_of
from tests.soak.plans import LOWEST_SCORE, Plans
from tests.soak.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt import Engine, RecoveryReport
    from asyncrt.ids import ContainerId
    from asyncrt.state import Record
    from tests.soak.oplog import OpLog
    from tests.soak.scene import Scene

_SETTLE_SECONDS = 60.0  # for what was killed just now to end, on a machine that is busy
_RECOVERIES = 20
# A supervisor's own, the namespaces that it shares, a connection of each engine there still is. A
# hundred lives in its sandbox have left it none.
_DESCRIPTORS = 34
_HOSTS = (Status.CREATED, Status.RUNNING)

_numbers = itertools.count()  # of operations


async def mended(scene: Scene, engine: Engine, log: OpLog) -> list[str]:
    """Nobody works any more: gc mends all there is, and then everything is exactly as it is told."""
    wrong = await recovered(engine, log)
    if scene.who == ROOT:  # nobody else may look at what waits at its gate
        wrong += _settled(lambda: truth.lies(scene.root))
    wrong += _settled(lambda: _suspicions(scene))
    for pod in scene.pods:
        wrong += await run_blocking(_members, scene, pod)
    wrong += await _scored(scene, engine, log)
    wrong += [f"locked: {each}" for each in reality.locked_files(scene.root)]
    return wrong


async def _scored(scene: Scene, engine: Engine, log: OpLog) -> list[str]:
    """More containers come and go in each sandbox: its supervisor's score is as it has to be."""
    wrong = []
    for pod in scene.pods:
        root = Look(scene).known.get(pod)
        if root is None or root.record.supervisor is None or root.view.status not in _HOSTS:
            continue
        for score in (LOWEST_SCORE, None):
            with contextlib.suppress(SandboxUnresponsive):  # its supervisor was killed
                wrong += await _scored_with(scene, engine, log, root.record, score)
    return wrong


async def scored(scene: Scene, engine: Engine, log: OpLog) -> list[str]:
    """The same in sandboxes that nobody else has touched; everything is destroyed, before and after."""
    wrong, id = [], f"{scene.subs[1]}-more"
    for pod in (scene.pods[0], scene.pods[-1]):
        plans = Plans(scene, random.Random(pod))
        for verb, each in (("sandbox", pod), ("create", id), ("destroy", pod), ("destroy", id)):
            Task(log, next(_numbers), verb).begin(each)
        plan = plans.of_nothing(pod, pod, LOWEST_SCORE)  # which counts for nobody
        sandbox = await engine.create_sandbox(pod, spec=plan.spec)
        await sandbox.root.start()
        other = await sandbox.create(id, spec=plans.of_nothing(id, pod, 2 * LOWEST_SCORE).spec)
        await other.start()
        root = await run_blocking(read_record, scene.root, pod)
        for score in (LOWEST_SCORE, None):
            wrong += await _scored_with(scene, engine, log, root, score)
        await other.destroy()
        wrong += await _scored_with(scene, engine, log, root, None)
        await sandbox.destroy()
    return wrong


async def _scored_with(
    scene: Scene, engine: Engine, log: OpLog, root: Record, score: int | None
) -> list[str]:
    """One that has that score, or none."""
    pod, supervisor, id = root.id, root.supervisor, f"{scene.subs[0]}-more"
    assert supervisor is not None
    plan = Plans(scene, random.Random(pod)).of_nothing(id, pod, score)
    for verb in ("create", "destroy"):
        Task(log, next(_numbers), verb).begin(id)
    sandbox = await engine.load_sandbox(pod)
    more = await sandbox.create(id, spec=plan.spec)
    others = [
        each.score
        for each in Look(scene).known.values()
        if each.record.supervisor == supervisor
        and each.record.sandbox == pod
        and each.record.id not in {pod, id}
        and each.score is not None
    ]
    seen = [score_of(supervisor.pid)]
    original = score_of(os.getpid())
    await more.start()
    seen.append(score_of(supervisor.pid))
    init = (await more.view()).pid
    its = None if init is None else score_of(init)
    await more.destroy()
    seen.append(score_of(supervisor.pid))
    scores = others if score is None else [*others, score]
    expected = [seen[0], min(scores, default=seen[0]), min(others, default=original)]
    if its != (original if score is None else score):
        return [f"one without a score of its own had {its}, or one with {score}"]
    if seen == expected:
        return []
    return [f"the scores in {pod} are {others}; with {score} and without it had {seen}: {expected}"]


async def recovered(engine: Engine, log: OpLog) -> list[str]:
    """As often as it takes until there is nothing to mend."""
    report = await _recover(engine, log)
    for _ in range(_RECOVERIES):
        again = await _recover(engine, log)
        if not report.complete:
            return [f"not mended: {each}" for each in report.findings]
        if not again.findings:
            return []
        report = again
    return [f"mended again and again: {each}" for each in report.findings]


async def _recover(engine: Engine, log: OpLog) -> RecoveryReport:
    task = Task(log, next(_numbers), "gc")
    task.begin("")
    report = await engine.recover()
    task.found(report)
    task.end("done")
    return report


def _settled(wrong: Callable[[], list[str]]) -> list[str]:
    found = reality.settles(wrong, seconds=_SETTLE_SECONDS)
    return [str(each) for each in found] if isinstance(found, list) else []


def _suspicions(scene: Scene) -> list[str]:
    """But that somebody was killed in the middle of a pause, who can have done it and not told."""
    look, done = Look(scene), Deeds(oplog.read(scene.log_path))
    return [
        *look.wrong,
        *(
            f"{' '.join(key)}: {text}"
            for key, text in look.suspicions.items()
            if key[0] not in {FROZEN, UNFROZEN}
            or not done.was_cut(key[1], look.known[key[1]].record.created_at, datetime.now(UTC))
        ),
    ]


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
    wrong += await _destroy(engine, log, [each.id for each in await engine.list()])
    return wrong + [f"left by a destroy: {each}" for each in names(scene.root)]


async def _destroy(engine: Engine, log: OpLog, ids: list[ContainerId]) -> list[str]:
    for id in ids:
        Task(log, next(_numbers), "destroy").begin(id)
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
    layers = {f"{scene.layers}/{each}" for each in os.listdir(scene.layers)}
    wrong += [f"layer {each}" for each in sorted(layers - set(scene.kept))]
    return [f"left: {each}" for each in wrong]
