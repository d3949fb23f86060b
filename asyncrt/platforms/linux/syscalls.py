"""The numbers of system calls, by architecture (syscalls.txt, from the kernel's headers)."""

from __future__ import annotations

import functools
import os
import sys
from typing import NamedTuple

# Where the numbers of x32 begin; such a call says that it is one of x86_64 (asm/unistd.h).
X32_BIT = 0x40000000

# x86: calls that come as the first argument of another one too (linux/net.h, linux/ipc.h). What was
# an argument is behind a pointer then, where no filter can look.
MULTIPLEXERS: dict[str, dict[str, int]] = {
    "socketcall": {
        name: number
        for number, name in enumerate(
            (
                *("socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername"),
                *("socketpair", "send", "recv", "sendto", "recvfrom", "shutdown", "setsockopt"),
                *("getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg"),
            ),
            start=1,
        )
    },
    "ipc": {
        "semop": 1,
        "semget": 2,
        "semctl": 3,
        "semtimedop": 4,
        "msgsnd": 11,
        "msgrcv": 12,
        "msgget": 13,
        "msgctl": 14,
        "shmat": 21,
        "shmdt": 22,
        "shmget": 23,
        "shmctl": 24,
    },
}


class Architecture(NamedTuple):
    """One way to make system calls; `token` is what a filter is told (linux/audit.h)."""

    column: str
    token: int
    bits: int
    base: int = 0  # added to each number
    multiplexed: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "SCMP_ARCH_X86_64": Architecture("x86_64", 0xC000003E, 64),
    "SCMP_ARCH_X86": Architecture("x86", 0x40000003, 32, multiplexed=True),
    "SCMP_ARCH_X32": Architecture("x32", 0xC000003E, 32, base=X32_BIT),
    "SCMP_ARCH_AARCH64": Architecture("aarch64", 0xC00000B7, 64),
    "SCMP_ARCH_ARM": Architecture("arm", 0x40000028, 32),
    "SCMP_ARCH_RISCV64": Architecture("riscv64", 0xC00000F3, 64),
}

# By what uname(2) says: the machine's own first, then what else its processors run.
_MACHINES: dict[str, tuple[str, ...]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
}
# What a 64-bit process hears whose execution domain is LINUX32 (personality(2)).
_DISGUISES = {"i686": "x86_64", "i386": "x86_64", "armv8l": "aarch64", "armv7l": "aarch64"}


def machine_architectures() -> tuple[str, ...]:
    """OCI's names of what this machine can run, its own first; none where we know no numbers."""
    machine = os.uname().machine
    if sys.maxsize <= 2**32 or sys.byteorder != "little":
        return ()
    return _MACHINES.get(_DISGUISES.get(machine, machine), ())


@functools.cache
def numbers(column: str) -> dict[str, int]:
    """The number of each system call an architecture has, by its name. Reads a file, once."""
    return _tables()[column]


@functools.cache
def _tables() -> dict[str, dict[str, int]]:
    path = os.path.join(os.path.dirname(__file__), "syscalls.txt")
    columns = [each.column for each in ARCHITECTURES.values()]
    tables: dict[str, dict[str, int]] = {each: {} for each in columns}
    with open(path, encoding="ascii") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            name, *found = line.split()
            for column, number in zip(columns, found, strict=True):
                if number != "-":
                    tables[column][name] = int(number)
    return tables
