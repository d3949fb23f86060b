"""The few system calls that Python's standard library has no name for. Standard library only.

PyDLL keeps the interpreter's lock, which is right for calls that never block and needed by code
that runs right after a fork.
"""

from __future__ import annotations

import ctypes
import os

from asyncrt import _csignal

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
_libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

# linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info), with the size of its first version.
_PIDFD_INFO_SIZE = 64
_PIDFD_GET_INFO = (3 << 30) | (_PIDFD_INFO_SIZE << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3
_EXIT_CODE_OFFSET = 60  # __s32 exit_code, behind mask, cgroupid and eleven 32-bit ids


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_subreaper() -> None:
    """Make orphaned descendants children of this process (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, a single-threaded process, ends.

    A change of user undoes it, and so does executing a set-user-ID program (PR_SET_PDEATHSIG).
    """
    _prctl(_PR_SET_PDEATHSIG, _csignal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), _csignal.SIGKILL)  # it ended before we asked


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
