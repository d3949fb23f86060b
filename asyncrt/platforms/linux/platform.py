"""From a spec to the plan of a container in namespaces of its own, or to what can't be honoured.

All of it is decided here, on the engine's side, as the launch code runs with the same privileges
and sees the same machine. A field is honoured wholly or refused by its JSON path.
"""

from __future__ import annotations

import os

import msgspec

from asyncrt.errors import SpecInvalid, SpecUnsupported
from asyncrt.oci import membership, merge_env
from asyncrt.oci._why import child
from asyncrt.oci.config import DeviceRule, Resources
from asyncrt.platforms import _process
from asyncrt.platforms._requests import requests
from asyncrt.platforms.cgroups import Planned, plan_cgroup
from asyncrt.platforms.linux import namespaces, rootfs
from asyncrt.platforms.linux.privileges import plan_privileges
from asyncrt.platforms.overlay import refused_overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncrt.launch.plan import LinuxPlan, OverlayPlan, ProcessPlan, RootPlan
    from asyncrt.oci import Config, Process, Spec
    from asyncrt.oci.config import Linux
    from asyncrt.platforms.linux.namespaces import Namespaces
    from asyncrt.platforms.protocol import Beside

name = _NAME = "linux"

_CONFIG = ("vm", "windows", "solaris", "zos", "freebsd")
_LINUX = ("intel_rdt", "memory_policy")
_DEVICE_RULES = "linux.resources.devices"
# What only a mount namespace made for the container can have.
_IN_MOUNTS = ("mounts",)
_IN_MOUNTS_OF_LINUX = ("devices", "rootfs_propagation", "masked_paths", "readonly_paths")


def unsupported(
    spec: Spec, beside: Beside | None = None, overlay: OverlayPlan | None = None
) -> list[str]:
    """The JSON path of every field that can't be honoured, in the order of the config."""
    cgroup = _plan_cgroup(spec.config, "asyncrt", beside=beside)
    refused = _refused(spec, beside) | cgroup.refused | _refused_beside(spec, beside, cgroup)
    return list(refused | _refused_overlay(spec, overlay))


def _plan_cgroup(
    config: Config, name: str, *, room: bool = False, beside: Beside | None = None
) -> Planned:
    """A cgroup for every sandbox, where this user may have one: by it all of it is found.

    Without rules of the config's own, it may use what every container needs and the devices that
    it is to have (config-linux.md, "Devices": these must be available).
    """
    linux = config.linux
    leaves = () if beside is None else beside.cgroups
    wanted = None if linux is None or os.geteuid() != 0 else _with_device_rules(linux)
    if wanted is not None:
        planned = plan_cgroup(wanted, name=name, wanted=False, room=room, leaves=leaves)
        if not any(field.startswith(_DEVICE_RULES) for field in planned.refused):
            return planned
    guarded = linux is None or not linux.devices
    return plan_cgroup(
        linux, name=name, wanted=False, guard_devices=guarded, room=room, leaves=leaves
    )


def _refused_beside(spec: Spec, beside: Beside | None, cgroup: Planned) -> dict[str, str]:
    """Why its processes couldn't be told from those of the others in its sandbox, if so.

    That takes a cgroup of its own, or a pid namespace of its own, for it and for the root container.
    """
    if beside is None:
        return {}
    at = membership(spec.config).json_path
    own_pid = namespaces.namespaces_of(spec.config, beside).is_new("pid")
    if not own_pid and cgroup.plan is None:
        return {at: "it needs a pid namespace or a cgroup of its own, and has neither"}
    root_has_pid = namespaces.namespaces_of(beside.config).is_new("pid")
    if not beside.has_cgroup and not (root_has_pid and own_pid):
        return {at: "its sandbox's root container has no cgroup, and no pid namespace for itself"}
    return {}


def _with_device_rules(linux: Linux) -> Linux | None:
    """The same with a rule for each of its devices; None if it has none, or rules of its own."""
    resources = linux.resources or Resources()
    if resources.devices or not linux.devices:
        return None
    rules = tuple(
        DeviceRule(allow=True, type=each.type, major=each.major, minor=each.minor, access="rwm")
        for each in linux.devices
        if each.type != "p"
    )
    resources = msgspec.structs.replace(resources, devices=rules)
    return msgspec.structs.replace(linux, resources=resources)


