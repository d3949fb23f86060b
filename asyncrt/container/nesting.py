"""A cgroup inside another container's, which would be frozen and killed with that one, is nobody's."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from asyncrt import _cgroups
from asyncrt.errors import AsyncrtError, SpecInvalid
from asyncrt.platforms.cgroups import SUPERVISOR
from asyncrt.platforms.cgroups.machine import discover
from asyncrt.state import list_ids, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncrt.launch.plan import CgroupPlace, CgroupPlan
    from asyncrt.state import Record


_EMPTY = 2  # links to a cgroup's directory with none below


def refuse_nested(root: str, record: Record, plan: CgroupPlan) -> None:
    """Raise SpecInvalid if the cgroup that a spec names is inside another container's, or sandbox's.

    For who holds the container's lock and has its record saved: of two that are created at a time, one
    inside the other, the second to be here finds the first. Blocks, for a look at all records only where
    the cgroups above look like a container's.
    """
    path = plan["places"][0]["path"]  # where all of it is frozen and killed
    above = [each for each in _above(plan["places"][0]) if _may_be_a_containers(each)]
    if not above:
        return
    for container_id in list_ids(root):
        taken: set[str] = set()
        with contextlib.suppress(AsyncrtError):  # a broken one is told by whoever looks for it
            if container_id != record.id:
                taken = _taken(read_record(root, container_id), record.sandbox)
        for each in taken.intersection(above):
            raise _refused(path, container_id, each)


def _refused(path: str, container_id: str, taken: str) -> SpecInvalid:
    why = (
        f"{path} is inside {taken}, where container {container_id!r} is, and would be frozen and killed "
        f"with it; give a path elsewhere, or delete {container_id!r} first"
    )
    return SpecInvalid(json_path="linux.cgroupsPath", why=why)


def _above(place: CgroupPlace) -> Iterator[str]:
    """The cgroups above one that are there, but for those that we are in ourselves."""
    machine = discover()
    held = (each for each in (machine.v2, *machine.v1.values()) if each is not None)
    own = next((each.own for each in held if each.top == place["top"]), place["top"])
    directory = os.path.dirname(place["path"])
    while len(directory) > len(place["top"]) and not f"{own}/".startswith(f"{directory}/"):
        if os.path.isdir(directory):
            yield directory
        directory = os.path.dirname(directory)


def _may_be_a_containers(directory: str) -> bool:
    """Whether processes are in it, or it is a sandbox's, or nothing is below it.

    What is above the cgroups of many is neither, and they aren't all looked at for each of them.
    """
    if _cgroups.read(f"{directory}/cgroup.procs") or os.path.isdir(f"{directory}/{SUPERVISOR}"):
        return True
    try:
        return os.stat(directory).st_nlink <= _EMPTY
    except OSError:
        return False  # it went


def _taken(record: Record, sandbox: str) -> set[str]:
    """The cgroups that nobody may be in or below but that container; its sandbox's, for one of another."""
    found = {each.path for each in record.cgroup}
    made = record.cgroups
    # What a creation is about to make isn't known for its own yet, but by having nothing below.
    found |= {each for each in made if not any(path.startswith(f"{each}/") for path in made)}
    if record.sandbox != sandbox:
        found |= {os.path.dirname(each) for each in made if os.path.basename(each) == SUPERVISOR}
    return found
