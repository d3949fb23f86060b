"""The cgroups that the calling process is in, in a few words: version, place, what they can limit."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

from asyncrt.platforms.cgroups import machine

Version = Literal["v2", "hybrid", "v1", "none"]

# Of version 1 each controller has a place of its own; these are those that people limit with.
_LIMITING = ("memory", "pids", "cpu")


class Here(NamedTuple):
    """`where` is the directory in which a container's cgroup would be made."""

    version: Version
    where: str
    writable: bool
    controllers: tuple[str, ...]


def look() -> Here:
    """Read what the kernel says of this process."""
    try:
        found = machine.discover()
    except OSError:
        return Here("none", "", writable=False, controllers=())
    if found.v1:
        places = [found.v1[name].own for name in _LIMITING if name in found.v1]
        places = places or [each.own for each in found.v1.values()]
        writable = all(map(_writable, places))
        version: Version = "v1" if found.v2 is None else "hybrid"
        return Here(version, places[0], writable, tuple(sorted(found.v1)))
    if found.v2 is None:
        return Here("none", "", writable=False, controllers=())
    where = found.v2.own
    controllers = tuple(sorted(machine.words(f"{where}/cgroup.controllers")))
    return Here("v2", where, _writable(where), controllers)


def _writable(directory: str) -> bool:
    return os.access(directory, os.W_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK)
