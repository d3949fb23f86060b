"""The mounts of a config: their options understood (config.md, "Linux mount options")."""

from __future__ import annotations

import posixpath
from typing import NamedTuple

from asyncrt.launch import mounts as made

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.launch.plan import MountPlan
    from asyncrt.oci.config import Mount

# Option: attributes set, attributes cleared. Its twin with an "r" in front is for all mounts below.
_ATTRIBUTES = {
    "ro": (made.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, made.MOUNT_ATTR_RDONLY),
    "nosuid": (made.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, made.MOUNT_ATTR_NOSUID),
    "nodev": (made.MOUNT_ATTR_NODEV, 0),
    "dev": (0, made.MOUNT_ATTR_NODEV),
    "noexec": (made.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, made.MOUNT_ATTR_NOEXEC),
    "nodiratime": (made.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, made.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (made.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, made.MOUNT_ATTR_NOSYMFOLLOW),
    "noatime": (made.MOUNT_ATTR_NOATIME, made.MOUNT_ATTR_ATIME),
    "strictatime": (made.MOUNT_ATTR_STRICTATIME, made.MOUNT_ATTR_ATIME),
    # The kernel's default, which the lack of the two above is.
    "relatime": (0, made.MOUNT_ATTR_ATIME),
    "norelatime": (0, made.MOUNT_ATTR_ATIME),
    "atime": (0, made.MOUNT_ATTR_ATIME),
    "nostrictatime": (0, made.MOUNT_ATTR_ATIME),
}
_BELOW = {f"r{option}": each for option, each in _ATTRIBUTES.items()}
_PROPAGATION = {
    "private": made.MS_PRIVATE,
    "shared": made.MS_SHARED,
    "slave": made.MS_SLAVE,
    "unbindable": made.MS_UNBINDABLE,
}
# Of the file system itself; a bind has that of its source.
_OF_FILE_SYSTEM = frozenset({"sync", "dirsync", "lazytime", "mand", "iversion"})
_NOTHING = frozenset({"defaults", "loud", "silent", "async", "nolazytime", "nomand", "noiversion"})
_UNSUPPORTED = frozenset({"idmap", "ridmap", "tmpcopyup"})
_VIRTUAL = frozenset({"tmpfs", "proc", "sysfs", "devpts", "mqueue", "overlay"})
_CGROUP = frozenset({"cgroup", "cgroup2"})
_LONGEST = 255  # bytes of a string that fsconfig(2) takes


class PlannedMount(NamedTuple):
    """A mount, or the JSON paths of what in it can't be honoured."""

    plan: MountPlan
    refused: list[str]


def propagation_of(option: str) -> tuple[int, bool] | None:
    """A propagation by its name: the flag, and whether it is for all mounts below as well."""
    if option in _PROPAGATION:
        return _PROPAGATION[option], False
    if option[:1] == "r" and option[1:] in _PROPAGATION:
        return _PROPAGATION[option[1:]], True
    return None


def option_names() -> set[str]:
    """Every mount option that is understood here; others go to the file system."""
    propagation = {*_PROPAGATION, *(f"r{each}" for each in _PROPAGATION)}
    kinds = {"bind", "rbind", "remount"}
    return {*_ATTRIBUTES, *_BELOW, *propagation, *kinds, *_OF_FILE_SYSTEM, *_NOTHING}


def inside(path: str) -> str:
    """A path of the container's as a normal absolute one."""
    return posixpath.normpath("/" + path.lstrip("/"))


def plan_mount(mount: Mount, at: str, bundle: str | None) -> PlannedMount:
    """What is to be mounted, with every option put where it belongs."""
    plan: MountPlan = {
        "at": at,
        "kind": "new",
        "to": inside(mount.destination),
        "source": mount.source or "",
        "type": mount.type or "",
        "recursive": False,
        "set": 0,
        "clear": 0,
        "set_below": 0,
        "clear_below": 0,
        "propagation": [],
        "data": [],
    }
    refused = [] if not mount.uid_mappings else [f"{at}.uidMappings"]
    if mount.gid_mappings:
        refused.append(f"{at}.gidMappings")
    options = mount.options or ()
    if "bind" in options or "rbind" in options or mount.type in {"bind", "rbind"}:
        plan["kind"] = "bind"
        plan["recursive"] = "rbind" in options or mount.type == "rbind"
        plan["source"] = below(bundle, plan["source"]) or ""
        if not plan["source"]:
            refused.append(f"{at}.source")
    elif mount.type in _CGROUP:
        plan["kind"] = "cgroup"
    if "remount" in options:
        plan["kind"] = "remount"
    elif not mount.type and plan["kind"] == "new":
        refused.append(f"{at}.type")
    for index, option in enumerate(options):
        if not _take(plan, option):
            refused.append(f"{at}.options[{index}]")
    if plan["kind"] == "new":
        if plan["source"]:
            plan["data"].insert(0, ("source", plan["source"]))
        if mount.type not in _VIRTUAL and plan["set"] & made.MOUNT_ATTR_RDONLY:
            plan["data"].append(("ro", None))  # or a journal would be written to
    return PlannedMount(plan, refused)


def below(bundle: str | None, path: str) -> str | None:
    """A path of the host's, a relative one below the bundle; None if there is none to be below."""
    if not path or path.startswith("/"):
        return path
    return None if bundle is None else posixpath.join(bundle, path)


def _take(plan: MountPlan, option: str) -> bool:
    """Put an option where it belongs; the last one of a kind counts. False: can't be honoured."""
    propagation = propagation_of(option)
    if option in _ATTRIBUTES:
        plan["set"], plan["clear"] = _merge(plan["set"], plan["clear"], *_ATTRIBUTES[option])
    elif option in _BELOW:
        plan["set_below"], plan["clear_below"] = _merge(
            plan["set_below"], plan["clear_below"], *_BELOW[option]
        )
    elif propagation is not None:
        plan["propagation"].append(propagation)
    elif option in _NOTHING or option in {"bind", "rbind", "remount"}:
        pass
    elif option in _UNSUPPORTED or plan["kind"] in {"bind", "cgroup"}:
        return False
    elif option in _OF_FILE_SYSTEM:
        plan["data"].append((option, None))
    else:
        key, equals, value = option.partition("=")
        if key == "lowerdir" and len(value.encode()) > _LONGEST:
            plan["data"] += [("lowerdir+", each) for each in _layers(value)]
        elif not key or len(value.encode()) > _LONGEST:
            return False
        else:
            plan["data"].append((key, value if equals else None))
    return True


def _layers(value: str) -> list[str]:
    """The lower directories of an overlay one by one; a backslash takes a colon's meaning away."""
    found = [""]
    escaped = False
    for char in value:
        if char == ":" and not escaped:
            found.append("")
        elif char != "\\" or escaped:
            found[-1] += char
        escaped = char == "\\" and not escaped
    return found


def _merge(were_set: int, were_cleared: int, add: int, clear: int) -> tuple[int, int]:
    return were_set & ~clear | add, were_cleared & ~add | clear
