"""Which devices a container may use: its rules as version 1's list, and as a program for version 2.

The rules count in order and by the bit: the last that fits a device says of each of r, w and m whether
it is allowed. Before the first all is denied. What every container needs is allowed from the last
rule for all devices on, so that a config's own rules after it have the last word.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.oci.config import DeviceRule

_MAKE, _READ, _WRITE = 1, 2, 4  # linux/bpf.h, BPF_DEVCG_ACC_*
_BITS = {"m": _MAKE, "r": _READ, "w": _WRITE}
_ALL = _MAKE | _READ | _WRITE
_BLOCK, _CHARACTER = 1, 2  # linux/bpf.h, BPF_DEVCG_DEV_*
_LETTERS = {_BLOCK: "b", _CHARACTER: "c"}


class Rule(NamedTuple):
    """One rule about one type of devices; None fits any number."""

    allow: bool
    kind: int
    major: int | None
    minor: int | None
    bits: int
    place: int  # in the config; -1: not of it


class Rules(NamedTuple):
    """The rules that count, and what holds for what none of them fits."""

    default: bool
    rules: tuple[Rule, ...]


class Inexpressible(Exception):  # noqa: N818 - not an error yet
    """A rule that version 1 has no words for: it takes a part out of what an earlier one gave."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


# runc's and crun's list (config-linux.md, "Default Devices", and making nodes of any).
ALWAYS = (
    Rule(True, _CHARACTER, None, None, _MAKE, -1),
    Rule(True, _BLOCK, None, None, _MAKE, -1),
    *(
        Rule(True, _CHARACTER, major, minor, _ALL, -1)
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None))
    ),
)


def read_rules(rules: Sequence[DeviceRule]) -> Rules:
    """What a config's rules come to."""
    default = False
    found: list[Rule] = list(ALWAYS)
    for index, each in enumerate(rules):
        bits = _bits(each)
        major = None if each.major in {None, -1} else each.major
        minor = None if each.minor in {None, -1} else each.minor
        kinds = {"b": [_BLOCK], "c": [_CHARACTER], "u": [_CHARACTER]}.get(each.type or "a")
        if kinds is None and major is None and minor is None and bits == _ALL:
            default = each.allow
            found = [] if default else list(ALWAYS)
        elif bits:
            for kind in kinds or (_BLOCK, _CHARACTER):
                found.append(Rule(each.allow, kind, major, minor, bits, index))
    return Rules(default, tuple(found))


def _bits(rule: DeviceRule) -> int:
    if not rule.access:
        return 0 if rule.allow else _ALL  # nothing is said: nothing is given, all is taken
    bits = 0
    for letter in rule.access:
        bits |= _BITS[letter]
    return bits


# --- version 1


def device_list(found: Rules) -> list[tuple[str, str]]:
    """Files and values for version 1's devices controller. Raises Inexpressible.

    The kernel keeps a default and exceptions from it, and takes one back only when told of exactly
    that one: what is left at the end is worked out here.
    """
    exceptions: dict[tuple[int, int | None, int | None], int] = {}
    for rule in found.rules:
        key = rule.kind, rule.major, rule.minor
        if rule.allow != found.default:
            exceptions[key] = exceptions.get(key, 0) | rule.bits
            continue
        for other, bits in exceptions.items():
            if not bits & rule.bits or not _overlap(key, other):
                continue
            if not _covers(key, other):
                raise Inexpressible(rule.place)
            exceptions[other] = bits & ~rule.bits
    usual, unusual = (
        ("devices.allow", "devices.deny") if found.default else ("devices.deny", "devices.allow")
    )
    return [
        (usual, "a"),
        *((unusual, _line(*key, bits)) for key, bits in exceptions.items() if bits),
    ]


def _overlap(
    one: tuple[int, int | None, int | None], other: tuple[int, int | None, int | None]
) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a is None or b is None or a == b for a, b in pairs)


def _covers(
    one: tuple[int, int | None, int | None], other: tuple[int, int | None, int | None]
) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a is None or a == b for a, b in pairs)


def _line(kind: int, major: int | None, minor: int | None, bits: int) -> str:
    numbers = ("*" if each is None else str(each) for each in (major, minor))
    access = "".join(letter for letter in "rwm" if bits & _BITS[letter])
    return f"{_LETTERS[kind]} {':'.join(numbers)} {access}"


# --- version 2

# linux/bpf.h, Documentation/bpf/standardization/instruction-set.rst
_LOAD_WORD = 0x61
_JUMP = 0x05
_JUMP_NOT_EQUAL = 0x56  # of the lower 32 bits
_JUMP_IF_ANY = 0x46  # of these bits, likewise
_MOVE = 0xB4
_MOVE_REGISTER = 0xBC
_AND = 0x54
_SHIFT_RIGHT = 0x74
_EXIT = 0x95
_VERDICT, _CONTEXT, _KIND, _ACCESS, _MAJOR, _MINOR = range(6)  # registers


def _do(code: int, target: int = 0, source: int = 0, *, offset: int = 0, value: int = 0) -> bytes:
    signed = value - (1 << 32) if value >= 1 << 31 else value
    return struct.pack("<BBhi", code, target | source << 4, offset, signed)


def _finish(verdict: bool) -> list[bytes]:  # noqa: FBT001 - its only argument
    return [_do(_MOVE, _VERDICT, value=int(verdict)), _do(_EXIT)]


def device_program(found: Rules) -> bytes:
    """A program for BPF_CGROUP_DEVICE that says the same.

    It goes through the rules from the last to the first, and through the bits that were asked for:
    one that is denied ends it, and so does the last that is allowed.
    """
    code = [
        _do(_LOAD_WORD, _ACCESS, _CONTEXT, offset=0),  # struct bpf_cgroup_dev_ctx
        _do(_LOAD_WORD, _MAJOR, _CONTEXT, offset=4),
        _do(_LOAD_WORD, _MINOR, _CONTEXT, offset=8),
        _do(_MOVE_REGISTER, _KIND, _ACCESS),
        _do(_AND, _KIND, value=0xFFFF),
        _do(_SHIFT_RIGHT, _ACCESS, value=16),
    ]
    for rule in reversed(found.rules):
        if rule.allow:
            then = [
                _do(_AND, _ACCESS, value=_ALL & ~rule.bits),
                _do(_JUMP_NOT_EQUAL, _ACCESS, offset=2, value=0),
                *_finish(True),
            ]
        else:
            then = [
                _do(_JUMP_IF_ANY, _ACCESS, offset=1, value=rule.bits),
                _do(_JUMP, offset=2),
                *_finish(False),
            ]
        wanted = [(_KIND, rule.kind), (_MAJOR, rule.major), (_MINOR, rule.minor)]
        tests = [(register, value) for register, value in wanted if value is not None]
        for left, (register, value) in zip(range(len(tests) - 1, -1, -1), tests, strict=True):
            code.append(_do(_JUMP_NOT_EQUAL, register, offset=left + len(then), value=value))
        code += then
    return b"".join([*code, *_finish(found.default)])
