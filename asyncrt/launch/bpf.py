"""bpf(2): loads a program that judges each use of a device, and hangs it onto a cgroup of version 2.

The program itself is assembled on the engine's side. It stays with the cgroup and goes with it.
"""

from __future__ import annotations

import ctypes
import errno
import os

from asyncrt import _libc

# linux/bpf.h
_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_TYPE_CGROUP_DEVICE = 15
_CGROUP_DEVICE = 6
_ALLOW_MULTI = 1 << 1

INSTRUCTION_BYTES = 8
_LICENSE = b"Apache-2.0"  # the helpers that need the GPL's aren't called

# asm/unistd.h of each; most architectures share one table (asm-generic/unistd.h).
_NUMBERS = {"x86_64": 321, "i686": 357, "armv7l": 386, "ppc64le": 361, "s390x": 351}
_GENERIC = {"aarch64", "riscv64", "loongarch64"}


def _number() -> int:
    machine = os.uname().machine
    if machine in _GENERIC:
        return 280
    if machine not in _NUMBERS:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return _NUMBERS[machine]


def _bpf(command: int, attributes: bytes) -> int:
    place = ctypes.create_string_buffer(attributes, len(attributes))
    return _libc.syscall(_number(), command, ctypes.addressof(place), len(attributes))


def load_device_filter(program: bytes) -> int:
    """The program in the kernel, as a descriptor. Raises OSError: the verifier's verdict is EINVAL."""
    code = ctypes.create_string_buffer(program, len(program))
    license = ctypes.create_string_buffer(_LICENSE)
    attributes = b"".join(
        (
            _PROG_TYPE_CGROUP_DEVICE.to_bytes(4, "little"),
            (len(program) // INSTRUCTION_BYTES).to_bytes(4, "little"),
            ctypes.addressof(code).to_bytes(8, "little"),
            ctypes.addressof(license).to_bytes(8, "little"),
            bytes(24),  # log level, size and buffer, kernel version, flags
        )
    )
    return _bpf(_PROG_LOAD, attributes)


def attach_device_filter(cgroup: str, program: bytes) -> None:
    """Have the program judge the cgroup's devices, besides those that are there. Raises OSError.

    All of them have to allow a use, those of the cgroups above it too (BPF_F_ALLOW_MULTI).
    """
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        loaded = load_device_filter(program)
        try:
            fields = (directory, loaded, _CGROUP_DEVICE, _ALLOW_MULTI)
            _bpf(_PROG_ATTACH, b"".join(each.to_bytes(4, "little") for each in fields))
        finally:
            os.close(loaded)
    finally:
        os.close(directory)
