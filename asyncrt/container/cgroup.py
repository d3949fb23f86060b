"""A container's cgroup as its record tells of it: proven, acted on, taken away.

Blocking: callers run these in a worker thread. A directory of the recorded name may be another's by
now, after a restart of the machine or because somebody removed ours, so nothing is done to one before
its inode says that it is the one.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from asyncrt import _cgroups, _procid
from asyncrt.container import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asyncrt.launch.plan import CgroupPlace, CgroupPlan
    from asyncrt.state import Record

FREEZING_SECONDS = 5.0
_SHOWN = 5  # pids in an error


def name_of(container_id: str, instance: str) -> str:
    """What its cgroup is called without a path of its own.

    Ids are unique below one root only, and there may be many on a machine.
    """
    return f"asyncrt-{container_id}.{instance[:8]}"


def missing(plan: CgroupPlan) -> tuple[str, ...]:
    """Which directories a launch by that plan will have to make, parents first."""
    beside = (each for each in plan.get("supervisor") or () if not os.path.lexists(each))
    return (*absent(plan["places"]), *beside)


def absent(places: Iterable[CgroupPlace]) -> tuple[str, ...]:
    """Which directories aren't there, parents first."""
    found: list[str] = []
    for place in places:
        path, these = place["path"], []
        while path != place["top"] and not os.path.lexists(path):
            these.append(path)
            path = os.path.dirname(path)
        found += [each for each in reversed(these) if each not in found]
    return tuple(found)


def holder(record: Record) -> str | None:
    """The cgroup in which all of the container is, if it has one and that is still there."""
    if not record.cgroup or not _same_boot(record):
        return None
    place = record.cgroup[0]
    return place.path if _cgroups.inode(place.path) == place.inode else None


def places(record: Record) -> list[str]:
    """All its cgroups' directories, for one more process to join."""
    return [each.path for each in record.cgroup]


def gather_all(record: Record) -> None:
    """Have all that is in its cgroup in those of the other hierarchies too, as far as may be."""
    found = holder(record)
    for each in record.cgroup[1:] if found is not None else ():
        with contextlib.suppress(OSError):
            limits.gather(record.cgroup[0].path, each.path)


def _same_boot(record: Record) -> bool:
    return record.creator is None or record.creator.boot == _procid.boot_id()


def members(record: Record) -> list[int]:
    """The pids of all that is in its cgroup."""
    found = holder(record)
    return [] if found is None else _cgroups.pids(found)


def freeze(record: Record) -> bool:
    """Freeze it; False when it has no cgroup that can be. Raises OSError."""
    found = holder(record)
    if found is None or not _cgroups.can_freeze(found):
        return False
    _cgroups.freeze(found, FREEZING_SECONDS)
    return True


def thaw(record: Record) -> bool:
    """Let it go on; False when it has no cgroup that can be frozen. Raises OSError."""
    found = holder(record)
    if found is None or not _cgroups.can_freeze(found):
        return False
    _cgroups.thaw(found)
    return True


def kill(record: Record, seconds: float) -> bool:
    """SIGKILL all that is in its cgroup and wait, bounded, until nobody is; whether nobody is.

    Whoever is in it after the container's end isn't of it any more.
    """
    if _has_left(record):
        return True
    found = holder(record)
    if found is None or not _cgroups.kill(found, seconds):
        return True
    return _cgroups.until_empty(found, seconds)


def _has_left(record: Record) -> bool:
    """Whether nobody of the container can be in its cgroup any more.

    A supervisor that has seen the end has seen to the rest. Without one, daemons may live on: they are
    killed, unless the cgroup was there before, where others may be by now.
    """
    if record.exit is not None and record.exit.finished_at is not None:
        return True
    dead = record.init is not None and not _procid.alive(record.init)
    return dead and record.cgroup[:1] != () and record.cgroup[0].path not in record.cgroups


def oom_killed(record: Record) -> bool | None:
    """Whether the kernel killed any of it for want of memory; None: nobody counted."""
    found = memory(record)
    kills = None if found is None else _cgroups.oom_kills(found)
    return None if kills is None else kills > 0


