"""Which uid, gid and groups a process of ours may take, and what has to be set for them.

Asking for what one already is needs no privilege and plans nothing. What the kernel would refuse is
said here, by JSON path, before anything is started.
"""

from __future__ import annotations

import os
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.oci import User

_CAP_SETGID = 6  # linux/capability.h
_CAP_SETUID = 7


class Identity(NamedTuple):
    """What to set (None: leave as it is), and the JSON paths of what this process may not set."""

    uid: int | None
    gid: int | None
    groups: list[int] | None
    refused: list[str]


def plan_identity(user: User | None, json_path: str) -> Identity:
    """How this process becomes `user`; `json_path` is that of the process it is for."""
    if user is None:
        return Identity(None, None, None, [])
    at = f"{json_path}.user"
    refused = []

    uid = None if set(os.getresuid()) == {user.uid} else user.uid
    if uid is not None and uid not in os.getresuid() and not _may_set(uid, _CAP_SETUID, "uid_map"):
        refused.append(f"{at}.uid")

    gid = None if set(os.getresgid()) == {user.gid} else user.gid
    if gid is not None and gid not in os.getresgid() and not _may_set(gid, _CAP_SETGID, "gid_map"):
        refused.append(f"{at}.gid")

    # The gid counts as one of the groups wherever it matters, listed among them or not.
    wanted = set(user.additional_gids or ())
    groups: list[int] | None = None
    if wanted | {user.gid} != {*os.getgroups(), user.gid}:
        may = _has_capability(_CAP_SETGID) and _setgroups_allowed()
        if may:
            groups = sorted(wanted)
            bad = [
                index
                for index, each in enumerate(user.additional_gids or ())
                if not _is_mapped(each, "gid_map")
            ]
            refused += [f"{at}.additionalGids[{index}]" for index in bad]
        elif wanted:
            refused.append(f"{at}.additionalGids")
        # Else: no groups asked for, and nobody without the privilege can drop those it has.
    return Identity(uid, gid, groups, refused)


def _may_set(id: int, capability: int, map_name: str) -> bool:
    return _has_capability(capability) and _is_mapped(id, map_name)


def _has_capability(number: int) -> bool:
    """Whether this process's effective set has it; uid 0 in a container often hasn't."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"CapEff:"):
                return bool(int(line[7:], 16) >> number & 1)
    return False


def _is_mapped(id: int, map_name: str) -> bool:
    """Whether the user namespace has the id at all (user_namespaces(7))."""
    with open(f"/proc/self/{map_name}", "rb") as lines:
        for line in lines:
            first, _, count = map(int, line.split())
            if first <= id < first + count:
                return True
    return False


def _setgroups_allowed() -> bool:
    with open("/proc/self/setgroups", "rb") as setgroups:
        return setgroups.read().strip() == b"allow"
