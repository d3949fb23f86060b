"""The cgroups that the calling process is in, in a few words: version, place, what they can limit."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

from asyncrt.platforms.cgroups import machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

Version = Literal["v2", "hybrid", "v1", "none"]

# Of version 1 each controller has a place of its own; these are those that people limit with.
_LIMITING = ("memory", "pids", "cpu")


class Here(NamedTuple):
    """`where` is the directory in which a container's cgroup would be made.

    `read_only` has the mount points of those hierarchies that can't be written to by anybody.
    """

    version: Version
    where: str
    writable: bool
    controllers: tuple[str, ...]
    read_only: tuple[str, ...] = ()


def look() -> Here:
    """Read what the kernel says of this process."""
    try:
        found = machine.discover()
    except OSError:
        return Here("none", "", writable=False, controllers=())
    if found.v1:
        used = [found.v1[name] for name in _LIMITING if name in found.v1]
        used = used or list(found.v1.values())
        bad = [each.own for each in used if not _writable(each.own)]
        version: Version = "v1" if found.v2 is None else "hybrid"
        where = bad[0] if bad else used[0].own
        controllers = tuple(sorted(found.v1))
        return Here(version, where, not bad, controllers, _read_only(used))
    if found.v2 is None:
        return Here("none", "", writable=False, controllers=())
    where = found.v2.own
    controllers = tuple(sorted(machine.words(f"{where}/cgroup.controllers")))
    return Here("v2", where, _writable(where), controllers, _read_only([found.v2]))


def _read_only(hierarchies: Iterable[machine.Hierarchy]) -> tuple[str, ...]:
    found = dict.fromkeys(
        each.top
        for each in hierarchies
        if os.path.isdir(each.top) and os.statvfs(each.top).f_flag & os.ST_RDONLY
    )
    return tuple(found)


def _writable(directory: str) -> bool:
    return os.access(directory, os.W_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK)