def memory(record: Record) -> str | None:
    """The cgroup that counts who was killed for want of memory, if there is one."""
    return next((each for each in there(record) if _cgroups.oom_kills(each) is not None), None)


def there(record: Record) -> list[str]:
    """Those of its cgroups that are there."""
    if not _same_boot(record):
        return []
    return [each.path for each in record.cgroup if _cgroups.inode(each.path) == each.inode]


def too_small(plan: CgroupPlan) -> str | None:
    """The cgroup that had too little memory for the launch itself, if any of that plan's had."""
    paths = (each["path"] for each in plan["places"])
    return next((each for each in paths if _cgroups.oom_kills(each)), None)


def end_at_once(records: Sequence[Record]) -> list[bool]:
    """Remove what was made for each of them; which are so ended that nothing is left to `end`.

    As it mostly can be once a supervisor has seen the end, and none is waited for. What several made
    together is looked at once.
    """
    found: list[tuple[bool, list[str]]] = []
    for record in records:
        if not _same_boot(record):
            found.append((True, []))
            continue
        own, parents = _made(record)
        gone = [_removed_at_once(*each) for each in own] if _has_left(record) else [False]
        found.append((all(gone), parents))
    above = dict.fromkeys(path for _, parents in found for path in parents)
    stays = {path for path in above if not _cgroups.remove_parent(path)}
    return [gone and stays.isdisjoint(parents) for gone, parents in found]


def end(record: Record, seconds: float) -> list[str]:
    """Kill what is left in its cgroups, remove those that were made for it; what stays, in words.

    Idempotent. What others use by now stays as well, and that is no failure.
    """
    if not _same_boot(record):
        return []  # they went with the machine's memory
    deadline = time.monotonic() + seconds
    left: list[str] = []
    if not kill(record, seconds):
        left.append(_describe(record.cgroup[0].path))
    own, parents = _made(record)
    for path, inode in own:
        if _removed_at_once(path, inode):
            continue
        if _has_left(record) and not _is_below_own(record, path) and _cgroups.is_populated(path):
            continue  # another container's, made at the same place since
        if not _removed(path, max(0.0, deadline - time.monotonic())):
            left.append(_describe(path))
    left += [_describe(path) for path in parents if not _cgroups.remove_parent(path)]
    return list(dict.fromkeys(left))


def _made(record: Record) -> tuple[list[tuple[str, int]], list[str]]:
    """Its own cgroups, with their inodes where these are known, and those above, which others may use.

    In the order in which they can be removed.
    """
    known = {each.path: each.inode for each in record.cgroup}
    own, parents = [], []
    for path in reversed(record.cgroups):
        if path not in known and any(_is_below(each, path) for each in record.cgroups):
            parents.append(path)
        else:
            own.append((path, known.get(path, 0)))
    return own, parents


def _is_below_own(record: Record, path: str) -> bool:
    """Whether no other can be there, in a directory that has this instance's name.

    Its supervisor may be, for a moment: of a creation that was interrupted no record says who that is.
    """
    return f"/{name_of(record.id, record.instance)}/" in f"{path}/"


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(directory + "/")


def _removed_at_once(path: str, inode: int) -> bool:
    """Whether it is gone, as it mostly can be: the kernel refuses while anybody is in or below it.

    Looking before that took ten times as long.
    """
    if inode and _cgroups.inode(path) != inode:
        return True
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _removed(path: str, seconds: float) -> bool:
    if not os.path.isdir(path):
        return True
    try:
        if _cgroups.until_empty(path, seconds):
            _cgroups.remove(path)
    except OSError:
        pass  # somebody came in, or it isn't ours to remove: it is there, and that is told
    return not os.path.isdir(path)


def _describe(path: str) -> str:
    pids: Iterable[int] = _cgroups.pids(path)
    shown = [str(each) for each in pids]
    more = ", …" if len(shown) > _SHOWN else ""
    return f"cgroup {path} (pids {', '.join(shown[:_SHOWN])}{more})" if shown else f"cgroup {path}"
