"""update: other limits for a container that lives, all of them or none.

The kernel comes first, the config.json after it: what that says of limits was in force, all of it,
when it was written. The other way round a refusal would have to be undone on disk. Who is killed in
between leaves limits that no file tells of yet: the same update again completes it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from typing import TYPE_CHECKING

from asyncrt import _cgroups, _durable, _paths, _procid
from asyncrt import status as statuses
from asyncrt._threads import finish, run_blocking
from asyncrt.container import cgroup
from asyncrt.container.change import Change, change
from asyncrt.container.context import refuse_foreign
from asyncrt.container.limits import Changed, NotChanged
from asyncrt.errors import SpecInvalid, SpecUnsupported, StateCorrupted, StorageFailed, UpdateFailed
from asyncrt.oci import Spec
from asyncrt.oci.check_resources import AT
from asyncrt.oci.sandbox_config import resources_of
from asyncrt.oci.update import lay_over, parse_change
from asyncrt.platforms.cgroups import plan_cgroup
from asyncrt.platforms.cgroups.update import PlannedUpdate, plan_update
from asyncrt.state import CgroupPlace
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncrt.container.context import Context
    from asyncrt.ids import ContainerId
    from asyncrt.oci.update import Change as LimitsChange
    from asyncrt.state import Record

_log = logging.getLogger("asyncrt.container")


async def update(
    context: Context,
    container_id: ContainerId,
    instance: str,
    resources: Mapping[str, object] | None,
    *,
    memory: int | str | None,
    pids: int | None,
    cpu: float | None,
    timeout: float | None,
) -> None:
    """Change the limits of a created, running or paused container; see Container.update.

    If cancelled while it waits for the lock nothing has changed; after that the update is finished,
    or undone, first.
    """
    named = parse_change(_given(resources, memory, pids, cpu))
    async with change(context, container_id, "update", instance=instance, timeout=timeout) as held:
        await finish(_update(held, named))


def _given(
    resources: Mapping[str, object] | None,
    memory: int | str | None,
    pids: int | None,
    cpu: float | None,
) -> Mapping[str, object]:
    in_short = resources_of(memory, pids, cpu)
    if resources is not None and in_short:
        raise SpecInvalid(json_path=AT, why="give either resources or memory, pids and cpu")
    return in_short if resources is None else resources


async def _update(held: Change, named: dict[str, object]) -> None:
    record, context = held.record, held.context
    refuse_foreign(record, "update")
    await run_blocking(_require_cgroup, record)
    path = f"{context.directory(record.id)}/{_paths.CONFIG}"
    spec = await context.run(_read_spec, path)
    wanted = lay_over(spec, named)
    planned = await run_blocking(_plan, record, spec, wanted)
    if planned.refused:
        raise SpecUnsupported(
            platform=record.platform,
            fields=planned.refused,
            reasons=planned.refused,
            container_id=record.id,
        )
    await _begin(held, planned)
    changed = Changed(record.cgroup[0].path)
    memory = wanted.resources.memory
    check = memory is not None and bool(memory.check_before_update)
    try:
        await run_blocking(lambda: changed.apply(planned, check_usage=check))
    except NotChanged as error:
        await _forget(held, planned)
        _require_alive(record)
        raise UpdateFailed(
            container_id=record.id,
            json_path=error.at,
            path=error.path,
            errno=error.errno,
            why=_meaning(error),
            left=error.left,
        ) from error
    try:
        await _record(held, changed, spec, wanted.config)
    except StorageFailed:
        left = await run_blocking(changed.put_back)
        await _forget(held, planned)
        if left:
            _log.warning("container %s: couldn't be put back: %s", record.id, ", ".join(left))
        raise
    _log.info("container %s: its limits are changed", record.id)


def _meaning(error: NotChanged) -> str:
    """What the kernel means by refusing, and what to do, where its errno alone doesn't say; else ""."""
    if error.errno == errno.EBUSY and os.path.basename(error.path).startswith("memory."):
        return "more than that is used, and can't be taken back; give it more"
    if error.errno == errno.EINVAL:
        return "the kernel takes no such value; give another"
    if error.errno == errno.ENOENT:
        return "this kernel has no such limit; leave it out"
    return ""


