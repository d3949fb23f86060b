"""The users of a root file system, from its own /etc/passwd and /etc/group (passwd(5), group(5)).

A name's number on the host would be somebody else inside. The files are an image's, so nothing of
them is trusted: they are opened below the root's descriptor, where no symlink leads out, must be
plain files of bounded size, and an entry that isn't well-formed is an error, not a guess.
"""

from __future__ import annotations

import os
import stat

from asyncrt import _libc
from asyncrt.oci._user_ids import UnknownUserError, id_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Who = tuple[int, int, list[int]]

_PASSWD = "/etc/passwd"  # noqa: S105 - where no password has been for long
_GROUP = "/etc/group"
_MOST_BYTES = 1 << 20
_MOST_GROUPS = 65536  # limits.h, NGROUPS_MAX
_PASSWD_FIELDS = 7
_GROUP_FIELDS = 4
_ROOT_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def look_up(rootfs: str, name: str, group: str | None) -> Who:
    """uid, gid and the other groups of NAME or UID, with `group` (a name or a gid) if one is given.

    Without one a name brings its primary and its supplementary groups, a number its entry's primary
    group. Raises UnknownUserError.
    """
    try:
        root = os.open(rootfs, _ROOT_FLAGS)
    except (OSError, ValueError) as error:
        raise UnknownUserError(f"{rootfs}: {_why(error)}") from error
    try:
        uid, primary = _user(root, name)
        if group is not None:
            return uid, _gid(root, group), []
        if primary is None:
            raise UnknownUserError(
                f"this uid has no entry in {_PASSWD} to take a group from; write {uid}:GID"
            )
        others = [] if id_of(name) is not None else _others(root, name)
        return uid, primary, sorted({*others} - {primary})
    finally:
        os.close(root)


def _user(root: int, name: str) -> tuple[int, int | None]:
    """The uid, and the primary group if there is an entry."""
    uid = id_of(name)
    index, key = (0, _raw(name)) if uid is None else (2, str(uid).encode())
    for fields in _entries(root, _PASSWD, missing_is_empty=uid is not None):
        if fields[index : index + 1] == [key]:
            return _numbers(fields, _PASSWD_FIELDS, _PASSWD, 2, 3)
    if uid is None:
        raise UnknownUserError(f"there is no such user in its {_PASSWD}")
    return uid, 0 if uid == 0 else None


def _gid(root: int, group: str) -> int:
    gid = id_of(group)
    if gid is not None:
        return gid
    key = _raw(group)
    for fields in _entries(root, _GROUP):
        if fields[0] == key:
            return _numbers(fields, _GROUP_FIELDS, _GROUP, 2, 2)[0]
    raise UnknownUserError(f"there is no group {group!r} in its {_GROUP}")


def _others(root: int, name: str) -> list[int]:
    """The groups that have it for a member."""
    key = _raw(name)
    found = [
        _numbers(fields, _GROUP_FIELDS, _GROUP, 2, 2)[0]
        for fields in _entries(root, _GROUP, missing_is_empty=True)
        if len(fields) == _GROUP_FIELDS and key in fields[-1].split(b",")
    ]
    if len(found) > _MOST_GROUPS:
        raise UnknownUserError(f"it is in more than {_MOST_GROUPS} groups")
    return found


def _raw(name: str) -> bytes:
    """As the file has it."""
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:
        raw = b""
    if not raw or b"\n" in raw or b"\0" in raw:
        raise UnknownUserError(f"{name!r} can't be a name")
    return raw


def _numbers(
    fields: list[bytes], count: int, file: str, first: int, second: int
) -> tuple[int, int]:
    """Two ids of an entry."""
    try:
        ids = [id_of(fields[at].decode("ascii")) for at in (first, second)]
    except (UnicodeDecodeError, IndexError, UnknownUserError):
        ids = [None, None]
    if len(fields) != count or ids[0] is None or ids[1] is None:
        shown = b":".join(fields)[:60].decode(errors="replace")
        raise UnknownUserError(f"the entry {shown!r} of its {file} is malformed")
    return ids[0], ids[1]


def _entries(root: int, path: str, *, missing_is_empty: bool = False) -> Iterator[list[bytes]]:
    try:
        data = _read(root, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if missing_is_empty:
            return
        raise UnknownUserError(f"{path} of the root file system: {_why(error)}") from error
    except OSError as error:
        raise UnknownUserError(f"{path} of the root file system: {_why(error)}") from error
    for line in data.split(b"\n"):
        yield line.split(b":")


def _read(root: int, path: str) -> bytes:
    place = _libc.open_inside(root, path, os.O_PATH)
    try:
        found = os.fstat(place)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
            raise UnknownUserError(
                f"{path} of the root file system is no file of at most {_MOST_BYTES} bytes"
            )
        # Not sooner: to open a device of the host's, as one may be planted there, can do a lot.
        fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        data = b""
        while len(data) <= _MOST_BYTES and (part := os.read(fd, _MOST_BYTES + 1)):
            data += part
        return data[:_MOST_BYTES]
    finally:
        os.close(fd)


def _why(error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else str(error)
