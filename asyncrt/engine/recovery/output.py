"""Output that nobody pumps into its log any more, because the container's supervisor was killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncrt.engine.recovery import report

if TYPE_CHECKING:
    from asyncrt.engine.recovery.work import Work
    from asyncrt.state import Record

_ACTION = "start a process that pumps its output on"


async def pump_on(work: Work, record: Record) -> None:
    """Start a pump, which outlives us, unless somebody has. If cancelled, it may have been started."""
    context = work.context
    async with work.mending(report.UNPUMPED, id=record.id, action=_ACTION):
        # The flock on its logs says whether somebody pumps; the container's own has no part in it.
        if work.dry_run or context.pumps.pump_on(record, context.directory(record.id)):
            work.add(report.UNPUMPED, "mended", id=record.id, action=_ACTION)
