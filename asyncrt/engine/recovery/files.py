"""Files under a root that are no container's: of killed writers, or nobody's we know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncrt.engine.recovery import report
from asyncrt.engine.recovery.work import any_there
from asyncrt.errors import ContainerNotFound
from asyncrt.state import event_log

if TYPE_CHECKING:
    from asyncrt.engine.recovery.work import Work
    from asyncrt.ids import ContainerId
    from asyncrt.state import Rest

WRITING_SECONDS = 10.0  # a log of events that is being made is younger than this

Names = tuple["ContainerId", list[str]]


async def clear_rest(work: Work, rest: Rest) -> None:
    """Remove what no living process has in hand. If cancelled, some may be removed."""
    await work.each(rest.vacant.items(), _clear_vacant)
    await work.each(rest.temporary.items(), _clear_temporary)
    await work.each(rest.events, _clear_of_log)
    for name in rest.foreign:
        work.add(report.FOREIGN, "left", path=f"{work.root}/{name}", why=report.NOT_OURS)


async def _clear_vacant(work: Work, item: Names) -> None:
    container_id, names = item
    paths = [f"{work.root}/{name}" for name in names]
    action = f"remove {', '.join(names)}"
    async with work.mending(report.LEFT_OVER, id=container_id, path=paths[0], action=action):
        if not await work.context.run(any_there, paths):
            return  # whoever had it in hand is done
        async with work.vacant(container_id) as vacant:
            if vacant and not work.dry_run:
                await work.unlink(path for path in paths if path.endswith("~"))
        if vacant:
            work.add(report.LEFT_OVER, "mended", id=container_id, path=paths[0], action=action)


async def _clear_temporary(work: Work, item: Names) -> None:
    """Whoever holds the lock is writing no such file, and nobody else does."""
    container_id, names = item
    paths = [f"{work.root}/{name}" for name in names]
    action = f"remove {', '.join(names)}"
    async with work.mending(report.TEMPORARY, id=container_id, path=paths[0], action=action):
        gone = False
        try:
            async with work.locked(container_id):
                gone = await work.unlink(paths)
        except ContainerNotFound:  # it was removed meanwhile, by this very recovery perhaps
            async with work.vacant(container_id) as vacant:
                gone = vacant and await work.unlink(paths)
        if gone:
            work.add(report.TEMPORARY, "mended", id=container_id, path=paths[0], action=action)


async def _clear_of_log(work: Work, name: str) -> None:
    path = f"{work.root}/{name}"
    async with work.mending(report.TEMPORARY, path=path):
        if name not in event_log.LEFT_BY_ROTATION:
            gone = await work.context.run(_remove_old, path, work.dry_run)
        elif work.dry_run:
            gone = await work.context.run(any_there, [path])
        else:
            gone = await work.context.run(event_log.remove_left, work.root, name)
        if gone:
            work.add(report.TEMPORARY, "mended", path=path, action="remove it")


def _remove_old(path: str, dry_run: bool) -> bool:  # noqa: FBT001 - a worker thread's argument
    return event_log.remove_old(path, WRITING_SECONDS, dry_run=dry_run)
