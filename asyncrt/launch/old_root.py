"""The old root taken away: by pivot_root(2), or where the kernel refuses that, from an initramfs.

An initramfs is the top of every mount namespace and can't be unmounted. The new root is mounted on it
then and chrooted into, as runc's --no-pivot does. What keeps the old one out of reach:

- All that is mounted below it is unmounted. In a user namespace, which may not, its procfs and sysfs
  are covered: one that is fully visible would let a nested user namespace mount another, without what
  masks ours (mount_too_revealing() in fs/namespace.c).
- It is the top of the namespace, checked, so that ".." past the new root ends there: the kernel looks
  for a mount point that isn't the root of what it is in, and finds none (choose_mountpoint()).
- Who joins by setns(2) comes to the topmost mount on "/", which is the new root.
- Only CAP_SYS_ADMIN could unmount the new root: the plan refuses it. A nested user namespace has that,
  but there the mounts are locked to each other (mount_namespaces(7)).
"""

from __future__ import annotations

import errno
import os

from asyncrt import _durable, _libc
from asyncrt.launch import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_REVEALING = {"proc", "sysfs"}
# What mountinfo writes in octal (seq_path() in fs/seq_file.c); the backslash comes last.
_ESCAPES = ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\"))
_NOTHING = [("mode", "0555")]


def pivot(new: int, old: int) -> None:
    """Make the opened mount the root, and unmount the old one with all that is below it."""
    os.fchdir(new)
    _libc.call("pivot_root", b".", b".")
    os.fchdir(old)
    _libc.call("umount2", b".", mounts.MNT_DETACH)
    os.chdir("/")


def cover(new: int, old: int) -> None:
    """Make the opened mount, which lies on the old root, the root without pivot_root(2)."""
    table = {each.id: each for each in _mounted()}
    top = _mount_id(old)
    if top not in table or table[top].place != b"/":
        # A chroot inside a file system: what lies around it could be walked to.
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    inside = _mount_id(new)
    for each in reversed(table.values()):
        if each.id != top and not _is_below(each, inside, table):
            _take_away(each)
    os.fchdir(new)
    os.chroot(".")
    os.chdir("/")


class _Mount:
    """A line of mountinfo (proc(5))."""

    __slots__ = ("id", "parent", "place", "type")

    def __init__(self, line: bytes) -> None:
        fields, _, rest = line.partition(b" - ")
        number, parent, _, _, place, *_ = fields.split(b" ")
        self.id = int(number)
        self.parent = int(parent)
        for escaped, char in _ESCAPES:
            place = place.replace(escaped, char)
        self.place = place
        self.type = rest.split(b" ")[0].decode(errors="replace")


def _mounted() -> Iterator[_Mount]:
    """All that can be reached, what was mounted last behind what it was mounted on."""
    return map(_Mount, _durable.read("/proc/self/mountinfo").splitlines())


def _mount_id(fd: int) -> int:
    for line in _durable.read(f"/proc/self/fdinfo/{fd}").splitlines():
        if line.startswith(b"mnt_id:"):
            return int(line.split()[1])
    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def _is_below(mount: _Mount, top: int, table: dict[int, _Mount]) -> bool:
    found: _Mount | None = mount
    while found is not None and found.id != top:
        found = table.get(found.parent)
    return found is not None


def _take_away(mount: _Mount) -> None:
    try:
        _libc.call("umount2", mount.place, mounts.MNT_DETACH)
    except OSError as error:
        # EINVAL: locked to what it is mounted on.
        if error.errno not in {errno.EINVAL, errno.EPERM}:
            raise
        if mount.type in _REVEALING:
            _hide(mount)


def _hide(mount: _Mount) -> None:
    place = os.open(mount.place, os.O_PATH | os.O_CLOEXEC)
    if _mount_id(place) != mount.id:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))  # not to be seen under another mount
    if mounts.is_directory(place):
        tree = mounts.new("tmpfs", _NOTHING, mounts.MOUNT_ATTR_RDONLY)
        mounts.attach(tree, place)
        os.close(tree)
    os.close(place)
