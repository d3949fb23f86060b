"""Which ids a user may have inside a user namespace: its own, and those /etc/subuid gives it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil

_FIRST, _ENOUGH = 100000, 65536  # as useradd(8) gives them


def single_map(inside: int, outside: int) -> list[dict[str, int]]:
    """The one map that needs no privilege: of one's own id (user_namespaces(7))."""
    return [{"containerID": inside, "hostID": outside, "size": 1}]


def full_map(outside: int, ranges: list[tuple[int, int]]) -> list[dict[str, int]]:
    """0 is the caller's own id, all others are those it was given."""
    found = single_map(0, outside)
    inside = 1
    for first, count in ranges:
        found.append({"containerID": inside, "hostID": first, "size": count})
        inside += count
    return found


def has_gid(gid: int) -> bool:
    """Whether our own user namespace has a group: in one that was made with few ids it may not."""
    try:
        with open("/proc/self/gid_map", encoding="ascii") as lines:
            ranges = [tuple(map(int, line.split())) for line in lines]
    except (OSError, ValueError):
        return True
    return any(first <= gid < first + count for first, _, count in ranges)


def own_maps() -> tuple[list[dict[str, int]], list[dict[str, int]]] | None:
    """The full maps of the calling user, uids and gids, or None if it has only itself. Blocks.

    They need newuidmap(1), which an administrator installs, and ranges for both.
    """
    if not (shutil.which("newuidmap") and shutil.which("newgidmap")):
        return None
    uids, gids = given_ranges("/etc/subuid"), given_ranges("/etc/subgid")
    if not uids or not gids:
        return None
    return full_map(os.geteuid(), uids), full_map(os.getegid(), gids)


def given_ranges(path: str) -> list[tuple[int, int]]:
    """The ranges that a file like subuid(5) gives the calling user: first id and count."""
    uid = os.geteuid()
    names = {str(uid)}
    with contextlib.suppress(KeyError, OSError):
        names.add(pwd.getpwuid(uid).pw_name)
    found = []
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                name, *numbers = line.strip().split(":")
                if name in names and len(numbers) == 2 and all(map(_is_number, numbers)):
                    first, count = map(int, numbers)
                    if count:
                        found.append((first, count))
    except OSError:
        return []
    return found


def free_range(path: str) -> tuple[int, int]:
    """The first and the last of enough ids that a file like subuid(5) gives to nobody yet."""
    taken = []
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                _, *numbers = line.strip().split(":")
                if len(numbers) == 2 and all(map(_is_number, numbers)):
                    taken.append((int(numbers[0]), int(numbers[1])))
    except OSError:
        pass
    first = _FIRST
    for start, count in sorted(taken):
        if start < first + _ENOUGH and first < start + count:
            first = start + count
    return first, first + _ENOUGH - 1


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10
