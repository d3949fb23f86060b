"""What the log of events lacks: what a killed writer, or one on a full disk, saved and didn't tell.

Whoever reads all records anyway, as gc does, compares them with the log and appends what is missing.
No lock is needed for that. A verb that goes on meanwhile may tell the same, or what comes after it,
first: watchers leave out what they were told, and what has been overtaken (asyncrt.state.event).
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, NamedTuple

from asyncrt import _events, _procid
from asyncrt.errors import AsyncrtError, ContainerNotFound
from asyncrt.state import event_log
from asyncrt.state.event import DESTROYED, decode_line, encode_event
from asyncrt.state.record import read_record, record_path
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncrt.state.reality import Observed
    from asyncrt.state.record import Record


class Missing(NamedTuple):
    """A transition that no line tells of: `line` is the one to append."""

    id: str
    instance: str
    status: str
    line: bytes
    revision: int


class _Last(NamedTuple):
    """The end of what the log tells of one instance."""

    id: str
    sandbox: str
    revision: int
    status: str


# File systems stamp with the time of the last tick. To tell once too often is harmless.
_CLOCK_SECONDS = 1.0

_FINAL = {Status.STOPPED.value: 1, DESTROYED: 2}


def missing_events(root: str, containers: Iterable[tuple[Record, Observed]]) -> list[Missing]:
    """What the log should tell of these containers, and of those that are gone, and doesn't.

    `containers` are all of the root, as they were looked at just now. What was saved before the
    oldest line that is kept was told, as far as anybody can know. Changes nothing. Raises
    StorageFailed. Blocks for a read of the log.
    """
    told, since = _told(root)
    found = list(_missing(root, containers, told, since))
    if found:  # rarely: those whose own writer was but a moment behind are told by now
        again, _ = _told(root)
        found = [each for each in found if not _is_told(again, each) and _is_current(root, each)]
    return found


def append_missing(root: str, missing: Iterable[Missing]) -> None:
    """Append these lines, and rotate the log if need be. Raises OSError. Blocks for each."""
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for each in missing:
            _events.append(directory, each.line)
    finally:
        os.close(directory)
    event_log.rotate(root)


def _is_told(told: dict[str, _Last], missing: Missing) -> bool:
    last = told.get(missing.instance)
    return last is not None and last.status == missing.status


def _is_current(root: str, missing: Missing) -> bool:
    """Whether it is still so: the look at the containers may be some time ago."""
    if missing.status == DESTROYED:
        return True
    try:
        record = read_record(root, missing.id)
    except AsyncrtError:
        return False
    return (record.instance, record.revision) == (missing.instance, missing.revision)


def _missing(
    root: str,
    containers: Iterable[tuple[Record, Observed]],
    told: dict[str, _Last],
    since: float,
) -> Iterable[Missing]:
    there = set()
    for record, observed in containers:
        there.add(record.instance)
        status = record.status
        if observed.status is Status.STOPPED:
            if observed.exit is None:
                continue  # its supervisor is about to write it down
            status = Status.STOPPED
        last = told.get(record.instance)
        if last is None:
            if not _saved_since(root, record, observed, since):
                continue
        elif last.status == status or _FINAL.get(last.status, 0) > _FINAL.get(status, 0):
            continue
        if status is Status.STOPPED and record.supervisor and _procid.alive(record.supervisor):
            continue  # it writes the exit record first, and is about to tell
        line = encode_event(
            id=record.id,
            instance=record.instance,
            sandbox=record.sandbox,
            revision=record.revision,
            operation="gc",
            previous=None if last is None else last.status,
            status=status,
            exit=record.exit or observed.exit,
        )
        yield Missing(record.id, record.instance, status.value, line, record.revision)
    for instance, last in told.items():
        if instance not in there and last.status != DESTROYED and _is_gone(root, instance, last.id):
            line = encode_event(
                id=last.id,
                instance=instance,
                sandbox=last.sandbox,
                revision=last.revision,
                operation="gc",
                previous=last.status,
                status=DESTROYED,
            )
            yield Missing(last.id, instance, DESTROYED, line, last.revision)


def _saved_since(root: str, record: Record, observed: Observed, since: float) -> bool:
    if since == math.inf:
        return False
    since -= _CLOCK_SECONDS
    ended = observed.exit.finished_at if observed.exit is not None else None
    if ended is not None:
        return ended.timestamp() >= since  # its supervisor told it then
    try:
        return os.stat(record_path(root, record.id), follow_symlinks=False).st_mtime >= since
    except OSError:
        return False


def _is_gone(root: str, instance: str, container_id: str) -> bool:
    try:
        return read_record(root, container_id).instance != instance
    except ContainerNotFound:
        return True
    except AsyncrtError:
        return False  # broken: nobody knows whose it is


def _told(root: str) -> tuple[dict[str, _Last], float]:
    """The last that is told of each instance, and since when the log is kept."""
    found: dict[str, _Last] = {}
    since, lines = event_log.EventLog(root).everything()
    for line in lines:
        each = decode_line(line)
        if each is None or not each.instance:
            continue
        last = found.get(each.instance)
        if last is None or _FINAL.get(each.status, 0) >= _FINAL.get(last.status, 0):
            found[each.instance] = _Last(each.id, each.sandbox, each.revision or 0, each.status)
    return found, since
