"""What an image has at a place, copied into the tmpfs that is to cover it (config.md, "tmpcopyup").

Everything is reached by name below an open directory, and no link is followed: what the image holds
was chosen by somebody else.
"""

from __future__ import annotations

import errno
import os
import stat

from asyncrt.launch.failure import step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 30
_NOT_THERE = {errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENOSPC}


def copy(place: int, tree: int, at: str, path: str, *, keep_top: bool) -> None:
    """Copy all that a directory has into another, which is empty. Raises Failure.

    `keep_top`: the other has an owner and a mode of its own. Both descriptors may be O_PATH; `at` and
    `path` are the mount's, for the error.
    """
    # Not by recursion: how deep an image goes is its maker's choice. Here descriptors end it.
    stack: list[_Level] = []
    try:
        with step(at, path):
            stack.append(
                _Level(
                    os.open(".", _DIRECTORY, dir_fd=place),
                    os.open(".", _DIRECTORY, dir_fd=tree),
                    path,
                )
            )
        while stack:
            level = stack[-1]
            name = next(level.names, None)
            if name is not None:
                with step(at, f"{level.path}/{name}"):
                    below = _copy(level, name)
                if below is not None:
                    stack.append(below)
                continue
            if len(stack) > 1 or not keep_top:
                with step(at, level.path):
                    _keep(level.source, level.target)
            stack.pop().close()
    finally:
        for level in stack:
            level.close()


class _Level:
    """A directory on its way."""

    __slots__ = ("names", "path", "source", "target")

    def __init__(self, source: int, target: int, path: str) -> None:
        self.source = source
        self.target = target
        self.path = path
        self.names: Iterator[str] = iter(os.listdir(source))

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


def _copy(level: _Level, name: str) -> _Level | None:
    """Copy one thing; a directory's level, whose turn comes next."""
    found = os.stat(name, dir_fd=level.source, follow_symlinks=False)
    mode = found.st_mode
    if stat.S_ISDIR(mode):
        source = os.open(name, _DIRECTORY, dir_fd=level.source)
        os.mkdir(name, 0o700, dir_fd=level.target)
        target = os.open(name, _DIRECTORY, dir_fd=level.target)
        return _Level(source, target, f"{level.path}/{name}")
    if stat.S_ISREG(mode):
        _copy_file(level, name)
        return None
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=level.source), name, dir_fd=level.target)
    else:
        os.mknod(name, stat.S_IFMT(mode) | 0o600, found.st_rdev, dir_fd=level.target)
    owned = _own(name, found, level.target)
    if not stat.S_ISLNK(mode):
        # Made by us just now, in a file system that nobody else can reach: it is no link.
        os.chmod(name, _mode(found, owned=owned), dir_fd=level.target)
    return None


def _copy_file(level: _Level, name: str) -> None:
    source = os.open(name, _READ, dir_fd=level.source)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))  # another by now
        target = os.open(name, _MAKE, 0o600, dir_fd=level.target)
        try:
            while os.sendfile(target, source, None, _CHUNK):
                pass
            _keep(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _keep(source: int, target: int) -> None:
    """Owner, mode, extended attributes and times of what is open."""
    found = os.fstat(source)
    owned = _own(target, found)
    os.fchmod(target, _mode(found, owned=owned))
    if owned:
        _keep_attributes(source, target)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _own(target: int | str, found: os.stat_result, dir_fd: int | None = None) -> bool:
    """Give it its owner. What belongs to an id that this user namespace hasn't stays ours: False."""
    try:
        if isinstance(target, int):
            os.fchown(target, found.st_uid, found.st_gid)
        else:
            os.chown(target, found.st_uid, found.st_gid, dir_fd=dir_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.EPERM}:
            return False
        raise
    return True


def _mode(found: os.stat_result, *, owned: bool) -> int:
    """A program that would run as its owner doesn't run as another one."""
    mode = stat.S_IMODE(found.st_mode)
    return mode if owned else mode & ~(stat.S_ISUID | stat.S_ISGID)


def _keep_attributes(source: int, target: int) -> None:
    """Those that a tmpfs takes, and that we may set."""
    try:
        names = os.listxattr(source)
    except OSError:
        return
    for name in names:
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
