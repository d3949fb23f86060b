"""The mount calls of Linux 5.12, by descriptor: what is mounted where can't be swapped in between.

Python has no names for them; their numbers are the same on every architecture. A mount is made
detached (open_tree(2), fsmount(2)), gets its attributes while nobody can reach it, and is then
attached to a place that was opened before (move_mount(2)).
"""

from __future__ import annotations

import os
import stat
import struct

from asyncrt import _libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_NR_OPEN_TREE = 428
_NR_MOVE_MOUNT = 429
_NR_FSOPEN = 430
_NR_FSCONFIG = 431
_NR_FSMOUNT = 432
_NR_FSPICK = 433
_NR_MOUNT_SETATTR = 442

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSPICK_CLOEXEC = 1
_FSPICK_NO_AUTOMOUNT = 4
_FSPICK_EMPTY_PATH = 8
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_FSCONFIG_CMD_RECONFIGURE = 7

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_ATIME = 0x70  # the mask of those below; 0 is relatime
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
_MOUNT_ATTR_IDMAP = 0x100000

_MS_REMOUNT = 1 << 5
_MS_I_VERSION = 1 << 23
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

RESOLVE_NO_SYMLINKS = _libc.RESOLVE_NO_SYMLINKS
RESOLVE_BENEATH = _libc.RESOLVE_BENEATH
RESOLVE_IN_ROOT = _libc.RESOLVE_IN_ROOT

DEVPTS = 0x1CD1  # linux/magic.h
PROC = 0x9FA0


def clone_tree(fd: int, path: str, *, recursive: bool, follow: bool = True) -> int:
    """A detached copy of what is mounted at a path; an empty path: of what `fd` has open."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    flags |= _AT_RECURSIVE if recursive else 0
    flags |= 0 if follow else _AT_SYMLINK_NOFOLLOW
    if not path:
        flags |= _AT_EMPTY_PATH
    return _libc.syscall(_NR_OPEN_TREE, fd, os.fsencode(path), flags)


def clone_path(path: str, *, recursive: bool) -> int:
    """A detached copy of what is mounted at an absolute path of ours."""
    return clone_tree(_AT_FDCWD, path, recursive=recursive)


def attach(tree: int, place: int) -> None:
    """Mount a detached tree on an opened file or directory."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    _libc.syscall(_NR_MOVE_MOUNT, tree, b"", place, b"", flags)


def change(
    fd: int, *, add: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False
) -> None:
    """Change a mount's attributes (mount_setattr(2)); what isn't named stays as it is."""
    if add & MOUNT_ATTR_ATIME or clear & MOUNT_ATTR_ATIME:
        clear |= MOUNT_ATTR_ATIME
    packed = bytearray(struct.pack("=4Q", add, clear, propagation, 0))  # struct mount_attr
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _libc.syscall(_NR_MOUNT_SETATTR, fd, b"", flags, packed, len(packed))


def restricted(fd: int) -> int:
    """Of the mount that an opened file is on, what is forbidden: MOUNT_ATTR_NOSUID, NODEV, NOEXEC."""
    flags = os.fstatvfs(fd).f_flag
    found = MOUNT_ATTR_NOSUID if flags & os.ST_NOSUID else 0
    found |= MOUNT_ATTR_NODEV if flags & os.ST_NODEV else 0
    return found | (MOUNT_ATTR_NOEXEC if flags & os.ST_NOEXEC else 0)


def map_ids(tree: int, namespace: int, *, recursive: bool) -> None:
    """Have a detached tree show owners as a user namespace maps them (MOUNT_ATTR_IDMAP, Linux 5.12).

    EINVAL: its file system can't; EPERM: it isn't ours to say.
    """
    packed = bytearray(struct.pack("=4Q", _MOUNT_ATTR_IDMAP, 0, 0, namespace))
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _libc.syscall(_NR_MOUNT_SETATTR, tree, b"", flags, packed, len(packed))


