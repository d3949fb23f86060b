"""The root file system of a config: what is mounted, hidden and made in it."""

from __future__ import annotations

import stat

from asyncrt.errors import SpecInvalid
from asyncrt.oci._why import child
from asyncrt.platforms.linux import mounts, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.launch.plan import DevicePlan, RootPlan
    from asyncrt.oci import Spec
    from asyncrt.oci.config import Config, Device, Linux

# config-linux.md, "Default Devices"; numbers: Documentation/admin-guide/devices.txt.
_DEFAULT_DEVICES = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}
_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_EVERYBODY = 0o666
_LARGEST_MAJOR = 2**12 - 1  # linux/kdev_t.h
_LARGEST_MINOR = 2**20 - 1


def refused_mounts(config: Config) -> dict[str, str]:
    """The JSON paths of mounts and options that can't be honoured, and why."""
    around = _surroundings(config, "/")
    return {
        path: why
        for index, mount in enumerate(config.mounts or ())
        for path, why in mounts.plan_mount(mount, f"mounts[{index}]", around).refused.items()
    }


def _surroundings(config: Config, bundle: str | None) -> mounts.Surroundings:
    linux = config.linux
    if linux is None:
        return mounts.Surroundings(bundle)
    found = namespaces.namespaces_of(config)
    ids = None
    if found.is_new("user"):
        ids = (
            namespaces.id_lines(linux.uid_mappings or ()),
            namespaces.id_lines(linux.gid_mappings or ()),
        )
    kind = namespaces.KINDS["user"]
    joined = next((path for _, path, each in found.join if each == kind), "")
    return mounts.Surroundings(bundle, ids, joined, linux.mount_label or "")


def refused_devices(linux: Linux) -> list[str]:
    """The JSON paths of devices that no node can be of."""
    found = []
    for index, each in enumerate(linux.devices or ()):
        at = f"linux.devices[{index}]"
        if each.type not in _TYPES:
            found.append(f"{at}.type")
        elif each.type != "p":
            found += [
                f"{at}.{name}"
                for name, value, most in (
                    ("major", each.major, _LARGEST_MAJOR),
                    ("minor", each.minor, _LARGEST_MINOR),
                )
                if value is None or not 0 <= value <= most
            ]
        if not mounts.inside(each.path).strip("/"):
            found.append(f"{at}.path")
    return found


def plan_root(
    spec: Spec, *, bind_devices: bool, cgroup_namespace: bool, hide: str, pivot: bool
) -> RootPlan:
    """The whole root file system. Raises SpecInvalid."""
    config = spec.config
    if config.root is None:
        why = "is required with a mount namespace"
        raise SpecInvalid(json_path="root", why=why, path=spec.path)
    path = mounts.below(spec.bundle, config.root.path)
    if not path:
        why = "is empty" if path == "" else "is relative, and there is no bundle that it is below"
        raise SpecInvalid(json_path="root.path", why=why, path=spec.path)
    linux = config.linux
    around = _surroundings(config, spec.bundle)
    planned = [
        mounts.plan_mount(mount, f"mounts[{index}]", around).plan
        for index, mount in enumerate(config.mounts or ())
    ]
    propagation = linux.rootfs_propagation if linux is not None else None
    label: dict[str, str] = {"label": around.label} if around.label else {}
    return {
        "path": path,
        "readonly": bool(config.root.readonly),
        "pivot": pivot,
        "propagation": mounts.propagation_of(propagation) if propagation else None,
        "devices": _devices((linux.devices if linux is not None else None) or ()),
        "bind_devices": bind_devices,
        "fill_dev": not any(each["to"] == "/dev" and each["kind"] == "bind" for each in planned),
        "mounts": planned,
        "cgroup_namespace": cgroup_namespace,
        "masked": _paths(linux.masked_paths if linux is not None else None),
        "read_only": _paths(linux.readonly_paths if linux is not None else None),
        "hidden": hide,
        **label,  # type: ignore[typeddict-item]  # it is there or not
    }


def _paths(paths: Sequence[str] | None) -> list[str]:
    return [mounts.inside(each) for each in paths or ()]


def _devices(wanted: Sequence[Device]) -> list[DevicePlan]:
    """Those of the config, and the default ones that it doesn't have otherwise."""
    found: dict[str, DevicePlan] = {}
    for path, (major, minor) in _DEFAULT_DEVICES.items():
        found[path] = {
            "at": f"default device {path}",
            "path": path,
            "mode": stat.S_IFCHR | _EVERYBODY,
            "number": [major, minor],
            "uid": 0,
            "gid": 0,
        }
    for index, each in enumerate(wanted):
        path = mounts.inside(each.path)
        mode = _EVERYBODY if each.file_mode is None else stat.S_IMODE(each.file_mode)
        found[path] = {
            "at": f"linux.devices[{index}]",
            "path": path,
            "mode": _TYPES.get(each.type, 0) | mode,
            "number": [each.major or 0, each.minor or 0],
            "uid": each.uid or 0,
            "gid": each.gid or 0,
        }
    return list(found.values())


def refused_propagation(linux: Linux) -> list[str]:
    """The JSON path of a propagation that doesn't exist."""
    wanted = linux.rootfs_propagation
    if not wanted or mounts.propagation_of(wanted) is not None:
        return []
    return [child("linux", "rootfsPropagation")]
