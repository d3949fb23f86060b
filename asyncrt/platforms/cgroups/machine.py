"""Which cgroup hierarchies there are, where we are in each, and what this user may do there.

Everything is read from the kernel, nothing inferred: a hierarchy may be mounted in parts, our own
cgroup may be nested in one and not in another, and version 2 may have some controllers while
version 1 holds the rest (a "hybrid" machine).
"""

from __future__ import annotations

import functools
import os
import re
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_OCTAL = re.compile(r"\\([0-7]{3})")  # how proc(5) writes a space in a path
_SEPARATOR = " - "


class Hierarchy(NamedTuple):
    """One hierarchy: its directory here, our own cgroup's, and what it can limit.

    `controllers` of version 1 are all it has; of version 2 those that our own cgroup's parent, or
    the top, could hand down are asked for by `available`.
    """

    top: str
    own: str
    v2: bool
    controllers: frozenset[str] = frozenset()

    def holds(self, directory: str) -> bool:
        """Whether a directory is of this hierarchy, its top included."""
        return directory == self.top or directory.startswith(self.top.rstrip("/") + "/")


class Machine(NamedTuple):
    """All hierarchies of version 1 by controller, and version 2's, if there is one."""

    v1: dict[str, Hierarchy]
    v2: Hierarchy | None


def discover() -> Machine:
    """What there is for this process. Blocks for two short reads of /proc, and raises OSError."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as own:
        return _discover(own.read())


def machine_of(pid: int) -> Machine:
    """The same hierarchies, with the cgroups that another process is in. Blocks, raises OSError."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as own:
        return _read(own.read())


@functools.lru_cache(1)
def _discover(own: str) -> Machine:
    # There may be thousands of mounts, and those of cgroups don't come and go.
    return _read(own)


def _read(own: str) -> Machine:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        lines = [line for line in mounts if f"{_SEPARATOR}cgroup" in line]
    return read_machine(lines, own.splitlines())


def read_machine(mountinfo: Iterable[str], own: Iterable[str]) -> Machine:
    """The machine from the lines of /proc/PID/mountinfo and /proc/PID/cgroup (proc(5), cgroups(7))."""
    paths: dict[str, str] = {}
    for line in own:
        number, names, path = line.rstrip("\n").split(":", 2)
        for name in names.split(",") if number != "0" else ("",):
            paths[name] = path
    v1: dict[str, Hierarchy] = {}
    v2 = None
    for line in mountinfo:
        before, _, after = line.rstrip("\n").partition(_SEPARATOR)
        fields = before.split(" ")
        kind, _, options = after.split(" ", 2)
        inner, mount = _plain(fields[3]), _plain(fields[4])
        if kind == "cgroup2" and v2 is None and "" in paths:
            found = _below(mount, inner, paths[""])
            v2 = Hierarchy(mount, found, v2=True) if found else None
        elif kind == "cgroup":
            controllers = frozenset(set(options.split(" ")[-1].split(",")) & paths.keys() - {""})
            controllers -= {each for each in controllers if each.startswith("name=")}
            for each in controllers - v1.keys():
                found = _below(mount, inner, paths[each])
                if found:
                    v1[each] = Hierarchy(mount, found, v2=False, controllers=controllers)
    return Machine(v1, v2)


def _plain(path: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), path)


def _below(mount: str, inner: str, path: str) -> str:
    """The directory of a cgroup under a mount that shows the hierarchy from `inner` on; "": none.

    From inside a cgroup namespace one outside of it is called /.. and can't be seen.
    """
    if path.startswith("/.."):
        return ""
    if inner != "/":
        if path != inner and not path.startswith(inner + "/"):
            return ""
        path = path[len(inner) :]
    return (mount.rstrip("/") + path).rstrip("/") or "/"


def words(path: str) -> frozenset[str]:
    """The words of a file such as cgroup.controllers; none where it can't be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return frozenset(file.read().split())
    except OSError:
        return frozenset()


def is_root(directory: str) -> bool:
    """Whether a cgroup of version 2 is the hierarchy's own root: it alone has no type."""
    return not os.path.exists(f"{directory}/cgroup.type")


def deepest_there(directory: str, top: str) -> str:
    """The directory, or the nearest one above it that exists."""
    while directory != top and not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return directory


def may_make(directory: str, hierarchy: Hierarchy) -> bool:
    """Whether this user may make that cgroup, as far as its directories say, and go there.

    Whoever isn't root must also be allowed to write to the nearest cgroup above both where a process
    is and where it goes (cgroup-v2.rst, "Delegation Containment").
    """
    there = deepest_there(directory, hierarchy.top)
    while not os.access(there, os.W_OK | os.X_OK) or (
        there == directory and not os.access(f"{there}/cgroup.procs", os.W_OK)
    ):
        last, there = there, deepest_there(directory, hierarchy.top)
        if there == last:
            return False  # else it has been removed meanwhile, with its sandbox say
    if not hierarchy.v2:
        return True
    common = os.path.commonpath([hierarchy.own, directory])
    return os.access(f"{common}/cgroup.procs", os.W_OK)