def _require_cgroup(record: Record) -> None:
    """Raises UpdateFailed unless the cgroups that the record names are there, and its own."""
    if not record.cgroup:
        why = "it has no cgroup: create it with limits, or with a cgroupsPath, to have one"
        refused = plan_cgroup(None, name=cgroup.name_of(record.id, record.instance), wanted=True)
        for each in refused.refused.values():
            why = f"{why} (not here, where {each}: have a cgroup delegated to it)"
        raise UpdateFailed(container_id=record.id, json_path=AT, why=why)
    for place in record.cgroup:
        if _cgroups.inode(place.path) != place.inode:
            raise UpdateFailed(
                container_id=record.id,
                json_path=AT,
                path=place.path,
                why="its cgroup was removed by somebody else",
            )


def _read_spec(path: str) -> Spec:
    try:
        return Spec.decode(_durable.read(path), path=path)
    except OSError as error:
        raise StorageFailed(path=path, errno=error.errno or 0) from error
    except SpecInvalid as error:
        raise StateCorrupted(path=path, why=f"{error.json_path}: {error.why}") from error


def _plan(record: Record, spec: Spec, wanted: LimitsChange) -> PlannedUpdate:
    assert record.init is not None  # noqa: S101 - a status with a process
    try:
        planned = plan_update(
            wanted,
            spec.config.linux,
            kept=[each.path for each in record.cgroup],
            made=record.cgroups,
            init=record.init.pid,
            name=cgroup.name_of(record.id, record.instance),
        )
    except OSError as error:
        _require_alive(record)
        raise StorageFailed(path=str(error.filename or ""), errno=error.errno or 0) from error
    _require_alive(record)  # else where it was says nothing any more
    return planned


def _require_alive(record: Record) -> None:
    """Raise InvalidTransition if it has ended, for which nobody needs a lock, or has begun to.

    Then it is said to be in the topmost cgroup of version 1 (proc_cgroup_show in the kernel), where a
    pid namespace's init may be for long: it lives until all in there are dead.
    """
    init = record.init
    if init is None:
        return
    stat = _procid.stat(init.pid)
    ending = stat is not None and stat.state != "Z" and stat.flags & _procid.PF_EXITING
    if ending or not _procid.alive(init):
        statuses.require(record.id, "update", Status.STOPPED)


async def _begin(held: Change, planned: PlannedUpdate) -> None:
    """What will be made is on record first, so that whoever finds it there takes it away."""
    new = await run_blocking(cgroup.absent, planned.places)
    if new:
        held.record.cgroups = (*held.record.cgroups, *new)
        await held.save()


async def _forget(held: Change, planned: PlannedUpdate) -> None:
    """What was made for nothing isn't there any more. Best effort: that it is recorded harms nobody."""
    record = held.record
    gone = set(await run_blocking(cgroup.absent, planned.places))
    if not gone.isdisjoint(record.cgroups):
        record.cgroups = tuple(each for each in record.cgroups if each not in gone)
        with contextlib.suppress(StorageFailed):
            await held.save()


async def _record(held: Change, changed: Changed, spec: Spec, config: bytes) -> None:
    """Write down what is so. Raises StorageFailed; all on disk says then what it said before."""
    record, context = held.record, held.context
    await context.run(_replace_config, context, record.id, config)
    if not changed.places:
        return
    before = record.cgroup
    new = [CgroupPlace(each, _cgroups.inode(each)) for each in changed.places]
    record.cgroup = (*before, *new)
    try:
        await held.save()
    except StorageFailed:
        record.cgroup = before
        await context.run(_replace_config, context, record.id, spec.encoded())
        raise


def _replace_config(context: Context, container_id: str, config: bytes) -> None:
    path = context.directory(container_id)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _durable.replace(fd, _paths.CONFIG, config, mode=0o600, durable=context.durable)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageFailed(path=f"{path}/{_paths.CONFIG}", errno=error.errno or 0) from error
