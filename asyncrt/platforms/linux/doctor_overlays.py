"""The doctor's look at overlays: the kernel's, tried as this user, and what serves one in its stead."""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys

from asyncrt.launch import fuse
from asyncrt.platforms.linux.finding import Finding

# In a process of its own, as machine.try_namespaces: an overlay in memory, over a directory there and
# over / with all that is mounted below it, in new namespaces that an ordinary user owns.
_TRY = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def errno(result):
    return ctypes.get_errno() if result else 0
def write(path, text):
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, text.encode())
    os.close(fd)
def overlay(lower):
    text = f"lowerdir={lower},upperdir=/sys/upper,workdir=/sys/work{options}"
    return errno(libc.mount(b"overlay", b"/sys/place", b"overlay", 0, text.encode()))
options, ids = "", (os.geteuid(), os.getegid())
if ids[0]:
    options = ",userxattr"
    failed = errno(libc.unshare(0x10020000))
    if not failed:
        write("/proc/self/setgroups", "deny")
        for kind, id in zip(("uid", "gid"), ids):
            write(f"/proc/self/{kind}_map", f"0 {id} 1")
else:
    failed = errno(libc.unshare(0x20000))
failed = failed or errno(libc.mount(None, b"/", None, 0x84000, None))
failed = failed or errno(libc.mount(b"none", b"/sys", b"tmpfs", 0, None))
found = [failed, failed]
if not failed:
    for name in ("lower", "upper", "work", "place"):
        os.mkdir(f"/sys/{name}")
    try:
        os.setxattr("/sys/upper", ("user" if ids[0] else "trusted") + ".overlay.asyncrt", b"y")
        found = [overlay("/sys/lower"), overlay("/")]
    except OSError as error:
        found = [error.errno, error.errno]
print(json.dumps(found))
"""


@functools.cache
def try_kernels() -> tuple[int, int]:
    """The errnos of an overlay of the kernel's: over some directory, and over /; 0 where it works."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _TRY], capture_output=True, text=True, check=False
    )
    try:
        over_some, over_root = json.loads(done.stdout)
    except ValueError:
        return errno.EIO, errno.EIO
    return over_some, over_root


def try_fuse() -> int:
    """The errno of opening /dev/fuse, 0 where it works."""
    try:
        os.close(os.open(fuse.DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def overlays() -> list[Finding]:
    """What there is for `overlay=`; one of the two is enough for most."""
    return [_kernels(), _served()]


def kinds() -> list[str]:
    """Which of the two can be had here by this user."""
    found = [] if try_kernels()[0] else ["kernel"]
    return found if try_fuse() or not fuse.program() else [*found, fuse.PROGRAM]


def _kernels() -> Finding:
    over_some, over_root = try_kernels()
    if over_some:
        mend = f"see {fuse.PROGRAM}, which does without"
        if over_some == errno.ENODEV:
            mend = "modprobe overlay"
        return Finding("overlays", "limited", f"none: {os.strerror(over_some)}", mend)
    if over_root:
        return Finding("overlays", "ok", "the kernel's, not over / or what has mounts below", "")
    return Finding("overlays", "ok", "the kernel's, over / too", "")


def _served() -> Finding:
    path = fuse.program()
    if not path:
        found = "isn't there, for where the kernel makes no overlay"
        return Finding(fuse.PROGRAM, "limited", found, fuse.INSTALL)
    number = try_fuse()
    if number:
        found = f"can't be used: {fuse.DEVICE}: {os.strerror(number)}"
        return Finding(fuse.PROGRAM, "limited", found, fuse.mend(number))
    return Finding(fuse.PROGRAM, "ok", path, "")
