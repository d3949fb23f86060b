"""Runs classic BPF filters as seccomp does, and has libseccomp make some to compare with."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

# linux/filter.h
_INSTRUCTION = struct.Struct("=HBBI")
_MOST_STEPS = 4096

Call = tuple[int, int, tuple[int, ...]]  # architecture's token, number, six arguments


Program = list[tuple[int, int, int, int]]


def parse(program: bytes) -> Program:
    """The instructions of a program, to be run many times."""
    return list(_INSTRUCTION.iter_unpack(program))


def run(program: bytes | Program, call: Call) -> int:
    """What the filter returns for a system call; AssertionError for a program that isn't valid."""
    return run_counting(program, call)[0]


def run_counting(program: bytes | Program, call: Call) -> tuple[int, int]:
    """The same, and how many instructions that took."""
    token, number, arguments = call
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, token, 0x7000_0000_1000, *arguments)
    instructions = parse(program) if isinstance(program, bytes) else program
    at = value = 0
    for step in range(1, _MOST_STEPS + 1):
        code, yes, no, k = instructions[at]
        at += 1
        if code == 0x15:
            at += yes if value == k else no
        elif code == 0x35:
            at += yes if value >= k else no
        elif code == 0x06:
            return k, step
        elif code == 0x20:
            assert k % 4 == 0
            value = int.from_bytes(data[k : k + 4], "little")
        elif code == 0x54:
            value &= k
        elif code == 0x05:
            at += k
        elif code == 0x25:
            at += yes if value > k else no
        elif code == 0x45:
            at += yes if value & k else no
        else:
            raise AssertionError(f"instruction {code:#x}")
    raise AssertionError("the program doesn't end")


class _Argument(ctypes.Structure):
    _fields_ = [  # type: ignore[mutable-override]  # as ctypes wants it
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


_OPERATORS = ("", "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")


def load_libseccomp() -> ctypes.CDLL | None:
    """The library, or None where it isn't installed."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_release.restype = None
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_arch_native.restype = ctypes.c_uint32
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
    ]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    return library


class _Version(ctypes.Structure):
    _fields_ = [  # type: ignore[mutable-override]  # as ctypes wants it
        ("major", ctypes.c_uint),
        ("minor", ctypes.c_uint),
        ("micro", ctypes.c_uint),
    ]


def version(library: ctypes.CDLL) -> tuple[int, int, int]:
    """The library's own word of it."""
    library.seccomp_version.restype = ctypes.POINTER(_Version)
    found = library.seccomp_version().contents
    return found.major, found.minor, found.micro


class LibraryFilter:
    """A filter of libseccomp's, made as runc makes it."""

    def __init__(self, library: ctypes.CDLL, default: int) -> None:
        self._library = library
        self._context = library.seccomp_init(default)
        assert self._context

    def add_architecture(self, token: int) -> None:
        result = self._library.seccomp_arch_add(self._context, token)
        assert result in (0, -17), result

    def add_rule(
        self, action: int, name: str, conditions: Sequence[tuple[int, str, int, int]] = ()
    ) -> int:
        """0, or a negative errno; a name that the library doesn't know is skipped."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            return 0
        array = (_Argument * len(conditions))(
            *(
                _Argument(index, _OPERATORS.index(op.removeprefix("SCMP_CMP_")), value, two)
                for index, op, value, two in conditions
            )
        )
        return int(
            self._library.seccomp_rule_add_array(
                self._context, action, number, len(conditions), array
            )
        )

    def program(self) -> bytes:
        """The filter as instructions. Frees it."""
        fd = os.memfd_create("filter")
        try:
            result = self._library.seccomp_export_bpf(self._context, fd)
            assert result == 0, result
            return os.pread(fd, 1 << 20, 0)
        finally:
            os.close(fd)
            self._library.seccomp_release(self._context)
