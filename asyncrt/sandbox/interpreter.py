"""The interpreter that fork servers run: one that nothing inside a container can write to.

What waits at a gate, or joins a container, has the host's interpreter for its /proc/PID/exe, and a
container may have itself executed by that name. Whoever then opens it for writing as the host's
root, or as the user whose interpreter it is, writes the host's file (CVE-2019-5736). So it is
executed from a read-only mount of its own, which such a link leads to, or where we may not mount
but could write, from a sealed copy in memory.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from typing import TYPE_CHECKING

from asyncrt import _libc
from asyncrt.launch import mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("asyncrt.sandbox")

_LOWEST = 10  # a descriptor above all that a new process gets
_F_ADD_SEALS = 1033  # fcntl(2)
_SEALS = 0xF  # against sealing, shrinking, growing, writing
_MFD_EXEC = 0x10  # memfd_create(2), Linux 6.3
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@contextlib.contextmanager
def guarded() -> Iterator[str]:
    """A path to execute it by, for as long as the block lasts.

    Raises OSError for want of descriptors or memory, which may be had at the next try.
    """
    found = os.path.realpath(sys.executable)
    fd, path = -1, ""
    try:
        try:
            fd, path = _mounted_read_only(found)
        except OSError:
            if os.access(found, os.W_OK):
                fd = _above(_copy(found))
    except OSError as error:
        if error.errno in _PASSING:
            raise  # what it starts would stay unguarded for as long as its engine lives
        _log.warning("the interpreter %s can't be guarded: %s", found, error)
    try:
        yield sys.executable if fd < 0 else f"/proc/self/fd/{fd}{path}"
    finally:
        if fd >= 0:
            os.close(fd)


def _mounted_read_only(path: str) -> tuple[int, str]:
    """What is mounted where it is, once more, read-only and in no namespace's tree; the path there.

    Raises OSError without the privilege.
    """
    top = os.path.dirname(path)
    while not os.path.ismount(top):
        top = os.path.dirname(top)
    if top != "/":
        _refuse_origin(path)  # it would find itself at another path
    fd = mounts.clone_path(top, recursive=False)
    try:
        mounts.change(fd, add=mounts.MOUNT_ATTR_RDONLY, propagation=mounts.MS_PRIVATE)
        return _above(fd), f"/{os.path.relpath(path, top)}"
    except OSError:
        os.close(fd)
        raise


def _refuse_origin(path: str) -> None:
    """Raise OSError for a program that finds its libraries by its own place (ld.so(8), $ORIGIN)."""
    with open(path, "rb") as program:
        if b"$ORIGIN" in program.read():
            raise OSError(errno.ENOTSUP, "it has to be executed where it is", path)


def _copy(path: str) -> int:
    """In memory, sealed. The pages are shared by all that a fork server forks."""
    _refuse_origin(path)
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("python", flags | _MFD_EXEC)
    except OSError:
        fd = os.memfd_create("python", flags)
    try:
        with open(path, "rb") as source:
            while os.sendfile(fd, source.fileno(), None, 1 << 30):
                pass
        os.fchmod(fd, 0o555)
        _libc.call("fcntl", fd, _F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def _above(fd: int) -> int:
    """The same, at a number that no new process's streams have."""
    lower = []
    while fd < _LOWEST:
        lower.append(fd)
        try:
            fd = os.dup(fd)
        except OSError:
            _close(lower)
            raise
    _close(lower)
    return fd


def _close(fds: list[int]) -> None:
    for each in fds:
        os.close(each)
