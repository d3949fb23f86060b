"""An assembler of classic BPF for seccomp filters (kernel: Documentation/networking/filter.rst).

A program is written from its end to its beginning: jumps only lead forward, so whatever one may lead
to is in its place already, and how far away it is is known. Positions count from the end.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

# linux/bpf_common.h, linux/filter.h
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_ALWAYS = 0x05  # BPF_JMP | BPF_JA
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_ABOVE = 0x25  # BPF_JGT
_AT_LEAST = 0x35  # BPF_JGE
_RETURN = 0x06  # BPF_RET | BPF_K

_FARTHEST = 255  # a conditional jump has eight bits for each of its two ways
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS

# struct seccomp_data, on little-endian machines
NUMBER_OFFSET = 0
ARCHITECTURE_OFFSET = 4
_ARGUMENTS_OFFSET = 16

_LOW = 2**32 - 1


class Condition(NamedTuple):
    """`argument & mask`, compared: equal, above or at_least; `wanted` says which outcome holds."""

    argument: int
    how: int
    value: int
    mask: int
    wanted: bool


def condition(index: int, op: str, value: int, value_two: int, *, bits: int) -> Condition:
    """OCI's operators as the three that BPF has, on the low `bits` bits of the argument.

    A system call of a 32-bit architecture has no more of them, and what is compared is cut likewise.
    """
    everything = (1 << bits) - 1
    if op == "SCMP_CMP_MASKED_EQ":
        return Condition(index, _EQUAL, value_two & value & everything, value & everything, True)
    how, wanted = {
        "SCMP_CMP_EQ": (_EQUAL, True),
        "SCMP_CMP_NE": (_EQUAL, False),
        "SCMP_CMP_GT": (_ABOVE, True),
        "SCMP_CMP_LE": (_ABOVE, False),
        "SCMP_CMP_GE": (_AT_LEAST, True),
        "SCMP_CMP_LT": (_AT_LEAST, False),
    }[op]
    return Condition(index, how, value & everything, everything, wanted)


class Assembler:
    """Instructions of a program, the last one first. Each method returns a position to lead to."""

    def __init__(self) -> None:
        self._backwards: list[bytes] = []
        self._returns: dict[int, int] = {}

    def program(self) -> bytes:
        """The whole program, as seccomp(2) takes it; it begins with what was added last."""
        return b"".join(reversed(self._backwards))

    def __len__(self) -> int:
        return len(self._backwards)

    def _add(self, code: int, k: int, yes: int = 0, no: int = 0) -> int:
        self._backwards.append(_INSTRUCTION.pack(code, yes, no, k))
        return len(self._backwards) - 1

    def returns(self, value: int) -> int:
        """A return of `value`, near enough for a jump from the next few instructions."""
        known = self._returns.get(value)
        if known is None or len(self._backwards) - known > _FARTHEST - 8:
            known = self._returns[value] = self._add(_RETURN, value)
        return known

    def _near(self, target: int, spare: int) -> int:
        """`target`, or a jump to it that is near enough."""
        distance = len(self._backwards) - target - 1
        if distance + spare <= _FARTHEST:
            return target
        return self._add(_ALWAYS, distance)

    def _jump(self, code: int, k: int, yes: int, no: int) -> int:
        yes = self._near(yes, 1)
        no = self._near(no, 0)
        here = len(self._backwards)
        return self._add(code, k, here - yes - 1, here - no - 1)

    def load(self, offset: int, then: int) -> int:
        """Load a word of the system call's data, then go on at `then`."""
        if then != len(self._backwards) - 1:
            self._add(_ALWAYS, len(self._backwards) - then - 1)
        return self._add(_LOAD, offset)

    def equal(self, value: int, yes: int, no: int) -> int:
        """Go on at `yes` if the loaded word is `value`, else at `no`."""
        return self._jump(_EQUAL, value, yes, no)

    def search(self, starts: list[tuple[int, int]], first: int = 0, last: int = -1) -> int:
        """Go on where the loaded word belongs: `starts` has where each range begins, and leads."""
        if last < 0:
            last = len(starts) - 1
        if first == last:
            return starts[first][1]
        middle = (first + last + 1) // 2
        above = self.search(starts, middle, last)
        below = self.search(starts, first, middle - 1)
        return self._jump(_AT_LEAST, starts[middle][0], above, below)

    def test(self, condition: Condition, yes: int, no: int) -> int:
        """Load the argument and go on at `yes` if the condition holds, else at `no`."""
        argument, how, value, mask, wanted = condition
        if not wanted:
            yes, no = no, yes
        offset = _ARGUMENTS_OFFSET + 8 * argument
        high, high_mask = value >> 32, mask >> 32
        here = self._word(offset, how, value & _LOW, mask & _LOW, yes, no)
        if not high_mask:
            return here
        # Only if the high words are equal do the low ones decide.
        here = self._jump(_EQUAL, high, here, no)
        if how != _EQUAL:
            here = self._jump(_ABOVE, high, yes, here)
        if high_mask != _LOW:
            here = self._and(high_mask, here)
        return self.load(offset + 4, here)

    def _word(self, offset: int, how: int, value: int, mask: int, yes: int, no: int) -> int:
        here = self._jump(how, value, yes, no)
        if mask != _LOW:
            here = self._and(mask, here)
        return self.load(offset, here)

    def _and(self, mask: int, then: int) -> int:
        if then != len(self._backwards) - 1:  # pragma: no cover - each caller has just added it
            self._add(_ALWAYS, len(self._backwards) - then - 1)
        return self._add(_AND, mask)
