"""What kind of file system a path is on, which decides whether file work may run on the loop.

Memory-backed: short file work is cheaper inline than a hop to a worker thread. Disk: it hops.
Network: it hops, and may hang for long. Unknown counts as disk.
"""

from __future__ import annotations

import os
from typing import Literal

Kind = Literal["memory", "disk", "network"]

_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_NETWORK = frozenset(
    {
        "9p",
        "acfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse",
        "fuseblk",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "panfs",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
        "vmhgfs",
    }
)

# The kernel makes up what is in these: a directory there is no place to write files to, and making one
# makes something else, a cgroup or a tracer say.
_MADE_UP = frozenset(
    {
        "autofs",
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "cpuset",
        "debugfs",
        "devpts",
        "efivarfs",
        "functionfs",
        "fusectl",
        "hugetlbfs",
        "mqueue",
        "nfsd",
        "proc",
        "pstore",
        "resctrl",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "smackfs",
        "sysfs",
        "tracefs",
    }
)

# A device number can be given to another file system after an unmount; a stale answer then costs
# speed, never correctness, and a look at mountinfo for every file would cost more.
_known: dict[int, Kind] = {}


def kind_of(path: str | os.PathLike[str] | int) -> Kind:
    """The kind of file system that an existing path or an open descriptor is on.

    Raises OSError as stat(2) does.
    """
    device = os.stat(path).st_dev
    kind = _known.get(device)
    if kind is None:
        kind = _known[device] = _classify(_type_of(device, _mounts()))
    return kind


def made_up(path: str) -> str:
    """The type of the file system that a path is on, or would be, if the kernel makes up its files.

    "" for every other, and where that can't be told. Blocks.
    """
    while path:
        try:
            found = _type_of(os.stat(path).st_dev, _mounts())
        except (FileNotFoundError, NotADirectoryError):
            path = os.path.dirname(path)
        except OSError:
            break
        else:
            return found if found in _MADE_UP else ""
    return ""


def _mounts() -> bytes:
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            return file.read()
    except OSError:
        return b""  # no /proc here


def _type_of(device: int, mountinfo: bytes) -> str:
    # proc(5), mountinfo: "36 35 98:0 /root /mount options [tags ...] - type source options". Btrfs
    # shows other device numbers in stat than here, and so is unknown.
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(b" - ")
        fields = left.split(b" ", 3)
        if separator and len(fields) > 3 and fields[2] == wanted:
            return right.split(b" ", 1)[0].decode(errors="replace")
    return ""


def _classify(fs_type: str) -> Kind:
    if fs_type in _MEMORY:
        return "memory"
    if fs_type in _NETWORK or fs_type.startswith("fuse."):
        return "network"
    return "disk"
