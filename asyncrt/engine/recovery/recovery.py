"""The order in which a root is gone through.

Everything is found without a lock, by the look that a list takes. What seems wrong is looked at
again under its container's lock, so that nothing is done about what a living process has in hand,
and two recoveries never do the same thing. A lock that can't be had soon is left to its holder. Each
step can be repeated, so whoever is killed or cancelled in the middle leaves work for the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncrt._threads import run_blocking
from asyncrt.engine.recovery.ailments import examine
from asyncrt.engine.recovery.containers import forget_member, make_lock, mend, tell_broken
from asyncrt.engine.recovery.events import complete_events
from asyncrt.engine.recovery.files import clear_rest
from asyncrt.engine.recovery.output import pump_on
from asyncrt.engine.recovery.processes import end_strays
from asyncrt.engine.recovery.report import RecoveryReport
from asyncrt.engine.recovery.work import Work
from asyncrt.state import rest_of

if TYPE_CHECKING:
    from asyncrt.container import Context


async def recover(context: Context, *, dry_run: bool) -> RecoveryReport:
    """Find and mend everything; one failure never stops the rest.

    Raises StorageFailed when the root can't be read. If cancelled, what was mended stays so.
    """
    work = Work(context, dry_run=dry_run)
    found = await run_blocking(examine, context.root)
    for container_id, error in found.survey.broken.items():
        tell_broken(work, container_id, error)
    await work.each(found.unpumped, pump_on)
    await work.each(found.lockless, make_lock)
    await work.each(found.suspects, mend)
    await work.guarded(end_strays(work, found.survey))
    await work.each(found.members, forget_member)
    await work.guarded(clear_rest(work, rest_of(found.survey)))
    await work.guarded(complete_events(work, found.survey))
    return RecoveryReport(root=context.root, dry_run=dry_run, findings=tuple(work.findings))
