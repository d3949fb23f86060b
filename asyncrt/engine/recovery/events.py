"""The log of events: what killed writers didn't tell, and rotation where no engine does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncrt import _paths
from asyncrt._threads import run_blocking
from asyncrt.engine.recovery import report
from asyncrt.state import append_missing, event_log, missing_events, survey

if TYPE_CHECKING:
    from asyncrt.engine.recovery.work import Work
    from asyncrt.state import Survey


async def complete_events(work: Work, found: Survey) -> None:
    """Tell what wasn't told. If cancelled, some of it may be, and the next time the rest."""
    root = work.root
    async with work.mending(report.EVENT):
        if any(each.outcome == "mended" for each in work.findings):
            found = await run_blocking(survey, root)  # what was mended has told of itself
        missing = await run_blocking(missing_events, root, found.containers.values())
        if missing and not work.dry_run:
            await run_blocking(append_missing, root, missing)
        for each in missing:
            work.add(report.EVENT, "mended", id=each.id, action=f"tell that it is {each.status}")
    path = f"{root}/{_paths.EVENTS}"
    async with work.mending(report.FULL_LOG, path=path):
        if await work.context.run(event_log.is_full, root) and (
            work.dry_run or await run_blocking(event_log.rotate, root)
        ):
            work.add(report.FULL_LOG, "mended", path=path, action="begin a new one")
