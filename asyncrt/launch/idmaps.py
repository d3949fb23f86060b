"""Mounts whose files show other owners than the disk has (config.md, "Mounts": uidMappings).

The kernel takes the map of a user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP). One that is there
already is given by its path; for any other map one is made, in which nobody stays: a mount keeps it.
"""

from __future__ import annotations

import errno
import os

from asyncrt import _csignal, _libc
from asyncrt.launch import mounts, namespaces
from asyncrt.launch.failure import Failure, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.launch.plan import IdMaps, MountIdMap, MountPlan


def open_all(wanted: Sequence[MountPlan]) -> dict[str, int]:
    """The namespace of every mount that has a map, by its place in the config. Raises Failure.

    While /proc is of our own pid namespace, and with the privilege to write any map.
    """
    found: dict[str, int] = {}
    made: dict[str, int] = {}  # often all have the same one
    for mount in wanted:
        idmap = mount.get("idmap")
        if idmap is None:
            continue
        key = repr((idmap["path"], idmap["uid"], idmap["gid"]))
        if key not in made:
            made[key] = _open(mount["at"], idmap)
        found[mount["at"]] = made[key]
    return found


def _open(at: str, idmap: MountIdMap) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if idmap["path"]:
        with step(f"{at}: id map", idmap["path"]):
            fd = os.open(idmap["path"], flags)
            if _libc.ioctl(fd, namespaces.NS_GET_NSTYPE) != namespaces.CLONE_NEWUSER:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return fd
    theirs, ours = os.pipe()
    with step(f"{at}: id map", "clone"):
        pid = _libc.clone(namespaces.CLONE_NEWUSER)
    if pid == 0:
        os.close(ours)
        os.read(theirs, 1)  # until it is killed, or whoever made it has gone
        os._exit(0)
    os.close(theirs)
    try:
        maps: IdMaps = {
            "uid": idmap["uid"],
            "gid": idmap["gid"],
            "programs": ["", ""],
            "deny_setgroups": False,
        }
        namespaces.write_maps(pid, maps, f"{at}.")
        with step(f"{at}: id map", f"/proc/{pid}/ns/user"):
            return os.open(f"/proc/{pid}/ns/user", flags)
    finally:
        os.kill(pid, _csignal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ours)


def apply(tree: int, mount: MountPlan, namespace: int) -> None:
    """Have a bind's detached tree show the owners that its map says. Raises Failure."""
    try:
        mounts.map_ids(tree, namespace, recursive=mount["idmap"]["recursive"])
    except OSError as error:
        number = error.errno or errno.EIO
        why = " of a file system that takes none" if number == errno.EINVAL else ""
        raise Failure(f"{mount['at']}: id map{why}", mount["source"], number) from error
