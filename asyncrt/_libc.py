"""The few system calls that Python's standard library has no name for. Standard library only.

PyDLL keeps the interpreter's lock, which is right for calls that never block and needed by code
that runs right after a fork.
"""

from __future__ import annotations

import _thread
import ctypes
import errno
import os
import select
import struct
import sys

from asyncrt import _csignal

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
_libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
_libc.syscall.restype = ctypes.c_long
_libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]

# Called without types and errno: what ctypes does for those writes to twenty pages, which a fresh
# child that is to stay small would have to copy.
_prctl_barely = ctypes.PyDLL(None).prctl

_api = (
    ctypes.pythonapi
)  # what CPython itself calls around fork(2) (C API, "Operating System Utilities")
for _hook in (
    _api.PyOS_BeforeFork,
    _api.PyOS_AfterFork_Parent,
    _api.PyOS_AfterFork_Child,
):
    _hook.restype = None

# The same on every architecture (asm-generic/unistd.h).
_NR_CLONE3 = 435
_NR_OPENAT2 = 437
_CLONE_ARGS = 11  # 64-bit words of struct clone_args up to `cgroup` (clone(2), Linux 5.7)

# linux/openat2.h
_RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_TRIES = 100  # of a look-up that a rename elsewhere disturbed

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_TIOCSCTTY = 0x540E  # asm-generic/ioctls.h

# linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info), with the size of its first version.
_PIDFD_INFO_SIZE = 64
_PIDFD_GET_INFO = (3 << 30) | (_PIDFD_INFO_SIZE << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3
_EXIT_CODE_OFFSET = 60  # __s32 exit_code, behind mask, cgroupid and eleven 32-bit ids

# sys/inotify.h
_IN_MODIFY = 0x2
_IN_ATTRIB = 0x4
_IN_MOVE_SELF = 0x800
_CHANGES = _IN_MODIFY | _IN_ATTRIB | _IN_MOVE_SELF
_IN_MOVED = 0x40 | 0x80
_IN_CREATE = 0x100
_IN_DELETE = 0x200
_IN_ONLYDIR = 0x01000000
_ANY_CHANGE = _IN_MODIFY | _IN_MOVED | _IN_CREATE | _IN_DELETE | _IN_ONLYDIR


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, value, 0, 0, 0))


def syscall(number: int, *arguments: int | bytes | bytearray) -> int:
    """A system call by its number. Bytes go as C strings, bytearrays as buffers to be filled."""
    return _checked(_libc.syscall(ctypes.c_long(number), *map(_as_argument, arguments)))


def ioctl(fd: int, request: int, argument: int | bytearray = 0) -> int:
    """Call a device (ioctl(2)) with a number or a buffer."""
    if isinstance(argument, bytearray):
        place = (ctypes.c_char * len(argument)).from_buffer(argument)
        return _checked(_libc.ioctl(fd, request, ctypes.addressof(place)))
    return _checked(_libc.ioctl(fd, request, argument))


def call(name: str, *arguments: int | bytes | bytearray) -> int:
    """A function of the C library that returns -1 and sets errno."""
    return _checked(getattr(_libc, name)(*map(_as_argument, arguments)))


def _as_argument(
    value: int | bytes | bytearray,
) -> ctypes.c_long | bytes | ctypes.Array[ctypes.c_char]:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray):
        return (ctypes.c_char * len(value)).from_buffer(value)
    return ctypes.c_long(value)


def clone(flags: int, cgroup: int = -1) -> int:
    """fork(2) with clone3(2)'s flags: 0 in the child, its pid in the parent.

    `cgroup` is a descriptor for CLONE_INTO_CGROUP. Without CLONE_PARENT the child's end raises
    SIGCHLD. For a process with one thread only: nothing takes care of the locks of others, so that
    it is a RuntimeError where Python knows of any.
    """
    if _thread._count():  # noqa: SLF001 - of those beside the first
        raise RuntimeError("a process with threads can't be cloned: a lock of theirs may be held")
    words = [0] * _CLONE_ARGS
    words[0] = flags | (_CLONE_INTO_CGROUP if cgroup >= 0 else 0)
    words[4] = 0 if flags & _CLONE_PARENT else _csignal.SIGCHLD
    words[10] = max(cgroup, 0)
    packed = (ctypes.c_uint64 * _CLONE_ARGS)(*words)
    _api.PyOS_BeforeFork()
    pid = int(_libc.syscall(ctypes.c_long(_NR_CLONE3), packed, ctypes.c_size_t(8 * _CLONE_ARGS)))
    if pid == 0:
        _api.PyOS_AfterFork_Child()
    else:
        number = ctypes.get_errno()
        _api.PyOS_AfterFork_Parent()
        ctypes.set_errno(number)
    return _checked(pid)


