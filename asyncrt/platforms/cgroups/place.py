"""Where a container's cgroup is in each hierarchy.

`cgroupsPath` as runc reads it: an absolute one is below each hierarchy's top, a relative one below a
parent of ours, and so is the cgroup of a container that names none. That parent is our own cgroup;
but where version 2 would let nobody into a cgroup that hands controllers down (cgroup-v2.rst, "No
Internal Process Constraint"), it is the one above, if we may write there.
"""

from __future__ import annotations

import os
import re

from asyncrt.platforms.cgroups.machine import is_root, may_make

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.platforms.cgroups.machine import Hierarchy

SUPERVISOR = "_supervisor"
_SYSTEMD = re.compile(r"[^/:]*:[^/:]*:[^/:]+")  # slice:prefix:name


def refusal(path: str) -> str:
    """Why a cgroupsPath can't be honoured, in words; "" when it can."""
    if _SYSTEMD.fullmatch(path):
        return "asyncrt makes no systemd scopes; give a path like /pods/web"
    if not path.strip("/."):
        whose = "the root of all cgroups" if path.startswith("/") else "that one"
        return f"{whose} is nobody's own"
    return ""


def of_supervisor(path: str) -> str:
    """Beside a container's own cgroup, in a sandbox that has room for several."""
    return f"{os.path.dirname(path)}/{SUPERVISOR}"


def directory(hierarchy: Hierarchy, path: str | None, name: str, leaves: Sequence[str] = ()) -> str:
    """The cgroup's directory there; `name` is for a container without a path.

    It goes to that one of `leaves` that is in the hierarchy, if any is.
    """
    if not path:
        for each in leaves:
            if hierarchy.holds(each):
                return f"{each}/{name}"
    if path and path.startswith("/"):
        return os.path.normpath(f"{hierarchy.top.rstrip('/')}/{path}")
    return os.path.normpath(f"{parent(hierarchy)}/{path or name}")


def parent(hierarchy: Hierarchy) -> str:
    """Below which cgroup ours are made."""
    own = hierarchy.own
    if not hierarchy.v2 or own == hierarchy.top or is_root(own):
        return own
    above = os.path.dirname(own)
    return above if may_make(f"{above}/~", hierarchy) else own
