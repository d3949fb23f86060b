"""What a save or a removal makes of a container, told to whoever watches the root's events.

The record is what counts, and it is saved: that its event can't be written fails nothing. Whoever
compares the two, as gc does, adds what is missing.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from asyncrt import _events
from asyncrt.errors import SchemaTooNew, StorageFailed
from asyncrt.state import event_log
from asyncrt.state.event import DESTROYED, encode_event
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.state.exit_record import ExitResult
    from asyncrt.state.record import Record

_log = logging.getLogger("asyncrt.state")


class Saved(NamedTuple):
    """What is on disk of a container, as far as events tell of it."""

    instance: str
    sandbox: str
    revision: int
    status: str

    @classmethod
    def of(cls, record: Record) -> Saved:
        """Of a record that was saved or read."""
        return cls(record.instance, record.sandbox, record.revision, str(record.status))


def tell_saved(root: str, directory: int, record: Record, before: Saved | None, verb: str) -> None:
    """A record was saved just now; `directory` is the root, open. No news if its status is as before."""
    previous = None if before is None else before.status
    if previous != record.status:
        now = Saved.of(record)
        _append(root, directory, record.id, now, verb, previous, now.status, record.exit)


def tell_destroyed(root: str, container_id: str, before: Saved | None, verb: str) -> None:
    """Its record goes right after this, so that no removal is missed by who has its creation.

    Raises StorageFailed without a root.
    """
    try:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageFailed(path=root, errno=error.errno or 0) from error
    try:
        previous = None if before is None else before.status
        if previous not in {None, Status.CREATING}:
            previous = Status.STOPPED.value  # all of it was stopped, which nobody needed to save
        now = before or Saved("", "", 0, "")
        _append(root, directory, container_id, now, verb, previous, DESTROYED)
    finally:
        os.close(directory)


def _append(
    root: str,
    directory: int,
    container_id: str,
    now: Saved,
    verb: str,
    previous: str | None,
    status: str,
    exit: ExitResult | None = None,
) -> None:
    line = encode_event(
        id=container_id,
        instance=now.instance,
        sandbox=now.sandbox,
        revision=now.revision,
        operation=verb,
        previous=previous,
        status=status,
        exit=exit,
    )
    try:
        if _events.append(directory, line) > event_log.ROTATE_BYTES:
            event_log.rotate(root)
    except (OSError, SchemaTooNew) as error:
        _log.warning("container %s: its event %s isn't written: %s", container_id, status, error)
