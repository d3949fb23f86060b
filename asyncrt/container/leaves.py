"""Whose cgroup is whose in a sandbox that has one for each of its containers and for its supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncrt.errors import InvalidId, SpecInvalid
from asyncrt.platforms.cgroups import SUPERVISOR

if TYPE_CHECKING:
    from asyncrt.launch.plan import CgroupPlan
    from asyncrt.platforms import Beside


def refuse_clash(
    container_id: str, plan: CgroupPlan | None, beside: Beside | None, *, room: bool
) -> None:
    """Raise InvalidId or SpecInvalid for a container that would have another's cgroup in its sandbox.

    No process may be in the sandbox's own, and in another's it would be frozen and killed with that
    one. `room`: it is the root of a sandbox to be.
    """
    if container_id == SUPERVISOR and (room or beside is not None):
        why = "a sandbox has its supervisor's cgroup by that name"
        raise InvalidId(container_id=container_id, why=why)
    for path in _paths(plan):
        for each in () if beside is None else beside.cgroups:
            if path == each or (_is_below(path, each) and path != f"{each}/{container_id}"):
                why = (
                    f"{path} is the sandbox's own or another's in it; leave it out for one beside "
                    "those, or give a path elsewhere"
                )
                raise SpecInvalid(json_path="linux.cgroupsPath", why=why)


def _paths(plan: CgroupPlan | None) -> list[str]:
    return [] if plan is None else [each["path"] for each in plan["places"]]


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(f"{directory}/")
