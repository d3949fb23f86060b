"""Where the kernel makes no overlay: arranged in a child's own mount namespace, and gone with it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from asyncrt.launch import fuse, mounts, namespaces
from tests.helpers.sandboxes import USER

HIDDEN = "mounted-later"  # in what is mounted on `data` of an ordinary user's root


def enter(who: str, rootfs: str, uid: int = 0, gid: int = 0, *, device_mode: int = 0o666) -> None:
    """Be, as that one from here on, where the kernel refuses an overlay over that root file system.

    Root's is an overlay over an overlay, the deepest that there can be; an ordinary user's has a mount
    below it, which isn't for the user to take away. /dev/fuse is one that the mode lets open.
    """
    alone()
    fuse_device(os.path.dirname(rootfs), device_mode)
    if who == USER:
        tree = mounts.new("tmpfs", [])
        mounts.attach(tree, _place(f"{rootfs}/data"))
        with open(f"{rootfs}/data/{HIDDEN}", "x", encoding="ascii") as file:
            file.write("not in it\n")
        become(uid, gid)
    else:
        stack(rootfs)
        stack(rootfs)


def alone() -> None:
    """Be in a mount namespace of our own, from which nothing gets out."""
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.change(_place("/"), propagation=mounts.MS_PRIVATE, recursive=True)


def fuse_device(directory: str, mode: int) -> None:
    """Have a /dev/fuse of that mode, whatever the machine's is like; the directory is used for it."""
    place = f"{directory}/device"
    os.makedirs(place, exist_ok=True)
    mounts.attach(mounts.new("tmpfs", [("mode", "0755")]), _place(place))
    os.mknod(f"{place}/fuse", 0o20000, os.makedev(10, 229))
    os.chmod(f"{place}/fuse", mode)
    cover(fuse.DEVICE, f"{place}/fuse")


def cover(path: str, source: str) -> None:
    """Have another file there."""
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    mounts.attach(mounts.clone_path(source, recursive=False), target)
    os.close(target)


def mount(type: str, path: str) -> None:
    """Have a new file system there."""
    mounts.attach(mounts.new(type, []), _place(path))


def stack(path: str, upper: str = "", work: str = "") -> None:
    """Mount an overlay of what is there on it; without an upper directory it is read-only."""
    empty = f"{path}.empty"  # a second one, without which it would have to be written to
    os.makedirs(empty, exist_ok=True)
    lower = [path] if upper else [path, empty]
    options: list[tuple[str, str | None]] = [("source", "stack"), ("lowerdir", ":".join(lower))]
    if upper:
        options += [("upperdir", upper), ("workdir", work)]
    mounts.attach(mounts.new("overlay", options), _place(path))


def become(uid: int, gid: int) -> None:
    """Be an ordinary user."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def main(arguments: Sequence[str]) -> list[str]:
    """As `enter`, by the first four of a child's arguments; the rest of them."""
    who, rootfs, uid, gid, *rest = arguments
    enter(who, rootfs, int(uid), int(gid))
    return rest


def _place(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
