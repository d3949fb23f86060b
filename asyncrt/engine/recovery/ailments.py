"""What is wrong with a container, told from its record, held against reality; healthy ones are many.

The same judgement twice: first without a lock, for all that a survey found, and under the lock again
for what seemed wrong.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from asyncrt import _paths, _procid
from asyncrt.container.takeover import lacks_pump
from asyncrt.engine.recovery import report
from asyncrt.state import survey
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.ids import ContainerId
    from asyncrt.state import ExitResult, Observed, Record, Survey

ACTIONS = {
    report.CREATION: "remove what a killed creator had begun",
    report.DELETION: "finish the deletion",
    report.ABANDONED: "remove it: it has ended, and nobody is left who will",
    report.UNRECORDED: "write its end into the record",
    report.BEGUN: "write into the record that it runs",
}
REMOVED = {report.CREATION, report.DELETION, report.ABANDONED}

_INTERRUPTED = "creation interrupted"


class Examined(NamedTuple):
    """A survey, what seems wrong with which containers, and members of sandboxes that are none.

    `unpumped`: the records of those whose output nobody pumps.
    """

    survey: Survey
    lockless: list[ContainerId]
    suspects: list[tuple[ContainerId, str]]
    members: list[tuple[ContainerId, str]]
    unpumped: list[Record]


def examine(root: str) -> Examined:
    """Look at every container of a root. Raises StorageFailed. Blocks for a read of each record."""
    found = survey(root)
    lockless = [
        container_id
        for container_id in (*found.containers, *found.broken)
        if container_id + _paths.LOCK not in found.names
    ]
    examined = Examined(found, lockless, [], [], [])
    for container_id, (record, observed) in found.containers.items():
        there = container_id + _paths.DIRECTORY in found.names
        if record.logs and _may_write(observed) and there:
            directory = f"{root}/{container_id}{_paths.DIRECTORY}"
            if lacks_pump(record, directory):
                examined.unpumped.append(record)
        kind = _ailment(record, observed, there)
        if kind:
            examined.suspects.append((container_id, kind))
        if there and _may_have_members(record):
            examined.members.extend(
                (container_id, each)
                for each in _members(f"{root}/{container_id}{_paths.DIRECTORY}")
                if each not in found.containers and each not in found.broken
            )
    return examined


def _may_have_members(record: Record) -> bool:
    """Whether others can have been created beside it: without a cgroup, nobody on the host."""
    return record.sandbox == record.id and (record.platform != "host" or bool(record.cgroup))


def _may_write(observed: Observed) -> bool:
    """Whether any of it may live: what a supervisor has seen the end of has nothing left that does."""
    return observed.exit is None or observed.exit.reason == "unknown"


def _members(directory: str) -> list[str]:
    try:
        return os.listdir(f"{directory}/{_paths.MEMBERS}")
    except OSError:
        return []


def ailment(record: Record, observed: Observed, root: str) -> str:
    """The kind of what is wrong with a container; "" when nothing is. Blocks for one look."""
    directory = f"{root}/{record.id}{_paths.DIRECTORY}"
    return _ailment(record, observed, os.path.lexists(directory))


def _ailment(record: Record, observed: Observed, there: bool) -> str:  # noqa: FBT001 - private
    if record.deletion is not None:
        return report.DELETION
    if observed.status is not Status.STOPPED:
        unsaved = observed.status is Status.RUNNING and record.status is Status.CREATED
        return report.BEGUN if unsaved else ""
    end = observed.exit
    if end is None:
        return ""  # its supervisor is about to write it down
    if record.status is Status.CREATING or (
        end.reason == _INTERRUPTED and not _is_creators(record)
    ):
        return report.CREATION
    if record.lease is not None and is_abandoned(record, end):
        return report.ABANDONED
    if not there:
        return report.DELETION  # its directory is there before the record is, and goes first
    return "" if record.status is Status.STOPPED else report.UNRECORDED


def _is_creators(record: Record) -> bool:
    """Whether it was created, and whoever did so is still there, and has heard that it is.

    Its sandbox may have ended before its init heard the same. The creating record names no init.
    """
    return record.init is not None and record.creator is not None and _procid.alive(record.creator)


def is_abandoned(record: Record, end: ExitResult) -> bool:
    """Whether nobody is left who would remove a container with a lease that has ended.

    That it ended for want of an owner says so. One that ended by itself is its owner's, and for the
    grace anybody's who was about to take it over.
    """
    lease = record.lease
    if lease is None:
        return False
    if end.reason == "lease":
        return True
    if any(_procid.alive(owner) for owner in lease.owners):
        return False
    ended = end.finished_at or record.created_at
    return ended + timedelta(seconds=lease.grace) <= datetime.now(UTC)
