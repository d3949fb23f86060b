"""What a new process may do: put on before its program, in the order that the kernel asks for.

Of three calls, `before_user` needs all privileges of the user namespace, `after_user` what a change
of user leaves, and `seal` comes right before the exec. The order, and where it comes from:

- Bounding set before the user changes: dropping needs CAP_SETPCAP (capabilities(7), "Capability
  bounding set").
- Permitted set over the change by PR_SET_KEEPCAPS; effective and ambient are cleared by it, so they
  are set after it ("Effect of user ID changes on capabilities").
- Ambient last of the sets: the kernel takes only what is permitted and inheritable ("Ambient").
- Labels before no_new_privs, which lets AppArmor and SELinux refuse a change of label at the exec
  (Documentation/userspace-api/no_new_privs.rst); runc has the same order.
- The filter last of all, so that it has to allow as little as possible. Without no_new_privs, loading
  one needs CAP_SYS_ADMIN (seccomp(2)): it is kept until then and dropped right after, so such a
  filter has to allow capset(2), as under runc.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from asyncrt import _libc
from asyncrt.launch.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt.launch.plan import PrivilegePlan

# System calls without a name in Python: asm/unistd_64.h of x86_64, asm-generic/unistd.h of others.
if os.uname().machine in {"x86_64", "i686", "i386"}:  # the last two where personality(2) says so
    _PRCTL, _CAPGET, _CAPSET, _PERSONALITY, _KEYCTL = 157, 125, 126, 135, 250
    _IOPRIO_SET, _SCHED_SETATTR, _SECCOMP = 251, 314, 317
else:
    _PRCTL, _CAPGET, _CAPSET, _PERSONALITY, _KEYCTL = 167, 90, 91, 92, 219
    _IOPRIO_SET, _SCHED_SETATTR, _SECCOMP = 30, 274, 277

# linux/prctl.h
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAPABILITY_HEADER = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
_CAPABILITY_SETS = struct.Struct("=6I")
_SYS_ADMIN = 1 << 21
_LOW = 2**32 - 1

_KEYCTL_JOIN_SESSION_KEYRING = 1
_IOPRIO_WHO_PROCESS = 1
_SECCOMP_SET_MODE_FILTER = 1


def join_initial_cpus(plan: PrivilegePlan) -> None:
    """Run an exec'd process where it may until it is in its cgroup. Raises Failure."""
    _run_on(plan, 0, "initial")


def before_user(plan: PrivilegePlan, proc: int | None = None) -> None:
    """What needs the privileges that a change of user takes away. Raises Failure.

    `proc` is an open directory of a procfs that is known to be one; a container's own /proc may be
    anything (CVE-2025-52881).
    """
    _run_on(plan, 1, "final")
    _attempt("process.scheduler", "", lambda: _schedule(plan))
    priority = plan["io_priority"]
    if priority is not None:
        _attempt(
            "process.ioPriority",
            f"{priority >> 13}:{priority & 0x1FFF}",
            lambda: _libc.syscall(_IOPRIO_SET, _IOPRIO_WHO_PROCESS, 0, priority),
        )
    domain = plan["personality"]
    if domain is not None:
        _attempt("linux.personality", f"{domain:#x}", lambda: _libc.syscall(_PERSONALITY, domain))
    _attempt("session keyring", "", lambda: _leave_keyring(plan))
    profile, label = plan["apparmor"], plan["selinux"]
    if profile is not None:
        _attempt("process.apparmorProfile", profile, lambda: _write_profile(profile, proc))
    if label is not None:
        _attempt("process.selinuxLabel", label, lambda: _write_attribute("exec", label, proc))
    _attempt("process.capabilities.bounding", "", lambda: _bound(plan["capabilities"][0]))
    _libc.syscall(_PRCTL, _PR_SET_KEEPCAPS, 1, 0, 0, 0)


def after_user(plan: PrivilegePlan, *, no_new_privs: bool) -> None:
    """The capability sets, now that the user is the final one. Raises Failure.

    Of what is wished for a process gets what it has (config.md, capabilities: what can't be granted
    isn't to fail).
    """
    _libc.syscall(_PRCTL, _PR_SET_KEEPCAPS, 0, 0, 0, 0)
    extra = _SYS_ADMIN if plan["seccomp"] is not None and not no_new_privs else 0
    _attempt("process.capabilities", "", lambda: _limit(plan["capabilities"], extra))


