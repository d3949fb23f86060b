"""The mounts of a config: their options understood (config.md, "Linux mount options")."""

from __future__ import annotations

import os
import posixpath
from typing import NamedTuple

from asyncrt.launch import mounts as made
from asyncrt.platforms.linux import machine
from asyncrt.platforms.linux.namespaces import id_lines

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
_VERSIONS = "iversion"  # which fsconfig(2) doesn't know
_NOTHING = frozenset({"defaults", "loud", "silent", "async", "nolazytime", "nomand", "noiversion"})
_ID_MAPS = {"idmap": False, "ridmap": True}  # whether all mounts below have it as well
_COPY_UP = "tmpcopyup"
_VIRTUAL = frozenset({"tmpfs", "proc", "sysfs", "devpts", "mqueue", "overlay"})
_CGROUP = frozenset({"cgroup", "cgroup2"})
_NO_CONTEXT = frozenset({"proc", "sysfs"})  # whose files the policy labels
_LABELLED_LATER = frozenset({"mqueue"})
_LONGEST = 255  # bytes of a string that fsconfig(2) takes

_NOT_ROOT = "only root can have the owners of a file system's files shown as others"
_NOT_BIND = "is for bind mounts"
_NOT_TMPFS = "is for a tmpfs"
_NO_MAP = "has no uidMappings and gidMappings, and there is no user namespace to take them from"
_TOO_LONG = f"is longer than the {_LONGEST} bytes that the kernel takes"


class PlannedMount(NamedTuple):
    """A mount, or what in it can't be honoured: reasons by JSON path, "" where it says all."""

    plan: MountPlan
    refused: dict[str, str]


class Surroundings(NamedTuple):
    """What of the rest of the config a mount depends on.

    `ids`: uid and gid mappings of the container's user namespace; `user_namespace`: its path.
    """

    bundle: str | None = None
    ids: tuple[list[list[int]], list[list[int]]] | None = None
    user_namespace: str = ""
    label: str = ""


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
    others = {"bind", "rbind", "remount", _COPY_UP, *_ID_MAPS}
    return {*_ATTRIBUTES, *_BELOW, *propagation, *others, *_OF_FILE_SYSTEM, *_NOTHING}


def inside(path: str) -> str:
    """A path of the container's as a normal absolute one."""
    return posixpath.normpath("/" + path.lstrip("/"))


def plan_mount(mount: Mount, at: str, around: Surroundings) -> PlannedMount:
    """What is to be mounted, with every option put where it belongs (config.md, "Mounts")."""
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
    refused: dict[str, str] = {}
    options = mount.options or ()
    if "bind" in options or "rbind" in options or mount.type in {"bind", "rbind"}:
        plan["kind"] = "bind"
        plan["recursive"] = "rbind" in options or mount.type == "rbind"
        plan["source"] = below(around.bundle, plan["source"]) or ""
        if not plan["source"]:
            refused[f"{at}.source"] = ""
    elif mount.type in _CGROUP:
        plan["kind"] = "cgroup"
    if "remount" in options:
        plan["kind"] = "remount"
    elif not mount.type and plan["kind"] == "new":
        refused[f"{at}.type"] = ""
    _map_ids(mount, plan, around, refused)
    for index, option in enumerate(options):
        why = _take(plan, option)
        if why is not None:
            refused[f"{at}.options[{index}]"] = why
    if plan["kind"] == "new":
        if plan["source"]:
            plan["data"].insert(0, ("source", plan["source"]))
        if mount.type not in _VIRTUAL and plan["set"] & made.MOUNT_ATTR_RDONLY:
            plan["data"].append(("ro", None))  # or a journal would be written to
        _put_label(plan, around.label)
    return PlannedMount(plan, refused)


def _map_ids(mount: Mount, plan: MountPlan, around: Surroundings, refused: dict[str, str]) -> None:
    """Whose its files are to look, from mappings of its own or those of the container.

    Without the option that says so the mappings alone ask for it (config.md, "Mounts").
    """
    asked = [each for each in enumerate(mount.options or ()) if each[1] in _ID_MAPS]
    given = bool(mount.uid_mappings or mount.gid_mappings)
    if not asked and not given:
        return
    at = plan["at"]
    field = f"{at}.uidMappings" if given else f"{at}.options[{asked[0][0]}]"
    if plan["kind"] != "bind":
        refused[field] = _NOT_BIND
    elif (why := why_unmapped()) is not None:
        refused[field] = why
    elif not given and around.ids is None and not around.user_namespace:
        refused[field] = _NO_MAP
    else:
        own = id_lines(mount.uid_mappings or ()), id_lines(mount.gid_mappings or ())
        uids, gids = own if given else around.ids or ([], [])
        plan["idmap"] = {
            "uid": uids,
            "gid": gids,
            "path": "" if uids else around.user_namespace,
            "recursive": any(_ID_MAPS[option] for _, option in asked),
        }


def why_unmapped() -> str | None:
    """Why no mount can show other owners here; None: it can."""
    if os.geteuid() != 0:
        return _NOT_ROOT
    return None if machine.has_mapped_mounts() else "this kernel has no id maps of mounts"


def _put_label(plan: MountPlan, label: str) -> None:
    """SELinux's label for what is mounted new (config-linux.md, "Mount Label"), as runc has it."""
    if not label or plan["type"] in _NO_CONTEXT:
        return
    if plan["type"] in _LABELLED_LATER:
        plan["label"] = label
    elif not any(key == "context" for key, _ in plan["data"]):
        plan["data"].append(("context", label))


def below(bundle: str | None, path: str) -> str | None:
    """A path of the host's, a relative one below the bundle; None if there is none to be below."""
    if not path or path.startswith("/"):
        return path
    return None if bundle is None else posixpath.join(bundle, path)


def _take(plan: MountPlan, option: str) -> str | None:
    """Put an option where it belongs; the last one of a kind counts. Why it can't be honoured."""
    propagation = propagation_of(option)
    if option in _ATTRIBUTES:
        plan["set"], plan["clear"] = _merge(plan["set"], plan["clear"], *_ATTRIBUTES[option])
    elif option in _BELOW:
        plan["set_below"], plan["clear_below"] = _merge(
            plan["set_below"], plan["clear_below"], *_BELOW[option]
        )
    elif propagation is not None:
        plan["propagation"].append(propagation)
    elif option in _NOTHING or option in {"bind", "rbind", "remount", *_ID_MAPS}:
        pass
    elif option == _COPY_UP:
        if plan["kind"] != "new" or plan["type"] != "tmpfs":
            return _NOT_TMPFS
        plan["copy_up"] = True
    elif option == _VERSIONS:
        if plan["kind"] != "new":
            return "is for a file system that is mounted new"
        plan["versions"] = True
    elif plan["kind"] in {"bind", "cgroup"}:
        return "is of a file system, which is mounted already"
    elif option in _OF_FILE_SYSTEM:
        plan["data"].append((option, None))
    else:
        return _take_data(plan, option)
    return None


def _take_data(plan: MountPlan, option: str) -> str | None:
    """One of the file system's own."""
    key, equals, value = option.partition("=")
    if key == "lowerdir" and len(value.encode()) > _LONGEST:
        plan["data"] += [("lowerdir+", each) for each in _layers(value)]
    elif not key:
        return ""
    elif len(value.encode()) > _LONGEST:
        return _TOO_LONG
    else:
        plan["data"].append((key, value if equals else None))
    return None


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