_CLONE_PARENT = 0x8000
_CLONE_INTO_CGROUP = 0x200000000


def open_inside(root: int, path: str, flags: int, resolve: int = RESOLVE_IN_ROOT) -> int:
    """Open a path below an opened directory as if that was the root (openat2(2)); no magic links."""
    # struct open_how
    how = bytearray(struct.pack("=3Q", flags | os.O_CLOEXEC, 0, resolve | _RESOLVE_NO_MAGICLINKS))
    name = os.fsencode(path.lstrip("/") or ".")
    for _ in range(_TRIES):
        try:
            return syscall(_NR_OPENAT2, root, name, how, len(how))
        except BlockingIOError:
            pass  # EAGAIN: ".." beside a rename somewhere
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def set_undumpable() -> None:
    """Let nobody without privilege over us trace us or look through our /proc (PR_SET_DUMPABLE)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def set_name(name: str) -> None:
    """What ps shows for this thread, as `_procid.set_name` does it for who may open its own /proc.

    A process of an ordinary user that can't be looked into may not (proc(5)).
    """
    text = ctypes.create_string_buffer(name.encode())
    _prctl(_PR_SET_NAME, ctypes.addressof(text))


def file_system(fd: int) -> int:
    """The magic number of an open file's file system (statfs(2), f_type)."""
    found = bytearray(256)
    call("fstatfs64", fd, found)
    return int.from_bytes(found[: ctypes.sizeof(ctypes.c_long)], sys.byteorder)


def set_controlling_terminal(fd: int) -> None:
    """Make a terminal the calling session leader's own (ioctl_tty(2), TIOCSCTTY)."""
    _checked(_libc.ioctl(fd, _TIOCSCTTY, None))


def become_subreaper() -> None:
    """Make orphaned descendants children of this process (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    if _prctl_barely(_PR_SET_CHILD_SUBREAPER, 1) != 0:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # which says why


def die_with_parent(parent: int, pidfd: int = -1) -> None:
    """Have the kernel kill this process when `parent`, a single-threaded process, ends.

    A change of user undoes it, and so does executing a set-user-ID program (PR_SET_PDEATHSIG).
    A parent outside our pid namespace has the pid 0 in it, whether it lives or not: then it is
    known by its `pidfd` alone.
    """
    _prctl(_PR_SET_PDEATHSIG, _csignal.SIGKILL)
    if os.getppid() != parent if pidfd < 0 else _ended(pidfd):
        os.kill(os.getpid(), _csignal.SIGKILL)  # it ended before we asked


def _ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def set_no_new_privs() -> None:
    """Let no exec from here on grant privileges (prctl(2), PR_SET_NO_NEW_PRIVS)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def exit_status(pidfd: int) -> int | None:
    """The wait(2) status of a process that was reaped by somebody else, or None.

    Linux 6.15 and newer (PIDFD_GET_INFO with PIDFD_INFO_EXIT); None on older kernels and while
    nobody has reaped it.
    """
    info = bytearray(_PIDFD_INFO_SIZE)
    info[0:8] = _PIDFD_INFO_EXIT.to_bytes(8, "little")
    place = (ctypes.c_char * _PIDFD_INFO_SIZE).from_buffer(info)
    if _libc.ioctl(pidfd, _PIDFD_GET_INFO, ctypes.addressof(place)) != 0:
        return None
    if not int.from_bytes(info[0:8], "little") & _PIDFD_INFO_EXIT:
        return None
    return int.from_bytes(info[_EXIT_CODE_OFFSET : _EXIT_CODE_OFFSET + 4], "little", signed=True)


def inotify() -> int:
    """A new inotify instance, non-blocking and close-on-exec (inotify_init1(2))."""
    return _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def watch_changes(instance: int, fd: int) -> int:
    """Have the instance tell of writes to an open file, and of its names' coming and going.

    The file itself is watched, whatever it is called by now; the watch's number is returned.
    """
    path = f"/proc/self/fd/{fd}".encode()
    return _checked(_libc.inotify_add_watch(instance, path, _CHANGES))


def watch_directory(instance: int, path: str) -> int:
    """Have the instance tell of whatever changes in a directory; the watch's number.

    Two watches of one directory are one to the kernel.
    """
    return _checked(_libc.inotify_add_watch(instance, os.fsencode(path), _ANY_CHANGE))


def forget_watch(instance: int, watch: int) -> None:
    """End a watch; one that ended by itself, with its file, is fine."""
    _libc.inotify_rm_watch(instance, watch)
