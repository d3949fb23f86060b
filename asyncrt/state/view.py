"""What people and programs are told of a container: a frozen view of one moment."""

from __future__ import annotations

import msgspec

from asyncrt.ids import ContainerId
from asyncrt.state.exit_record import ExitResult, Moment
from asyncrt.state.reality import Observed
from asyncrt.state.record import Record
from asyncrt.status import Status


class View(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One container as it was at one moment; changes nothing and holds nothing open.

    `status` is None when the record is broken, and `broken` says why; only `id` is known then.
    `pid` is init's, None once it is stopped. `exit` is None while it isn't stopped, and while its
    supervisor is about to write the exit record.
    """

    id: ContainerId
    instance: str = ""
    status: Status | None = None
    pid: int | None = None
    created_at: Moment | None = None
    started_at: Moment | None = None
    owner: str = ""
    bundle: str | None = None
    platform: str = ""
    supervision: str = ""
    sandbox: str = ""
    exit: ExitResult | None = None
    broken: str | None = None


def view_of(record: Record, observed: Observed) -> View:
    """The view of a record and what is true of it."""
    result = observed.exit
    started_at = record.started_at
    if started_at is None and result is not None:
        started_at = result.started_at
    pid = None
    if observed.status is not Status.STOPPED and record.init is not None:
        pid = record.init.pid
    return View(
        id=ContainerId(record.id),
        instance=record.instance,
        status=observed.status,
        pid=pid,
        created_at=record.created_at,
        started_at=started_at,
        owner=record.owner,
        bundle=record.bundle,
        platform=record.platform,
        supervision=record.supervision,
        sandbox=record.sandbox,
        exit=result,
    )
