"""Processes of the root that no record names, ended once that is certain."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from asyncrt import _procid
from asyncrt._threads import run_blocking
from asyncrt.engine.recovery import report
from asyncrt.errors import ContainerNotFound, LockTimeout
from asyncrt.sandbox import strays
from asyncrt.state import survey
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.engine.recovery.work import Work
    from asyncrt.ids import ContainerId
    from asyncrt.sandbox.strays import Stray
    from asyncrt.state import Survey


async def end_strays(work: Work, found: Survey) -> None:
    """Kill what has taken a container on that there is no record of.

    Whatever has is named by a record that is read after it was seen, or its creation is still under
    way: its record is there before it is asked, and it is gone before that is removed. If cancelled,
    some may have been killed.
    """
    seen = await run_blocking(strays.find, work.root, _named(found))
    if not seen:
        return
    unsettled = await _creations_under_way(work)
    again = await run_blocking(survey, work.root)
    named = _named(again)
    unnamed = [each for each in seen if not each.is_in(named) and _procid.alive(each)]
    creating = [each for each in unsettled if _is_creating(again, *each)]
    if len(unnamed) <= len(creating):
        return  # they are these creations', each of which has one
    for each in unnamed:
        action = f"kill the {each.what} and all below it"
        if again.broken:
            why = "a record that can't be read may be its own"
            work.add(report.PROCESS, "left", pid=each.pid, action=action, why=why)
        elif creating:
            why = "it may belong to a creation that is under way"
            work.add(report.PROCESS, "busy", pid=each.pid, action=action, why=why)
        else:
            async with work.mending(report.PROCESS, pid=each.pid, action=action):
                await _end(work, each, action)


async def _end(work: Work, stray: Stray, action: str) -> None:
    if work.dry_run or await run_blocking(strays.end, stray):
        work.add(report.PROCESS, "mended", pid=stray.pid, action=action)
    else:
        why = "it was killed and doesn't end"
        work.add(report.PROCESS, "failed", pid=stray.pid, action=action, why=why)


async def _creations_under_way(work: Work) -> list[tuple[ContainerId, str]]:
    """Those that had begun by now, as id and instance, after a while to come to their end."""
    found = await run_blocking(survey, work.root)
    creations = [
        (container_id, record.instance)
        for container_id, (record, _) in found.containers.items()
        if record.status is Status.CREATING
    ]
    await work.each(creations, _until_unlocked)
    return creations


async def _until_unlocked(work: Work, creation: tuple[ContainerId, str]) -> None:
    with contextlib.suppress(LockTimeout, ContainerNotFound):
        async with work.locked(creation[0]):
            pass


def _named(found: Survey) -> set[tuple[int, int]]:
    """Pid and start of every process that a record names."""
    return {
        (each.pid, each.start)
        for record, _ in found.containers.values()
        for each in (record.init, record.supervisor, record.gofer)
        if each is not None
    }


def _is_creating(found: Survey, container_id: ContainerId, instance: str) -> bool:
    record, _ = found.containers.get(container_id, (None, None))
    return (
        record is not None
        and record.instance == instance
        and record.status is Status.CREATING
        and (record.creator is None or _procid.alive(record.creator))
    )
