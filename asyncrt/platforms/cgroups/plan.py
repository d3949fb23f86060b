"""From a spec's `cgroupsPath` and `resources` to a plan for the launch, or to why not, by field."""

from __future__ import annotations

import os
from typing import NamedTuple

from asyncrt import _procid
from asyncrt.launch import bpf
from asyncrt.oci.check_resources import AT
from asyncrt.platforms.cgroups import place
from asyncrt.platforms.cgroups.devices import (
    Inexpressible,
    Rules,
    device_list,
    device_program,
    read_rules,
)
from asyncrt.platforms.cgroups.limits import put_limits
from asyncrt.platforms.cgroups.machine import discover
from asyncrt.platforms.cgroups.settings import DEVICES, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.launch.plan import CgroupPlan
    from asyncrt.oci.config import DeviceRule, Linux
    from asyncrt.platforms.cgroups.machine import Machine

_PATH = "linux.cgroupsPath"
_DEVICES = f"{AT}.devices"


class Planned(NamedTuple):
    """A plan, None if there is nothing to do; the JSON path of each field in the way, and why."""

    plan: CgroupPlan | None
    refused: dict[str, str]


def plan_cgroup(
    linux: Linux | None,
    *,
    name: str,
    wanted: bool,
    guard_devices: bool = False,
    room: bool = False,
    leaves: Sequence[str] = (),
    machine: Machine | None = None,
) -> Planned:
    """How a container's cgroup is made, limited and joined.

    `name` is what it is called without a path of its own. Unless it is `wanted` the plan may be None
    where this user can have none and nothing needs it. `guard_devices`: also without rules of its
    own the container may use only what every one needs, wherever that can be had. `room`: it is one
    of a sandbox's that are to come, in a directory with one for the supervisor. `leaves`: the
    directories of such a sandbox. `machine`: for another than this.

    Blocks for reads of /proc and of the cgroup file systems. Raises OSError.
    """
    path = (linux.cgroups_path if linux is not None else None) or None
    if path is not None and (why := place.refusal(path)):
        return Planned(None, {_PATH: why})
    settings = Settings(
        machine or discover(), lambda hierarchy: place.directory(hierarchy, path, name, leaves)
    )
    held = _use_holder(settings)
    resources = linux.resources if linux is not None else None
    devices = None
    if resources is not None:
        put_limits(resources, settings)
    rules = (resources.devices if resources is not None else None) or ()
    if rules or guard_devices:
        devices = _devices(rules, settings, must=bool(rules))
    if not settings.places:
        if path is not None or (wanted and not settings.refused):
            field = _PATH if path is not None else AT
            settings.refused.setdefault(field, held or "there is no cgroup hierarchy here")
        return Planned(None, settings.refused)
    _watch_memory(settings)
    places = list(settings.places.values())
    planned: CgroupPlan = {"places": places, "writes": settings.writes, "devices": devices}
    if room and path is None:
        planned["supervisor"] = [place.of_supervisor(each["path"]) for each in places]
    return Planned(planned, settings.refused)


def _may_filter() -> bool:
    """Whether this user may give the kernel a program for devices: tried, not inferred."""
    try:
        os.close(bpf.load_device_filter(device_program(Rules(True, ()))))
    except OSError:
        return False
    return True


def _use_holder(settings: Settings) -> str:
    """Be where all of it can be frozen and killed, if that may be; why not, in words."""
    machine = settings.machine
    why = ""
    for each in (machine.v2, machine.v1.get("freezer")):
        if each is not None:
            refusal = settings.unusable(each)
            if not refusal:
                settings.use(each)
                return ""
            why = why or refusal
    return why


def _watch_memory(settings: Settings) -> None:
    """Be where the kernel counts who was killed for want of memory, if it costs but a directory."""
    memory = settings.machine.v1.get("memory")
    if memory is not None and not settings.unusable(memory):
        settings.use(memory)


def _devices(
    rules: Sequence[DeviceRule], settings: Settings, *, must: bool
) -> tuple[str, str, str] | None:
    """Put version 1's list into the settings, or return version 2's program."""
    found = read_rules(rules)
    if DEVICES.v1 in settings.machine.v1:
        try:
            writes = device_list(found)
        except Inexpressible as error:
            settings.refused[f"{_DEVICES}[{error.index}]"] = (
                "cgroup v1 can't take a part out of what an earlier rule gave"
            )
            return None
        if not _procid.capabilities() & 1 << _procid.CAP_SYS_ADMIN:
            # The kernel asks for it in the first user namespace, whoever owns the file.
            if must:
                settings.refused[_DEVICES] = "only root of the whole machine may limit devices"
            return None
        if not must and settings.unusable(settings.machine.v1["devices"]):
            return None
        for write in writes:
            settings.put(_DEVICES, DEVICES, [write], None)
        return None
    v2 = settings.machine.v2
    if v2 is None:
        if must:
            settings.refused[_DEVICES] = "no cgroup hierarchy here has the devices controller"
        return None
    why = settings.unusable(v2) or (
        "" if _may_filter() else "this user may load no filter (bpf(2))"
    )
    if why:
        if must:
            settings.refused[_DEVICES] = why
        return None
    return _DEVICES, settings.use(v2), device_program(found).hex()
