"""What is true of a container now: its record, held against the processes it names.

A record is the last thing somebody was able to write down. Between that and now init may have
ended, the supervisor may have been killed, the machine may have been restarted. Every reader and
every verb looks here, so that all say the same. Doubt counts as alive; an exit code that nobody
saw is unknown, never invented.
"""

from __future__ import annotations

from typing import NamedTuple

from asyncrt import _paths, _procid
from asyncrt.state.exit_record import ExitResult, read_exit
from asyncrt.state.record import Record, read_record
from asyncrt.status import Status

_INTERRUPTED = ExitResult(reason="creation interrupted")
_UNKNOWN = ExitResult(reason="unknown")
_UNSEEN = {_UNKNOWN.reason, _INTERRUPTED.reason}

# Each new look means that somebody replaced the record meanwhile; many in a row mean a container
# that changes faster than it can be read, and then any of the answers is as good.
_LOOKS = 8


class Observed(NamedTuple):
    """The truth about a record.

    `started`: the program has left its gate at some time. `exit_pending`: init is dead and its
    supervisor, alive, is about to write the exit record; `exit` is None until it has. Otherwise
    `exit` is set when, and only when, the status is stopped.
    """

    status: Status
    exit: ExitResult | None = None
    started: bool = False
    exit_pending: bool = False


def observe(record: Record, root: str, namespace: int = 0) -> Observed:
    """What is true of the record's container now. Changes nothing.

    Who observes many gives `namespace`, see `_procid.check`.

    Raises StateCorrupted, SchemaTooNew or StorageFailed for an exit record that can't be read.
    Blocks for at most a few reads of small files.
    """
    status = record.status
    if status is Status.STOPPED:
        return _stopped(record, record.exit or _unknown(record))
    if status is Status.CREATING:
        creator = record.creator
        if creator is None or _procid.alive(creator):
            return Observed(status)
        # Its supervisor may have seen the end of an init that nobody had saved, and told of it.
        return _stopped(record, read_exit(root, record.id, record.instance) or _INTERRUPTED)
    if record.init is not None:
        alive, comm = _procid.check(record.init, namespace)
        if alive:
            return _living(record, comm)
    return _dead(record, root)


def look(root: str, container_id: str) -> tuple[Record, Observed]:
    """The record and what is true of it, from files that belong together; takes no lock.

    A container may be destroyed, and its id taken again, between one read and the next: whatever
    could come from that is looked at again. Raises what `read_record` and `observe` raise.
    """
    return settle(root, read_record(root, container_id))


def settle(root: str, record: Record, namespace: int = 0) -> tuple[Record, Observed]:
    """Like `look`, for a record that was read just now."""
    for _ in range(_LOOKS):
        observed = observe(record, root, namespace)
        if not _doubtful(record, observed):
            break
        again = read_record(root, record.id)
        if again.revision == record.revision and again.instance == record.instance:
            break
        record = again
    else:
        observed = observe(record, root, namespace)
    return record, observed


def _doubtful(record: Record, observed: Observed) -> bool:
    """Whether the record, if it was replaced since it was read, would explain what was seen.

    Then a process it names may have ended for a good reason, e.g. a creator who saved `created`,
    or have ended and been folded into a record of which `ID.d` is already gone.
    """
    return (
        observed.status is Status.STOPPED
        and record.status is not Status.STOPPED
        and (observed.exit is None or observed.exit.reason in _UNSEEN)
    )


def _living(record: Record, comm: str) -> Observed:
    if record.status is not Status.CREATED:
        from_created = record.paused_from is Status.CREATED
        return Observed(record.status, started=not from_created)
    # A starter may be killed after it said go and before it saved: the exec changed the name.
    if comm in {"", _paths.GATE_COMM}:
        return Observed(Status.CREATED)
    return Observed(Status.RUNNING, started=True)


def _dead(record: Record, root: str) -> Observed:
    result = read_exit(root, record.id, record.instance)
    if result is None:
        if record.supervisor is not None and _procid.alive(record.supervisor):
            return Observed(Status.STOPPED, None, started=_was_started(record), exit_pending=True)
        # It may have written between the two: it does so before it ends.
        result = read_exit(root, record.id, record.instance) or _unknown(record)
    return _stopped(record, result)


def _unknown(record: Record) -> ExitResult:
    """An end that nobody saw; that the program was started may be known all the same."""
    if record.started_at is None:
        return _UNKNOWN
    return ExitResult(reason=_UNKNOWN.reason, started_at=record.started_at)


def _stopped(record: Record, result: ExitResult) -> Observed:
    return Observed(
        Status.STOPPED, result, started=_was_started(record) or result.started_at is not None
    )


def _was_started(record: Record) -> bool:
    return record.started_at is not None or Status.RUNNING in {record.status, record.paused_from}
