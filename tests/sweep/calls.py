"""Which system calls change anything, and what their man pages let them fail with.

Mutating is what creates, changes, renames or removes a file, a socket, a mount, a cgroup or a
process, sends a signal or writes to a socket. What only changes a process's own memory, descriptors
(dup, close, fcntl), signal handlers or timers is not.
"""

from __future__ import annotations

import os
import platform
import signal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SUPPORTED = platform.machine() == "x86_64"  # the numbers below are this one's

_CREATES = os.O_CREAT | os.O_TRUNC
_O_TMPFILE = 0o20000000
_CLONE_THREAD = 0x10000
_PR_SETS = {1, 4, 36, 38}  # PDEATHSIG, DUMPABLE, CHILD_SUBREAPER, NO_NEW_PRIVS


class Call(NamedTuple):
    """One kind of mutating call: its name, and the errnos that its man page lists."""

    name: str
    errnos: tuple[str, ...] = ()


def _call(names: str, *errnos: str) -> list[Call]:
    return [Call(name, errnos) for name in names.split()]


# The errnos of section 2 of the man pages, of those that a machine at its limits gives.
_BY_NAME = {
    call.name: call
    for call in (
        *_call("open openat openat2 creat", "EINTR", "EMFILE", "ENOMEM", "ENOSPC"),
        *_call("write pwrite64 writev pwritev pwritev2", "EINTR", "EIO", "ENOSPC"),
        *_call("fsync fdatasync", "EINTR", "EIO", "ENOSPC"),
        *_call("rename renameat renameat2", "ENOMEM", "ENOSPC"),
        *_call("unlink unlinkat rmdir", "EIO", "ENOMEM"),
        *_call("mkdir mkdirat mknod mknodat", "ENOMEM", "ENOSPC"),
        *_call("link linkat symlink symlinkat", "EIO", "ENOMEM", "ENOSPC"),
        *_call("chmod fchmod fchmodat chown fchown lchown fchownat", "EIO", "ENOMEM"),
        *_call("truncate ftruncate", "EINTR", "EIO"),
        *_call("fallocate", "EINTR", "EIO", "ENOSPC"),
        *_call("utimensat setxattr fsetxattr", "ENOSPC"),
        *_call("socket", "EMFILE", "ENOMEM"),
        *_call("socketpair", "EMFILE"),
        *_call("pipe pipe2", "EMFILE"),
        *_call("memfd_create", "EMFILE", "ENOMEM"),
        *_call("bind", "ENOMEM"),
        *_call("listen shutdown setsockopt"),
        *_call("connect", "EINTR"),
        *_call("accept accept4", "EINTR", "EMFILE", "ENOMEM"),
        *_call("sendto sendmsg sendmmsg", "EINTR", "ENOMEM"),
        *_call("sendfile splice tee", "EIO", "ENOMEM"),
        *_call("copy_file_range", "EIO", "ENOMEM", "ENOSPC"),
        *_call("fork vfork", "ENOMEM"),
        *_call("clone clone3", "ENOMEM", "ENOSPC"),
        *_call("execve execveat", "EIO", "EMFILE", "ENOMEM"),
        *_call("kill tkill tgkill rt_sigqueueinfo pidfd_send_signal"),
        *_call("flock", "EINTR"),
        *_call("setsid setpgid setuid setgid setreuid setregid setresuid setresgid"),
        *_call("setgroups", "ENOMEM"),
        *_call("prctl prlimit64 setrlimit"),
        *_call("chdir", "EIO", "ENOMEM"),
        *_call("epoll_ctl", "ENOMEM", "ENOSPC"),
        *_call("inotify_add_watch", "ENOMEM", "ENOSPC"),
        *_call("mount umount2 pivot_root open_tree move_mount mount_setattr", "ENOMEM"),
        *_call("fsopen fsconfig fsmount fspick", "ENOMEM"),
        *_call("unshare setns chroot bpf keyctl seccomp", "ENOMEM"),
        *_call("sethostname setdomainname capset"),
    )
}