def new(type: str, data: Sequence[tuple[str, str | None]], attributes: int = 0) -> int:
    """A detached mount of a new file system."""
    context = _libc.syscall(_NR_FSOPEN, os.fsencode(type), _FSOPEN_CLOEXEC)
    try:
        _configure(context, data, _FSCONFIG_CMD_CREATE)
        return _libc.syscall(_NR_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)


# The old call's flags that have the value of the new calls' attributes, and those that haven't.
_SAME = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
_OTHERS = (
    (MOUNT_ATTR_NOSYMFOLLOW, 1 << 8),
    (MOUNT_ATTR_NOATIME, 1 << 10),
    (MOUNT_ATTR_NODIRATIME, 1 << 11),
    (MOUNT_ATTR_STRICTATIME, 1 << 24),
)
_OF_FILE_SYSTEM = {"sync": 1 << 4, "mand": 1 << 6, "lazytime": 1 << 25}


def count_versions(tree: int, attributes: int, data: Sequence[tuple[str, str | None]]) -> None:
    """Have an attached file system count the changes of its inodes (mount(2), MS_I_VERSION).

    The new calls have nothing for it; the old one takes away what else isn't said again.
    """
    flags = _MS_REMOUNT | _MS_I_VERSION | attributes & _SAME
    for attribute, flag in _OTHERS:
        flags |= flag if attributes & attribute else 0
    for key, _ in data:
        flags |= _OF_FILE_SYSTEM.get(key, 0)
    _libc.call("mount", b"none", f"/proc/self/fd/{tree}".encode(), b"", flags, 0)


def reconfigure(place: int, data: Sequence[tuple[str, str | None]]) -> None:
    """Change the options of the file system that is mounted at an opened place."""
    flags = _FSPICK_CLOEXEC | _FSPICK_NO_AUTOMOUNT | _FSPICK_EMPTY_PATH
    context = _libc.syscall(_NR_FSPICK, place, b"", flags)
    try:
        _configure(context, data, _FSCONFIG_CMD_RECONFIGURE)
    finally:
        os.close(context)


def _configure(context: int, data: Sequence[tuple[str, str | None]], command: int) -> None:
    for key, value in data:
        kind = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
        argument: int | bytes = 0 if value is None else os.fsencode(value)
        _libc.syscall(_NR_FSCONFIG, context, kind, os.fsencode(key), argument, 0)
    _libc.syscall(_NR_FSCONFIG, context, command, 0, 0, 0)


def resolve(root: int, path: str, flags: int = os.O_PATH, resolve: int = RESOLVE_IN_ROOT) -> int:
    """Open a path inside an opened root: nothing on the way leads out (openat2(2)).

    A symlink is taken as a process whose root that is would take it; magic links are refused.
    """
    return _libc.open_inside(root, path, flags, resolve)


def ensure(root: int, path: str, *, directory: bool, resolve_flags: int = RESOLVE_IN_ROOT) -> int:
    """Open a path inside a root, made with all that leads there where it is missing."""
    try:
        return resolve(root, path, resolve=resolve_flags)
    except FileNotFoundError:
        pass
    parts = [part for part in path.split("/") if part]
    for count in range(1, len(parts) + 1):
        prefix = "/".join(parts[:count])
        try:
            os.close(resolve(root, prefix, resolve=resolve_flags))
        except FileNotFoundError:
            parent = resolve(root, "/".join(parts[: count - 1]), os.O_PATH | os.O_DIRECTORY)
            try:
                _make(parent, parts[count - 1], directory=directory or count < len(parts))
            finally:
                os.close(parent)
    return resolve(root, path, resolve=resolve_flags)


def _make(parent: int, name: str, *, directory: bool) -> None:
    if directory:
        os.mkdir(name, 0o755, dir_fd=parent)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=parent))


def is_directory(fd: int) -> bool:
    """Whether an opened file is one."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)
