"""Taking away a directory that a container has filled: whatever is in it, however deep it is."""

from __future__ import annotations

import errno
import os
import stat

from asyncrt import _libc
from asyncrt.launch import frames, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}
# What a path is refused with, beside ENOENT, that nothing can be at.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def serve(peer: _socket.socket) -> None:
    """Clear a directory for an engine, as the root of a user namespace, whose files aren't its user's."""
    message, _ = frames.receive_message(peer)
    # The process that this one leaves behind stays as long as it does, by this socket.
    waiting = namespaces.go_on(namespaces.CLONE_NEWUSER, message["maps"], _libc.clone)
    namespaces.become_owner(*message["ids"])
    why = ""
    try:
        clear(message["path"])
    except OSError as error:
        why = os.strerror(error.errno or 0)
    frames.send(peer, frames.encode({"why": why}))
    waiting.close()


def clear(path: str) -> None:
    """Remove a directory with all in it; one that isn't there, or can't be, is fine. Raises OSError.

    Nobody may be using it any more. Follows no link. What is further down is moved up to the top
    first, so that neither a depth beyond any path's length nor one beyond any number of descriptors
    is in the way.
    """
    try:
        top = _open(path, None)
    except OSError as error:
        if error.errno in _NOT_THERE and not os.path.lexists(path):
            return
        raise
    try:
        number = 0
        while names := _some(top):
            for name in names:
                number = _remove(top, name, number)
    finally:
        os.close(top)
    os.rmdir(path)


def _remove(top: int, name: str, number: int) -> int:
    """Remove one entry of the top directory, what it holds having become the top's.

    `number` counts the names that were tried for that; the next one is returned.
    """
    if _unlink(name, top):
        return number
    directory = _open(name, top)
    try:
        while names := _some(directory):
            for each in names:
                if _unlink(each, directory):
                    continue
                _allow(each, directory)
                number = _move_up(each, directory, top, number)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=top)
    return number


def _move_up(name: str, directory: int, top: int, number: int) -> int:
    while True:
        number += 1
        try:
            os.rename(name, f"{number}~", src_dir_fd=directory, dst_dir_fd=top)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return number


def _some(directory: int) -> list[str]:
    """A few of its names: there may be more than is good to have at once."""
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            found.append(entry.name)
            if len(found) == 1024:
                break
    return found


def _unlink(name: str, directory: int) -> bool:
    """Whether it is no directory, and gone."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in {errno.EISDIR, errno.EPERM}:
            raise
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise
        return False
    return True


def _open(name: str, directory: int | None) -> int:
    """A directory whose mode keeps its owner out is given another."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=directory)
        if os.fstat(fd).st_mode & stat.S_IRWXU == stat.S_IRWXU:
            return fd
        os.close(fd)
    except PermissionError:
        pass
    _allow(name, directory)
    return os.open(name, _DIRECTORY, dir_fd=directory)


def _allow(name: str, directory: int | None) -> None:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(name, 0o700, dir_fd=directory)