def _refused(spec: Spec, beside: Beside | None) -> dict[str, str]:
    """Every field that can't be honoured, with the reason where there is more to say than that."""
    config = spec.config
    found = namespaces.namespaces_of(config, beside)
    refused: dict[str, str] = namespaces.refused_sharing(config, found, beside)
    if config.process is not None:
        refused |= _refused_process(config.process, config, found, "process")
    refused |= _refused_root(config, found)
    if not found.has("uts"):
        refused |= _for_want_of("uts", requests(config, ("hostname", "domainname"), ""))
    fields = list(requests(config, _CONFIG, ""))
    if config.linux is not None:
        fields += _refused_linux(config.linux, found)
    refused |= dict.fromkeys(fields, "")
    if os.geteuid() != 0 and not found.has("user"):
        refused["linux.namespaces"] = "an ordinary user needs a user namespace"
    return refused


def _refused_overlay(
    spec: Spec, overlay: OverlayPlan | None, *, pivot_root: bool = True
) -> dict[str, str]:
    if overlay is None:
        return {}
    if not namespaces.namespaces_of(spec.config).is_new("mount"):
        return {"overlay": "it needs a mount namespace of the container's own"}
    why = "" if pivot_root else "its gofer needs pivot_root(2)"
    why = why or refused_overlay(overlay)
    return {"overlay": why} if why else {}


def plan(
    spec: Spec,
    *,
    name: str = "asyncrt",
    hide: str = "",
    pivot_root: bool = True,
    room: bool = False,
    beside: Beside | None = None,
    overlay: OverlayPlan | None = None,
) -> ProcessPlan:
    """How to make the container's init; `name` is its cgroup's, if it has no path for one.

    `hide` is a directory of the host's that isn't to be seen inside. `pivot_root`: whether the old
    root can be taken away by that call, see launch/old_root.py.

    Raises SpecUnsupported naming every field that can't be honoured, or SpecInvalid.
    """
    config = spec.config
    cgroup = _plan_cgroup(config, name, room=room, beside=beside)
    refused = _refused(spec, beside) | cgroup.refused | _refused_beside(spec, beside, cgroup)
    refused |= _refused_overlay(spec, overlay, pivot_root=pivot_root)
    if not pivot_root:
        refused |= _refused_without_pivot(config.process)
        if overlay is not None:
            refused["overlay"] = "its gofer needs pivot_root(2)"
    _raise_refused(refused)
    if config.process is None:
        raise SpecInvalid(json_path="process", why="is required and missing", path=spec.path)
    found = namespaces.namespaces_of(config, beside)
    made = _make(config.process, config, found, joins=False, file=spec.path)
    made["linux"] = _plan_linux(spec, found, hide, pivot_root=pivot_root)
    if overlay is not None:
        _lay_over(made["linux"], overlay)
    made["cgroup"] = cgroup.plan
    return made


def _lay_over(linux: LinuxPlan, overlay: OverlayPlan) -> None:
    """Have the container write to the layer: a root that is to be read-only is so below it."""
    linux["overlay"] = overlay
    if linux["root"] is not None:
        linux["root"]["readonly"] = False


def plan_exec(spec: Spec, process: Process, *, pivot_root: bool = True) -> ProcessPlan:
    """How to run one more process in the container that was made of `spec`, so. Raises as `plan`."""
    config = spec.config
    found = namespaces.namespaces_of(config)
    refused = _refused_process(process, config, found, "process")
    if not pivot_root:
        refused |= _refused_without_pivot(process)
    _raise_refused(refused)
    made = _make(process, config, found, joins=True)
    made["joins"] = {"kinds": found.all, "ids": namespaces.owner(config.linux, found)}
    return made


def _raise_refused(refused: dict[str, str]) -> None:
    if refused:
        reasons = {field: why for field, why in refused.items() if why}
        raise SpecUnsupported(platform=_NAME, fields=refused, reasons=reasons)


