"""Who a process runs as: from what a person writes (`1000:1000`, `www-data`) to numbers.

Strict on purpose: a lenient parse of `exec -u` that ended as uid 0 was a CVE elsewhere. The look-ups
may block, as the system's user database may be on a network.
"""

from __future__ import annotations

import grp
import os
import pwd

from asyncrt.errors import SpecInvalid
from asyncrt.oci._user_ids import UnknownUserError, id_of
from asyncrt.oci.config import User
from asyncrt.oci.image_users import look_up


def resolve_user(
    user: int | str, *, umask: int | None = None, json_path: str, rootfs: str | None = None
) -> User:
    """`user` as numbers: a uid, `UID`, `NAME`, or either with `:GID` or `:GROUP`.

    Names are the host's, or those of the root file system `rootfs`.

    A name alone brings its primary and supplementary groups; a number alone the primary group of its
    entry, and has to have one unless it is this process's own. With a group given there are no
    others. For a process without privileges its own uid alone means itself with the groups it has.

    Raises SpecInvalid at `json_path` for anything unknown, out of range or ambiguous.
    """
    if isinstance(user, bool) or not isinstance(user, int | str):
        why = f"expected a uid or a string like 'name', '1000' or '1000:1000', found {user!r}"
        raise SpecInvalid(json_path=json_path, why=why)
    try:
        text = str(user)
        name, colon, group = text.partition(":")
        if isinstance(user, int) and id_of(text) is None:
            raise UnknownUserError("no id is negative")
        if rootfs is not None:
            uid, gid, groups = look_up(rootfs, name, group if colon else None)
        else:
            entry, uid = _find_user(name)
            no_others: list[int] = []
            gid, groups = (_find_group(group), no_others) if colon else _groups_of(name, entry, uid)
    except UnknownUserError as error:
        raise SpecInvalid(json_path=json_path, why=f"{user!r}: {error}") from None
    return User(uid=uid, gid=gid, umask=umask, additional_gids=tuple(groups))


def own_user(*, umask: int | None = None) -> User:
    """This process's own ids and groups."""
    return User(
        uid=os.geteuid(), gid=os.getegid(), umask=umask, additional_gids=tuple(os.getgroups())
    )


def _find_user(name: str) -> tuple[pwd.struct_passwd | None, int]:
    uid = id_of(name)
    try:
        if uid is None:
            entry = pwd.getpwnam(name)
            return entry, entry.pw_uid
        return pwd.getpwuid(uid), uid
    except (KeyError, ValueError, OSError) as error:
        if uid is None:
            raise UnknownUserError("there is no such user") from error
        return None, uid


def _find_group(group: str) -> int:
    gid = id_of(group)
    if gid is not None:
        return gid
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError, OSError) as error:
        raise UnknownUserError(f"there is no group {group!r}") from error


def _groups_of(name: str, entry: pwd.struct_passwd | None, uid: int) -> tuple[int, list[int]]:
    if uid == os.geteuid() != 0 or (entry is None and uid == os.geteuid()):
        return os.getegid(), os.getgroups()
    if entry is None:
        raise UnknownUserError(f"this uid has no entry to take a group from; write {uid}:GID")
    if name == str(uid):
        return entry.pw_gid, []
    return entry.pw_gid, sorted({*os.getgrouplist(name, entry.pw_gid)} - {entry.pw_gid})
