"""A file system of a fixed size in a file: what bounds a layer on disk where nothing else can.

For root, as only root has loop devices. Everything of it goes by itself: the file has no name once it
is mounted, and the device is free again when the last mount of it is gone (LO_FLAGS_AUTOCLEAR).
"""

from __future__ import annotations

import errno
import os
import struct

from asyncrt import _libc
from asyncrt.launch import mounts
from asyncrt.launch.failure import Failure, step

_WHAT = "overlay (a file system of its size)"
_NAME = "image"
_CONTROL = "/dev/loop-control"
_TRIES = 32  # of a device that somebody else took meanwhile
_OUTPUT = 300  # bytes of what mkfs says that go into an error

# linux/loop.h
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_CONFIG = struct.Struct(
    "=II52xI176x64x"
)  # fd, block size, loop_info64 with its flags, reserved

# Nothing is to be saved after a crash, nor kept for root.
_OPTIONS = ("-q", "-F", "-O", "^has_journal", "-m", "0", "-E", "nodiscard")


def mount(directory: int, size: int, program: str) -> int:
    """A detached mount of a new one, its file in an opened directory; `program` is mkfs.ext4.

    The space is taken from the disk at once. Raises Failure.
    """
    with step(_WHAT, _NAME):
        file = os.open(
            _NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory
        )
    try:
        with step(_WHAT, _NAME):
            os.posix_fallocate(file, 0, size)
        _make(file, program)
        device, path = _attach(file)
        try:
            with step(_WHAT, path):
                return mounts.new("ext4", [("source", path)])
        finally:
            os.close(device)
    finally:
        os.close(file)
        os.unlink(_NAME, dir_fd=directory)


def _make(file: int, program: str) -> None:
    said = os.memfd_create("mkfs", os.MFD_CLOEXEC)
    try:
        with step(_WHAT, program):
            child = os.posix_spawn(
                program,
                [program, *_OPTIONS, "/proc/self/fd/0"],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, file, 0),
                    (os.POSIX_SPAWN_DUP2, said, 1),
                    (os.POSIX_SPAWN_DUP2, said, 2),
                ],
            )
        _, status = os.waitpid(child, 0)
        if status:
            text = os.pread(said, _OUTPUT, 0).decode(errors="replace").strip()
            raise Failure(_WHAT, " ".join(text.split()) or program, errno.EINVAL)
    finally:
        os.close(said)


def _attach(file: int) -> tuple[int, str]:
    """A loop device with that file behind it, opened, and its path. Raises Failure."""
    path = _CONTROL
    with step(_WHAT, path):
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            with step(_WHAT, _CONTROL):
                path = f"/dev/loop{_libc.ioctl(control, _LOOP_CTL_GET_FREE)}"
            with step(_WHAT, path):
                device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if _configure(device, path, file):
                return device, path
            os.close(device)
    finally:
        os.close(control)
    raise Failure(_WHAT, path, errno.EBUSY)


def _configure(device: int, path: str, file: int) -> bool:
    """Whether it is ours now; somebody else may have been faster. Raises Failure."""
    try:
        config = bytearray(_LOOP_CONFIG.pack(file, 0, _LO_FLAGS_AUTOCLEAR))
        _libc.ioctl(device, _LOOP_CONFIGURE, config)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        os.close(device)
        raise Failure(_WHAT, path, error.errno or errno.EIO) from error
    return True