def seal(plan: PrivilegePlan, *, no_new_privs: bool) -> None:
    """Load the filter. Only an exec may follow. Raises Failure."""
    encoded = plan["seccomp"]
    if encoded is None:
        return
    program = bytearray.fromhex(encoded)
    place = (ctypes.c_char * len(program)).from_buffer(program)
    # struct sock_fprog
    arguments = bytearray(struct.pack("@HP", len(program) // 8, ctypes.addressof(place)))
    flags = plan["seccomp_flags"]
    drop = _sets(plan["capabilities"], 0) if not no_new_privs else None
    _attempt(
        "linux.seccomp",
        "",
        lambda: _libc.syscall(_SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, arguments),
    )
    if drop is not None:
        _attempt("process.capabilities", "", lambda: _set(drop))


def _attempt(what: str, path: str, step: Callable[[], object]) -> None:
    try:
        step()
    except OSError as error:
        raise Failure(what, path, error.errno or errno.EIO) from error


def _run_on(plan: PrivilegePlan, which: int, name: str) -> None:
    cpus = plan["affinity"][which]
    if cpus:
        shown = ",".join(map(str, cpus))
        _attempt(f"process.execCPUAffinity.{name}", shown, lambda: os.sched_setaffinity(0, cpus))


def _schedule(plan: PrivilegePlan) -> None:
    wanted = plan["scheduler"]
    if wanted is not None:
        policy, flags, nice, priority, runtime, deadline, period = wanted
        # struct sched_attr, in its first size
        _libc.syscall(
            _SCHED_SETATTR,
            0,
            struct.pack("=IIQiIQQQ", 48, policy, flags, nice, priority, runtime, deadline, period),
            0,
        )


def _leave_keyring(plan: PrivilegePlan) -> None:
    """Take a session keyring of our own: the one we came with is the launcher's."""
    try:
        _libc.syscall(_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, 0)
    except OSError as error:
        # No keyrings in this kernel; or as many of this user as may be, where the filter is enough.
        if error.errno != errno.ENOSYS and not (
            plan["keys_denied"] and error.errno == errno.EDQUOT
        ):
            raise


def _write_profile(profile: str, proc: int | None) -> None:
    try:
        _write_attribute("apparmor/exec", f"exec {profile}", proc)
    except FileNotFoundError:  # before Linux 5.8
        _write_attribute("exec", f"exec {profile}", proc)


def _write_attribute(name: str, text: str, proc: int | None) -> None:
    flags = os.O_WRONLY | os.O_CLOEXEC
    if proc is None:
        fd = os.open(f"/proc/thread-self/attr/{name}", flags)
    else:
        fd = os.open(f"thread-self/attr/{name}", flags, dir_fd=proc)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _bound(wanted: int) -> None:
    for number in range(64):
        if wanted >> number & 1:
            continue
        try:
            _libc.syscall(_PRCTL, _PR_CAPBSET_DROP, number, 0, 0, 0)
        except OSError as error:
            if error.errno == errno.EINVAL:  # above what this kernel knows
                return
            if _libc.syscall(_PRCTL, _PR_CAPBSET_READ, number, 0, 0, 0):
                raise


def _sets(wanted: list[int], extra: int) -> bytes:
    """The data of capset(2): what is wished for and can be had; `extra` too."""
    found = bytearray(_CAPABILITY_SETS.size)
    _libc.syscall(_CAPGET, _CAPABILITY_HEADER, found)
    words = _CAPABILITY_SETS.unpack(found)
    permitted_now = words[1] | words[4] << 32
    inheritable_now = words[2] | words[5] << 32
    bounding, effective, permitted, inheritable, _ = wanted
    permitted = (permitted | extra) & permitted_now
    effective = (effective | extra) & permitted
    inheritable &= inheritable_now | (permitted_now & bounding)
    sets = (effective, permitted, inheritable)
    return _CAPABILITY_SETS.pack(*(each & _LOW for each in sets), *(each >> 32 for each in sets))


def _set(data: bytes) -> None:
    _libc.syscall(_CAPSET, _CAPABILITY_HEADER, data)


def _limit(wanted: list[int], extra: int) -> None:
    data = _sets(wanted, extra)
    _set(data)
    _, permitted, inheritable, _, permitted_high, inheritable_high = _CAPABILITY_SETS.unpack(data)
    may = permitted & inheritable | (permitted_high & inheritable_high) << 32
    _libc.syscall(_PRCTL, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    ambient = wanted[4] & may & wanted[2]
    for number in range(ambient.bit_length()):
        if ambient >> number & 1:
            _libc.syscall(_PRCTL, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0)
