"""Whose cgroup is whose in a sandbox that has one for each of its containers and for its supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncrt.errors import InvalidId, SpecInvalid
from asyncrt.platforms.cgroups import SUPERVISOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.container.beside import Sandbox
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


def recorded(made: Sequence[str], sandbox: Sandbox | None) -> tuple[str, ...]:
    """Those made for a container, after its sandbox's own above them: whoever is last removes these."""
    found = () if sandbox is None else sandbox.beside.cgroups
    above = (each for each in found if any(_is_below(path, each) for path in made))
    return (*above, *made)


def _paths(plan: CgroupPlan | None) -> list[str]:
    return [] if plan is None else [each["path"] for each in plan["places"]]


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(f"{directory}/")
