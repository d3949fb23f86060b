"""The cgroups that the calling process is in: which version, where, and what they can limit."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

Version = Literal["v2", "hybrid", "v1", "none"]


class Here(NamedTuple):
    """`where` is the directory in which a container's cgroup would be made."""

    version: Version
    where: str
    writable: bool
    controllers: tuple[str, ...]


def look() -> Here:
    """Read what the kernel says of this process (cgroups(7), /proc/[pid]/cgroup)."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mountinfo = file.read()
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            membership = file.read()
    except OSError:
        return Here("none", "", writable=False, controllers=())
    return look_at(mountinfo, membership)


def look_at(mountinfo: str, membership: str) -> Here:
    """The same, of what the two files say."""
    mounted = [_parse_mount(line) for line in mountinfo.splitlines()]
    members = [line.split(":", 2) for line in membership.splitlines()]
    own = {names: path for _, names, path in members}
    unified = next((each for each in mounted if each.type == "cgroup2"), None)
    old = [each for each in mounted if each.type == "cgroup"]
    if unified is not None and not old:
        where = _directory(unified, own.get("", "/"))
        return Here("v2", where, _writable(where), _read_controllers(where))
    if not old:
        return Here("none", "", writable=False, controllers=())
    found = []
    writable = True
    where = ""
    for each in old:
        for names, path in own.items():
            kinds = [name for name in names.split(",") if name and "=" not in name]
            if kinds and set(kinds) <= set(each.options):
                directory = _directory(each, path)
                found += kinds
                if kinds[0] in {"memory", "pids", "cpu", "cpuacct"}:
                    where = directory
                    writable = writable and _writable(directory)
    version: Version = "v1" if unified is None else "hybrid"
    return Here(version, where or old[0].point, writable, tuple(sorted(found)))


class _Mount(NamedTuple):
    root: str
    point: str
    type: str
    options: tuple[str, ...]


def _parse_mount(line: str) -> _Mount:
    left, _, right = line.partition(" - ")
    fields = left.split(" ")
    kind, _, options = (*right.split(" "), "", "")[:3]
    return _Mount(fields[3], fields[4], kind, tuple(options.strip().split(",")))


def _directory(mount: _Mount, path: str) -> str:
    """Where the cgroup of `path` is: what is mounted may be a part of the tree only."""
    if mount.root != "/" and (path == mount.root or path.startswith(f"{mount.root}/")):
        path = path[len(mount.root) :]
    return os.path.normpath(f"{mount.point}/{path}")


def _writable(directory: str) -> bool:
    return os.access(directory, os.W_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK)


def _read_controllers(directory: str) -> tuple[str, ...]:
    try:
        with open(f"{directory}/cgroup.controllers", encoding="ascii") as file:
            return tuple(file.read().split())
    except OSError:
        return ()