_NUMBERS = {
    1: "write", 2: "open", 18: "pwrite64", 20: "writev", 22: "pipe", 40: "sendfile", 41: "socket",
    42: "connect", 43: "accept", 44: "sendto", 46: "sendmsg", 48: "shutdown", 49: "bind",
    50: "listen", 53: "socketpair", 54: "setsockopt", 56: "clone", 57: "fork", 58: "vfork",
    59: "execve", 62: "kill", 73: "flock", 74: "fsync", 75: "fdatasync", 76: "truncate",
    77: "ftruncate", 80: "chdir", 82: "rename", 83: "mkdir", 84: "rmdir", 85: "creat", 86: "link",
    87: "unlink", 88: "symlink", 90: "chmod", 91: "fchmod", 92: "chown", 93: "fchown",
    94: "lchown", 105: "setuid", 106: "setgid", 109: "setpgid", 112: "setsid", 113: "setreuid",
    114: "setregid", 116: "setgroups", 117: "setresuid", 119: "setresgid", 129: "rt_sigqueueinfo",
    126: "capset", 133: "mknod", 155: "pivot_root", 157: "prctl", 160: "setrlimit", 161: "chroot",
    165: "mount", 166: "umount2", 170: "sethostname", 171: "setdomainname",
    188: "setxattr", 190: "fsetxattr", 200: "tkill", 233: "epoll_ctl", 234: "tgkill",
    250: "keyctl", 254: "inotify_add_watch", 257: "openat", 258: "mkdirat", 259: "mknodat",
    260: "fchownat",
    263: "unlinkat", 264: "renameat", 265: "linkat", 266: "symlinkat", 268: "fchmodat",
    272: "unshare", 275: "splice", 276: "tee", 280: "utimensat", 285: "fallocate", 288: "accept4",
    293: "pipe2", 296: "pwritev", 302: "prlimit64", 307: "sendmmsg", 308: "setns",
    316: "renameat2", 317: "seccomp", 319: "memfd_create", 322: "execveat", 326: "copy_file_range",
    321: "bpf", 328: "pwritev2", 424: "pidfd_send_signal", 428: "open_tree", 429: "move_mount",
    430: "fsopen", 431: "fsconfig", 432: "fsmount", 433: "fspick", 442: "mount_setattr", 435: "clone3",
    437: "openat2",
}  # fmt: skip

_CALLS = {number: _BY_NAME[name] for number, name in _NUMBERS.items()}


def names() -> set[str]:
    """Those of the calls that may change something."""
    return set(_NUMBERS.values())


def errnos_of(name: str) -> tuple[str, ...]:
    """What a call of that name may fail with."""
    return _BY_NAME[name].errnos


def mutating(number: int, arguments: Sequence[int], peek: Callable[[int], int]) -> Call | None:
    """The call if it changes anything, judged by its arguments where its name isn't enough.

    `peek` reads eight bytes of the caller's memory.
    """
    call = _CALLS.get(number)
    if call is None:
        return None
    match call.name:
        case "open" if not arguments[1] & _CREATES:
            return None
        case "openat" if not arguments[2] & _CREATES and arguments[2] & _O_TMPFILE != _O_TMPFILE:
            return None
        case "openat2" if not peek(arguments[2]) & _CREATES:
            return None
        case "clone" if arguments[0] & _CLONE_THREAD:
            return None
        case "clone3" if peek(arguments[0]) & _CLONE_THREAD:
            return None
        case "kill" | "tgkill" if not arguments[1 if call.name == "kill" else 2]:
            return None
        case "tgkill" if arguments[2] == signal.SIGURG:  # how Go preempts a goroutine
            return None
        case "prctl" if arguments[0] not in _PR_SETS:
            return None
        case "prlimit64" if not arguments[2]:
            return None
    return call
