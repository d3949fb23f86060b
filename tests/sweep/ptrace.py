"""ptrace(2) by ctypes, as far as a tracer of system calls needs it."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

_CONT, _GETREGS, _SETREGS, _DETACH, _SYSCALL = 7, 12, 13, 17, 24
_GETEVENTMSG, _SEIZE, _INTERRUPT, _LISTEN, _GET_SYSCALL_INFO = (
    0x4201,
    0x4206,
    0x4207,
    0x4208,
    0x420E,
)

EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_STOP = 1, 2, 3, 4, 128
# System calls marked; fork, vfork, clone and exec told; a dead tracer takes its tracees along.
_OPTIONS = 1 | 2 | 4 | 8 | 16 | (1 << 20)

WALL = 0x40000000  # wait(2): threads as well
_ENTRY = 1
_INFO = struct.Struct("=B3xIQQQ6Q")
_REGISTERS = 27  # struct user_regs_struct of x86-64
_RAX, _ORIG_RAX = 10, 15


class Entry(NamedTuple):
    """A system call that is about to be made."""

    number: int
    arguments: tuple[int, ...]


def _ptrace(request: int, pid: int, address: int = 0, data: int | None = None) -> int:
    found: int = _libc.ptrace(request, pid, address, data)
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


def seize(tid: int) -> None:
    """Trace a thread from now on, without stopping it. It stops at no call until it is resumed."""
    _ptrace(_SEIZE, tid, 0, _OPTIONS)


def interrupt(tid: int) -> None:
    """Have a tracee stop as soon as it can."""
    _ptrace(_INTERRUPT, tid)


def to_next_call(tid: int, signal: int = 0) -> None:
    """Resume a stopped tracee until it enters or leaves a system call."""
    _ptrace(_SYSCALL, tid, 0, signal)


def resume(tid: int, signal: int = 0) -> None:
    """Resume a stopped tracee; its system calls pass."""
    _ptrace(_CONT, tid, 0, signal)


def listen(tid: int) -> None:
    """Leave a tracee in the stop that a stopping signal brought it to."""
    _ptrace(_LISTEN, tid)


def detach(tid: int, signal: int = 0) -> None:
    """Let go of a stopped tracee."""
    _ptrace(_DETACH, tid, 0, signal)


def message(tid: int) -> int:
    """What the event of a stopped tracee is about: the pid of a new process."""
    found = ctypes.c_ulong()
    _ptrace(_GETEVENTMSG, tid, 0, ctypes.addressof(found))
    return found.value


_buffer = ctypes.create_string_buffer(_INFO.size)


def entry(tid: int) -> Entry | None:
    """The call that a tracee in a system call's stop is about to make; None when it leaves one."""
    _ptrace(_GET_SYSCALL_INFO, tid, _INFO.size, ctypes.addressof(_buffer))
    kind, _, _, _, number, *arguments = _INFO.unpack(_buffer.raw)
    return Entry(number, tuple(arguments)) if kind == _ENTRY else None


def skip_call(tid: int) -> None:
    """Have the call that a tracee is about to make not be made."""
    _set(tid, _ORIG_RAX, (1 << 64) - 1)


def fail_call(tid: int, number: int) -> None:
    """Have the call that a tracee is leaving have failed with an errno."""
    _set(tid, _RAX, (1 << 64) - number)


def _set(tid: int, register: int, value: int) -> None:
    registers = (ctypes.c_ulonglong * _REGISTERS)()
    _ptrace(_GETREGS, tid, 0, ctypes.addressof(registers))
    registers[register] = value
    _ptrace(_SETREGS, tid, 0, ctypes.addressof(registers))
