"""Device nodes and links in /dev (runtime-spec, config-linux.md, "Default Devices")."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from asyncrt.launch import mounts
from asyncrt.launch.failure import Failure, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncrt.launch.plan import DevicePlan, RootPlan

_NULL = "/dev/null"
_NULL_NUMBER = os.makedev(1, 3)  # Documentation/admin-guide/devices.txt
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)


def real_null() -> int:
    """The host's /dev/null, checked to be it: what is bound over a mask must hide it."""
    with step("linux.maskedPaths", _NULL):
        fd = os.open(_NULL, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(fd)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NULL_NUMBER:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return fd


def clone_node(node: int) -> int:
    """A detached mount of a node of the host's, which is for use alone.

    Read-only keeps nobody from writing to a device, but root inside from taking it away from everybody
    on the host: chmod(2) and chown(2) would be of the host's own inode.
    """
    tree = mounts.clone_tree(node, "", recursive=False)
    try:
        mounts.change(tree, add=mounts.MOUNT_ATTR_RDONLY)
    except OSError:
        os.close(tree)
        raise
    return tree


def guard_null(fds: Iterable[int], ready: int = -1) -> None:
    """Have those that are the host's /dev/null open through a mount as `clone_node` makes it.

    Root inside could else change the node through its own /proc/self/fd. Who may not mount doesn't
    own the node either. `ready` is such a mount, -1: there is none yet. Raises Failure.
    """
    guarded = -1
    for fd in fds:
        found = os.fstat(fd)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NULL_NUMBER:
            continue
        with step("standard streams", _NULL):
            if guarded < 0:
                try:
                    tree = _clone_null(fd) if ready < 0 else ready
                except PermissionError:
                    return
                guarded = os.open(f"/proc/self/fd/{tree}", os.O_RDWR | os.O_CLOEXEC)
                if ready < 0:
                    os.close(tree)  # the kernel waits (RCU): once is enough
            os.dup2(guarded, fd, inheritable=False)
    if guarded >= 0:
        os.close(guarded)


def _clone_null(fd: int) -> int:
    try:
        return clone_node(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    # It was opened in another mount namespace, of which nothing can be cloned. Ours is the same.
    return clone_null()


def guarded_null() -> int:
    """A mount for sandboxes to open their /dev/null through; -1: we may make none.

    Who closes the last descriptor of one waits for the kernel, and so none of them has to.
    """
    try:
        return clone_null()
    except (OSError, Failure):
        return -1


def clone_null() -> int:
    """As `clone_node`, of the host's /dev/null. Raises OSError, and Failure if it isn't that."""
    own = real_null()
    try:
        return clone_node(own)
    finally:
        os.close(own)


def fill(root: int, plan: RootPlan) -> None:
    """Make the nodes and links. What is there already stays, if it is the same. Raises Failure."""
    for device in plan["devices"]:
        with step(device["at"], device["path"]):
            _make(root, device, bind=plan["bind_devices"])
    with step("default links", "/dev"):
        dev = mounts.resolve(root, "/dev", os.O_PATH | os.O_DIRECTORY)
        for name, target in _LINKS:
            with contextlib.suppress(FileExistsError):
                os.symlink(target, name, dir_fd=dev)
        os.close(dev)


def _make(root: int, device: DevicePlan, *, bind: bool) -> None:
    directory, _, name = device["path"].rpartition("/")
    parent = mounts.ensure(root, directory or "/", directory=True)
    number = os.makedev(*device["number"])
    try:
        if _is_there(parent, name, device["mode"], number, bind=bind):
            return
        if not bind or stat.S_ISFIFO(device["mode"]):
            try:
                os.mknod(name, device["mode"], number, dir_fd=parent)
            except PermissionError:
                bind = True  # in a container that may not, the host's serve as well
            else:
                bind = False
                os.chown(name, device["uid"], device["gid"], dir_fd=parent, follow_symlinks=False)
        if bind:
            _bind(parent, name, device, number)
    finally:
        os.close(parent)


def _is_there(parent: int, name: str, mode: int, number: int, *, bind: bool) -> bool:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if bind and stat.S_ISREG(found.st_mode):
        return False  # a place to bind at, as images have them
    if stat.S_IFMT(found.st_mode) != stat.S_IFMT(mode) or found.st_rdev != number:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    return True


def _bind(parent: int, name: str, device: DevicePlan, number: int) -> None:
    """Have the host's node there: the one of the same name, if it is the same device."""
    path = device["path"]
    node = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(node)
        if stat.S_IFMT(found.st_mode) != stat.S_IFMT(device["mode"]) or found.st_rdev != number:
            raise Failure(device["at"], path, errno.ENODEV)
        tree = clone_node(node)
    finally:
        os.close(node)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    os.close(os.open(name, flags, 0o644, dir_fd=parent))
    place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        mounts.attach(tree, place)
    finally:
        os.close(place)
        os.close(tree)