def _make(
    process: Process, config: Config, found: Namespaces, *, joins: bool, file: str | None = None
) -> ProcessPlan:
    if not process.args:
        why = "is required and missing"
        raise SpecInvalid(json_path="process.args", why=why, path=file)
    who = namespaces.who(process.user, config.linux, found, "process")
    env = merge_env(process.env or ())
    made = _process.plan_process(process, env, uid=who.uid, gid=who.gid, groups=who.groups)
    if not any(entry.startswith("HOME=") for entry in env):
        made["look_up_home"] = True
    made["privileges"], _ = plan_privileges(process, config.linux, joins=joins)
    return made


def _plan_linux(spec: Spec, found: Namespaces, hide: str, *, pivot_root: bool) -> LinuxPlan:
    config, linux = spec.config, spec.config.linux
    unprivileged = found.has("user")
    return {
        "new": found.new,
        "join": found.join,
        "maps": None if linux is None else namespaces.id_maps(linux, found, spec.path),
        "ids": namespaces.owner(linux, found),
        "time_offsets": None if linux is None else namespaces.time_offsets(linux),
        "open_early": unprivileged and os.geteuid() == 0,
        "hostname": None if found.shares("uts") else config.hostname or None,
        "domainname": None if found.shares("uts") else config.domainname or None,
        "loopback": found.is_new("network"),
        "sysctl": [
            (child("linux.sysctl", key), namespaces.parameter_path(key), value)
            for key, value in ((linux.sysctl if linux is not None else None) or {}).items()
        ],
        "root": _plan_root(spec, found, hide, pivot_root=pivot_root)
        if found.is_new("mount")
        else None,
        "keep_namespaces": os.geteuid() != 0,
    }


def _plan_root(spec: Spec, found: Namespaces, hide: str, *, pivot_root: bool) -> RootPlan:
    return rootfs.plan_root(
        spec,
        bind_devices=found.has("user"),
        cgroup_namespace=found.has("cgroup"),
        hide=hide,
        pivot=pivot_root,
    )


def _refused_without_pivot(process: Process | None) -> dict[str, str]:
    """Who may unmount the new root would stand in the old one, which is still below it."""
    sets = process.capabilities if process is not None else None
    why = "it could unmount the root, and the host's is still there without pivot_root"
    return {
        f"process.capabilities.{name}": why
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        if sets is not None and "CAP_SYS_ADMIN" in (getattr(sets, name) or ())
    }


def _refused_process(
    process: Process, config: Config, found: Namespaces, json_path: str
) -> dict[str, str]:
    fields = [
        *_process.refused_size(process, json_path),
        *namespaces.who(process.user, config.linux, found, json_path).refused,
        *_process.refused_limits(process, json_path),
    ]
    _, refused = plan_privileges(process, config.linux, json_path)
    return dict.fromkeys(fields, "") | refused


def _refused_root(config: Config, found: Namespaces) -> dict[str, str]:
    if found.is_new("mount"):
        return rootfs.refused_mounts(config)
    refused = []
    if config.root is not None:
        if not config.root.path or config.root.path.strip("/"):
            refused.append("root.path")
        if config.root.readonly:
            refused.append("root.readonly")
    return _for_want_of("mount", [*refused, *requests(config, _IN_MOUNTS, "")])


def _for_want_of(kind: str, fields: Iterable[str]) -> dict[str, str]:
    """Fields that only a namespace of that kind honours: the first one says how to get it."""
    refused = dict.fromkeys(fields, "")
    for first in refused:
        why = f'the config names no {kind} namespace: add {{"type": "{kind}"}} to linux.namespaces'
        refused[first] = why
        break
    return refused


def _refused_linux(linux: Linux, found: Namespaces) -> list[str]:
    refused = namespaces.refused_ids(linux, found)
    if linux.time_offsets is not None and not found.is_new("time"):
        refused += requests(linux, ("time_offsets",), "linux.")
    if found.is_new("mount"):
        refused += [*rootfs.refused_devices(linux), *rootfs.refused_propagation(linux)]
    else:
        refused += requests(linux, _IN_MOUNTS_OF_LINUX, "linux.")
    for key in linux.sysctl or ():
        kind = namespaces.owner_of_parameter(namespaces.parameter_path(key))
        if kind is None or not found.has(kind):
            refused.append(child("linux.sysctl", key))
    if linux.net_devices:
        refused.append("linux.netDevices")  # an interface that is named is to be moved
    return [*refused, *requests(linux, _LINUX, "linux.")]
