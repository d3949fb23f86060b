"""A mount of type cgroup: every hierarchy that the host has, as the container is to see it.

In a cgroup namespace of its own a container's hierarchies begin at its own cgroup; without one, its
own cgroup of each is bound. They are read-only unless the config says rw: who may write to them as
root can have the host run a program (CVE-2022-0492), or lift limits.
"""

from __future__ import annotations

import os

from asyncrt import _durable
from asyncrt.launch import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.launch.plan import MountPlan

    _Membership = tuple[list[str], str]

_TOP = "/sys/fs/cgroup"
_TMPFS = [("mode", "0755")]


class _Hierarchy:
    """One of the host's: where it is, and what it is mounted of."""

    __slots__ = ("options", "path", "root", "type")

    def __init__(self, line: str) -> None:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        self.root, self.path = fields[3], fields[4]
        self.type, _, options = right.split(" ", 2)
        self.options = options.strip().split(",")


def attach(place: int, mount: MountPlan, *, namespaced: bool) -> int:
    """Mount them at an opened place; returns the topmost mount."""
    attributes = mount["set"]
    if not mount["clear"] & mounts.MOUNT_ATTR_RDONLY:
        attributes |= mounts.MOUNT_ATTR_RDONLY
    found, memberships = _hierarchies(), _memberships()
    if [each.path for each in found] == [_TOP]:
        tree = _tree(found[0], attributes, memberships, namespaced=namespaced)
        mounts.attach(tree, place)
        return tree
    top = mounts.new("tmpfs", _TMPFS, attributes & ~mounts.MOUNT_ATTR_RDONLY)
    mounts.attach(top, place)
    for each in found:
        name = os.path.basename(each.path)
        os.mkdir(name, 0o755, dir_fd=top)
        below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
        tree = _tree(each, attributes, memberships, namespaced=namespaced)
        mounts.attach(tree, below)
        os.close(tree)
        os.close(below)
        for controller in name.split(",") if "," in name else ():
            os.symlink(name, controller, dir_fd=top)
    mounts.change(top, add=attributes)
    return top


def _hierarchies() -> list[_Hierarchy]:
    """Those below the usual place, each once."""
    text = _durable.read("/proc/self/mountinfo").decode(errors="surrogateescape")
    found: dict[str, _Hierarchy] = {}
    for line in text.splitlines():
        if " - cgroup" in line:
            each = _Hierarchy(line)
            if each.path == _TOP or each.path.startswith(f"{_TOP}/"):
                found.setdefault(each.path, each)
    return list(found.values())


def _tree(
    hierarchy: _Hierarchy,
    attributes: int,
    memberships: Sequence[_Membership],
    *,
    namespaced: bool,
) -> int:
    if not namespaced:
        tree = mounts.clone_path(_own_path(hierarchy, memberships), recursive=False)
        mounts.change(tree, add=attributes, propagation=mounts.MS_SLAVE)
        return tree
    if hierarchy.type == "cgroup2":
        return mounts.new("cgroup2", [], attributes)
    known = {controller for controllers, _ in memberships for controller in controllers}
    data: list[tuple[str, str | None]] = []
    for option in hierarchy.options:
        if option.startswith("name="):
            data += [("none", None), ("name", option.removeprefix("name="))]
        elif option in known:
            data.append((option, None))
    return mounts.new("cgroup", data, attributes)


def _memberships() -> list[_Membership]:
    """Our own cgroups: controllers ("" alone: version 2) and path (cgroups(7), /proc/PID/cgroup)."""
    lines = _durable.read("/proc/self/cgroup").decode(errors="surrogateescape").splitlines()
    return [(line.split(":", 2)[1].split(","), line.split(":", 2)[2]) for line in lines]


def _own_path(hierarchy: _Hierarchy, memberships: Sequence[_Membership]) -> str:
    """Where our own cgroup of it is."""
    for controllers, path in memberships:
        if (
            controllers == [""]
            if hierarchy.type == "cgroup2"
            else controllers[0] in hierarchy.options
        ):
            below = path.removeprefix(hierarchy.root.rstrip("/")).lstrip("/")
            return f"{hierarchy.path}/{below}"
    return hierarchy.path
