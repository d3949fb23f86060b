"""What this machine's kernel has, asked and never inferred from its version. Each is asked once."""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import pwd
import struct
import subprocess
import sys

from asyncrt import _libc
from asyncrt.oci import words
from asyncrt.platforms.linux.syscalls import ARCHITECTURES, machine_architectures, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_GET_ACTION_AVAIL = 2
_UNKNOWN = -1  # a number that no kernel has a system call for


@functools.cache
def _seccomp_number() -> int:
    names = machine_architectures()
    return numbers(ARCHITECTURES[names[0]].column)["seccomp"] if names else _UNKNOWN


@functools.cache
def last_capability() -> int:
    """The highest number of a capability that this kernel knows."""
    try:
        with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return max(words.CAPABILITIES.values())


@functools.cache
def has_apparmor() -> bool:
    """Whether AppArmor is there and on."""
    return _reads("/sys/module/apparmor/parameters/enabled", b"Y")


@functools.cache
def has_selinux() -> bool:
    """Whether SELinux is there and on: it has its file system then."""
    try:
        with open("/proc/filesystems", "rb") as file:
            known = any(line.split()[-1:] == [b"selinuxfs"] for line in file)
    except OSError:
        return False
    return known and os.path.exists("/sys/fs/selinux/enforce")


def _reads(path: str, expected: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read().strip() == expected
    except OSError:
        return False


@functools.cache
def has_seccomp() -> bool:
    """Whether this kernel takes seccomp filters (CONFIG_SECCOMP_FILTER)."""
    return _try_filter(0) not in _ABSENT


@functools.cache
def has_seccomp_flag(flag: int) -> bool:
    """Whether this kernel knows a flag of SECCOMP_SET_MODE_FILTER."""
    return _try_filter(flag) not in _ABSENT


# What a call that there is not, or isn't to be had, fails with. Want of memory, say, is no answer, and
# would be remembered as one: then it counts as there, and the launch tells what fails.
_ABSENT = {errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EACCES}


def _try_filter(flags: int) -> int:
    """The errno for a filter that isn't there: EFAULT where the rest is right (seccomp(2))."""
    try:
        _libc.syscall(_seccomp_number(), _SECCOMP_SET_MODE_FILTER, flags, 0)
    except OSError as error:
        return error.errno or 0
    return 0


@functools.cache
def has_seccomp_action(value: int) -> bool:
    """Whether this kernel knows what a filter may return."""
    action = bytearray(ctypes.c_uint32(value))
    try:
        _libc.syscall(_seccomp_number(), _SECCOMP_GET_ACTION_AVAIL, 0, action)
    except OSError as error:
        return error.errno not in {errno.EOPNOTSUPP, *_ABSENT}
    return True


def try_call(number: int, *arguments: int | bytes) -> int:
    """The errno of a system call with arguments that are wrong; ENOSYS where there is none."""
    try:
        _libc.syscall(number, *arguments)
    except OSError as error:
        return error.errno or 0
    return 0


_MOUNT_SETATTR = 442  # on every architecture
_AT_EMPTY_PATH = 0x1000
_MOUNT_ATTR_IDMAP = 0x100000
_NO_DESCRIPTOR = 2**31 - 1


@functools.cache
def has_mapped_mounts() -> bool:
    """Whether this kernel can map the ids of a mount (mount_setattr(2), Linux 5.12).

    EBADF: it has looked for the user namespace, and so knows what for.
    """
    wanted = struct.pack("=4Q", _MOUNT_ATTR_IDMAP, 0, 0, _NO_DESCRIPTOR)
    return try_call(_MOUNT_SETATTR, -1, b"", _AT_EMPTY_PATH, wanted, len(wanted)) == errno.EBADF


# In a process of its own: there is no way back out of a namespace. A procfs in new namespaces shows
# whether the one here is whole: a container's is often covered in parts, and then no other may be
# mounted (mount_too_revealing() in fs/namespace.c).
_TRY_NAMESPACES = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def errno(result):
    return ctypes.get_errno() if result else 0
def proc():
    libc.mount(None, b"/", None, 0x84000, None)
    return errno(libc.mount(b"proc", b"/proc", b"proc", 0, None))
found = {}
for name, flag in json.loads(sys.argv[1]).items():
    found[name] = errno(libc.unshare(flag))
    if name == "user" and found[name]:
        break
# Without a mount namespace of its own it would be mounted for all.
if found.get("mnt") == 0 and found.get("pid") == 0:
    pid = os.fork()
    if pid == 0:
        os._exit(proc())
    found["proc"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps(found))
"""
_KILLED = {"user": errno.EIO}


def try_namespaces(kinds: Mapping[str, int]) -> dict[str, int]:
    """The errno of making each of these namespaces (CLONE_NEW*) in their order, 0 where it works.

    If "user" fails the others aren't tried. With "mnt" and "pid", "proc" is that of mounting one
    there.
    """
    command = [sys.executable, "-I", "-S", "-c", _TRY_NAMESPACES, json.dumps(kinds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: dict[str, int] = json.loads(done.stdout)
    except ValueError:
        return _KILLED  # by a filter
    return found


def parameter(path: str) -> str:
    """A kernel parameter's value, by its path below /proc/sys; "" where there is none."""
    try:
        with open(f"/proc/sys/{path}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def tells_exit_status() -> bool:
    """Whether the kernel still knows the status of a process that was reaped (PIDFD_INFO_EXIT)."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", ""], {})
    pidfd = os.pidfd_open(pid)
    try:
        os.waitpid(pid, 0)
        return _libc.exit_status(pidfd) is not None
    finally:
        os.close(pidfd)


def user_name() -> str:
    """The calling user's name, or its number where it has none."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return str(uid)
