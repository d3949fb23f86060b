"""Containers that something is wrong with, mended under their locks."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from asyncrt import _paths
from asyncrt.container.change import Change
from asyncrt.container.destroy import remove
from asyncrt.engine.recovery import report
from asyncrt.engine.recovery.ailments import ACTIONS, REMOVED, ailment
from asyncrt.errors import ContainerNotFound, SchemaTooNew, StateCorrupted
from asyncrt.ids import ContainerId, is_id
from asyncrt.state import exists, look, observe

if TYPE_CHECKING:
    from asyncrt.engine.recovery.work import Work
    from asyncrt.errors import AsyncrtError


def tell_broken(work: Work, container_id: ContainerId, error: AsyncrtError) -> None:
    """A record that can't be read is nobody's to judge but a person's."""
    path = getattr(error, "path", None)
    work.add(report.BROKEN, "left", why=str(error), id=container_id, path=path)


async def make_lock(work: Work, container_id: ContainerId) -> None:
    """Give a record its lock file back, without which nobody can change or remove the container.

    Somebody has removed that: it is made before the record and removed after it. If cancelled, it
    may be made.
    """
    path = f"{work.root}/{container_id}{_paths.LOCK}"
    async with work.mending(report.LOCKLESS, id=container_id, path=path):
        if await work.context.run(_make_lock, work.root, container_id, work.dry_run):
            work.add(report.LOCKLESS, "mended", id=container_id, path=path, action="make it")


def _make_lock(root: str, container_id: ContainerId, dry_run: bool) -> bool:  # noqa: FBT001 - a worker thread's argument
    path = f"{root}/{container_id}{_paths.LOCK}"
    if os.path.lexists(path) or not exists(root, container_id):
        return False  # it went while we looked, or is another now
    if not dry_run:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    return True


async def mend(work: Work, suspect: tuple[ContainerId, str]) -> None:
    """Look again, and do what its kind asks for. If cancelled, the rest is for the next time."""
    container_id, kind = suspect
    async with work.mending(kind, id=container_id, action=ACTIONS[kind]):
        try:
            kind = await _mend_locked(work, container_id)
        except ContainerNotFound:
            return
        except (StateCorrupted, SchemaTooNew) as error:
            tell_broken(work, container_id, error)
            return
        if kind:  # else whoever had it in hand is done
            work.add(kind, "mended", id=container_id, action=ACTIONS[kind])


async def _mend_locked(work: Work, container_id: ContainerId) -> str:
    context, root = work.context, work.root
    async with work.locked(container_id) as state:
        if state is None:
            record, observed = await context.run(look, root, container_id)
        else:
            record = await state.load_locked()
            observed = await context.run(observe, record, root)
        kind = await context.run(ailment, record, observed, root)
        if kind and state is not None:
            held = Change(context, state, record)
            await held.refresh(save=kind not in REMOVED)
            if kind in REMOVED:
                await remove(held)
    return kind


async def forget_member(work: Work, member: tuple[ContainerId, str]) -> None:
    """Remove a name from a sandbox's members unless there is, or comes to be, such a container.

    If cancelled, it may be removed.
    """
    sandbox, name = member
    path = f"{work.context.directory(sandbox)}/{_paths.MEMBERS}/{name}"
    if not is_id(name):
        work.add(report.FOREIGN, "left", path=path, why=report.NOT_OURS)
        return
    async with (
        work.mending(report.MEMBER, id=sandbox, path=path),
        work.vacant(ContainerId(name)) as vacant,
    ):
        if vacant and await work.unlink([path]):
            work.add(report.MEMBER, "mended", id=sandbox, path=path, action="remove it")
