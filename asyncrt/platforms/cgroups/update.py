"""From a change of a living container's limits to what is written where, or to why not, by field."""

from __future__ import annotations

import os
from typing import NamedTuple

from asyncrt.oci.check_resources import AT
from asyncrt.platforms.cgroups import place
from asyncrt.platforms.cgroups.limits import put_limits
from asyncrt.platforms.cgroups.machine import Machine, machine_of
from asyncrt.platforms.cgroups.settings import MEMORY, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from asyncrt.launch.plan import CgroupPlace
    from asyncrt.oci.config import Linux
    from asyncrt.oci.update import Change
    from asyncrt.platforms.cgroups.machine import Hierarchy


class PlannedUpdate(NamedTuple):
    """What is written, in order, and the JSON path of each field in the way, with the reason.

    `places` are the container's cgroups that it concerns. Some aren't on its record yet: for each of
    these `origins` has the cgroup that its processes are in, in that hierarchy; "" when a killed
    update had made it.
    """

    places: list[CgroupPlace]
    origins: dict[str, str]
    writes: list[tuple[str, list[tuple[str, str]]]]
    refused: dict[str, str]


class _Living(Settings):
    """Settings of a container that is in some hierarchies already.

    Whether this user may write to a cgroup that is there, the kernel says.
    """

    def __init__(self, machine: Machine, kept: dict[str, str], path: str | None, name: str) -> None:
        """`kept`: its cgroups by the top of their hierarchy."""
        super().__init__(
            machine, lambda each: kept.get(each.top) or place.directory(each, path, name)
        )
        self._kept = kept

    def unusable(self, hierarchy: Hierarchy) -> str:
        """Why nothing can be made in that hierarchy; "" as well where nothing has to be."""
        return "" if hierarchy.top in self._kept else super().unusable(hierarchy)


def plan_update(
    change: Change,
    linux: Linux | None,
    *,
    kept: Sequence[str],
    made: Collection[str],
    init: int,
    name: str,
    machine: Machine | None = None,
) -> PlannedUpdate:
    """How a change becomes true of the container whose cgroups are `kept`; `made` were made for it.

    Version 1 may have controllers in whose hierarchies it has no cgroup, as nothing was limited there
    when it was created. Then one is planned, called by `linux`'s path or `name` as it would have been,
    below the cgroup that `init` is in. `machine`: for another than this, as init sees it.

    Blocks for reads of /proc and of the cgroup file systems. Raises OSError.
    """
    found = machine or machine_of(init)
    hierarchies = [*found.v1.values(), *([found.v2] if found.v2 is not None else ())]
    tops = {each.top: each.own for each in hierarchies if each.own in made}
    tops |= {each.top: path for each in hierarchies for path in kept if each.holds(path)}

    def seen(hierarchy: Hierarchy) -> Hierarchy:
        # What is there to be had is asked of the cgroup above its own, which may be limited now.
        path = tops.get(hierarchy.top)
        return hierarchy if path is None else hierarchy._replace(own=os.path.dirname(path))

    settings = _Living(
        Machine(
            {controller: seen(each) for controller, each in found.v1.items()},
            None if found.v2 is None else seen(found.v2),
        ),
        tops,
        (linux.cgroups_path if linux is not None else None) or None,
        name,
    )
    put_limits(change.resources, settings)
    memory = change.resources.memory
    if memory is not None and memory.disable_oom_killer is False and MEMORY.v1 in found.v1:
        # Version 2 has none that could have been disabled.
        at = f"{AT}.memory.disableOOMKiller"
        settings.put(at, MEMORY, [("memory.oom_control", "0")], None)
    own = {each.top: "" if each.top in tops else each.own for each in hierarchies}
    places = list(settings.places.values())
    return PlannedUpdate(
        places,
        {each["path"]: own[each["top"]] for each in places if each["path"] not in kept},
        [each for each in settings.writes if _is_said(*each, change, found)],
        {at: why for at, why in settings.refused.items() if at not in change.beside},
    )


def _is_said(at: str, choices: list[tuple[str, str]], change: Change, machine: Machine) -> bool:
    """Whether it was named. What stays is said again only where a file holds both (version 2)."""
    return at not in change.beside or (machine.v2 is not None and machine.v2.holds(choices[0][0]))
