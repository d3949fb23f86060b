"""Device rules: version 1's list and version 2's program say what the rules say, bit by bit."""

from __future__ import annotations

import itertools
import os
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt import _cgroups
from asyncrt.launch import bpf
from asyncrt.oci.config import DeviceRule
from asyncrt.platforms.cgroups.devices import (
    ALWAYS,
    Inexpressible,
    Rules,
    device_list,
    device_program,
    read_rules,
)
from tests.helpers import capabilities
from tests.helpers.cgroups import holder, unique

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DENY_ALL = DeviceRule(allow=False, access="rwm")
ALLOW_ALL = DeviceRule(allow=True, type="a", access="rwm")
NUMBERS = (None, -1, 1, 2, 2**32 - 1)
USES = [
    (kind, major, minor, access)
    for kind, major, minor in itertools.product("bc", (1, 2, 2**32 - 1), (1, 3, 2**32 - 1))
    for access in ("r", "w", "m", "rw", "rwm")
]

rules = st.lists(
    st.builds(
        DeviceRule,
        allow=st.booleans(),
        type=st.sampled_from((None, "a", "b", "c", "u")),
        major=st.sampled_from(NUMBERS),
        minor=st.sampled_from(NUMBERS),
        access=st.sampled_from((None, "r", "w", "m", "rw", "rwm")),
    ),
    max_size=6,
)


def fits(wanted: int | None, number: int) -> bool:
    return wanted in {None, -1} or wanted == number


def judged(config: Sequence[DeviceRule], kind: str, major: int, minor: int, letter: str) -> bool:
    """What the config says of one kind of use, read as plainly as can be."""
    everything = [
        index
        for index, each in enumerate(config)
        if each.type in {None, "a"}
        and fits(each.major, 7)
        and fits(each.minor, 7)
        and (set(each.access or "") == set("rwm") or not (each.access or each.allow))
    ]
    begin = everything[-1] + 1 if everything else 0
    verdict = config[begin - 1].allow if everything else False
    if not verdict:
        letters = {1: "b", 2: "c"}
        bits = {"m": 1, "r": 2, "w": 4}
        verdict = any(
            letters[each.kind] == kind
            and fits(each.major, major)
            and fits(each.minor, minor)
            and each.bits & bits[letter]
            for each in ALWAYS
        )
    for each in config[begin:]:
        access = each.access or ("" if each.allow else "rwm")
        types = {"u": "c"}.get(each.type or "a", each.type or "a")
        if types in {"a", kind} and fits(each.major, major) and fits(each.minor, minor):
            verdict = each.allow if letter in access else verdict
    return verdict


def run_program(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """The handful of instructions that are used, done as bpf's own documents say."""
    bits = sum({"m": 1, "r": 2, "w": 4}[each] for each in access)
    context = struct.pack("<III", bits << 16 | {"b": 1, "c": 2}[kind], major, minor)
    code = list(struct.iter_unpack("<BBhi", program))
    registers = [0] * 10
    at = 0
    while True:
        operation, pair, offset, value = code[at]
        target, source = pair & 15, pair >> 4
        at += 1
        if operation == 0x61:
            (registers[target],) = struct.unpack_from("<I", context, offset)
        elif operation == 0xBC:
            registers[target] = registers[source]
        elif operation == 0xB4:
            registers[target] = value
        elif operation == 0x54:
            registers[target] &= value & 0xFFFFFFFF
        elif operation == 0x74:
            registers[target] >>= value
        elif operation == 0x05:
            at += offset
        elif operation == 0x56:
            at += offset if registers[target] != value & 0xFFFFFFFF else 0
        elif operation == 0x46:
            at += offset if registers[target] & value else 0
        else:
            assert operation == 0x95
            return bool(registers[0])


@given(rules)
def test_version_2s_program_judges_every_use_by_its_bits(config: list[DeviceRule]) -> None:
    program = device_program(read_rules(config))
    for kind, major, minor, access in USES:
        wanted = all(judged(config, kind, major, minor, each) for each in access)
        assert run_program(program, kind, major, minor, access) is wanted, (kind, major, access)


def listed(writes: Iterable[tuple[str, str]], kind: str, major: int, minor: int, bit: str) -> bool:
    """What the kernel makes of the list: a default, and exceptions from it (device_cgroup.c)."""
    (first, everything), *others = writes
    assert everything == "a"
    default = first == "devices.allow"
    for file, line in others:
        assert file == ("devices.deny" if default else "devices.allow")
        type_, numbers, access = line.split(" ")
        one, other = numbers.split(":")
        there = one in {"*", str(major)} and other in {"*", str(minor)}
        if type_ == kind and there and bit in access:
            return not default
    return default


@given(rules)
def test_version_1s_list_says_the_same_or_is_refused(config: list[DeviceRule]) -> None:
    try:
        writes = device_list(read_rules(config))
    except Inexpressible:
        return
    for kind, major, minor, access in USES:
        if len(access) == 1:
            wanted = judged(config, kind, major, minor, access)
            assert listed(writes, kind, major, minor, access) is wanted, (
                kind,
                major,
                minor,
                access,
            )


def test_the_usual_rules_make_the_usual_list() -> None:
    writes = device_list(
        read_rules([DENY_ALL, DeviceRule(allow=True, type="c", major=10, minor=229, access="rwm")])
    )
    assert writes == [
        ("devices.deny", "a"),
        ("devices.allow", "c *:* m"),
        ("devices.allow", "b *:* m"),
        *(("devices.allow", f"c 1:{each} rwm") for each in (3, 5, 7, 8, 9)),
        ("devices.allow", "c 5:0 rwm"),
        ("devices.allow", "c 5:2 rwm"),
        ("devices.allow", "c 136:* rwm"),
        ("devices.allow", "c 10:229 rwm"),
    ]
    assert device_list(read_rules([ALLOW_ALL])) == [("devices.allow", "a")]


def test_a_hole_in_what_was_given_is_refused_for_version_1() -> None:
    """The kernel would keep the whole of it, and say nothing."""
    whole = DeviceRule(allow=True, type="c", major=10, access="rwm")
    hole = DeviceRule(allow=False, type="c", major=10, minor=200, access="w")
    with pytest.raises(Inexpressible) as caught:
        device_list(read_rules([DENY_ALL, whole, hole]))
    assert caught.value.index == 2


_ALL = {f"/dev/{name} {access}" for name in ("null", "zero", "kmsg") for access in "rw"}


@pytest.mark.needs_root
@pytest.mark.needs_cgroups
@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ([DENY_ALL], {"/dev/kmsg r", "/dev/kmsg w"}),
        ([ALLOW_ALL], set()),
        (
            [DENY_ALL, DeviceRule(allow=True, type="c", major=1, minor=11, access="r")],
            {"/dev/kmsg w"},
        ),
        (
            [DENY_ALL, DeviceRule(allow=False, type="c", major=1, minor=5, access="w")],
            {"/dev/zero w", "/dev/kmsg r", "/dev/kmsg w"},
        ),
        ([ALLOW_ALL, DeviceRule(allow=False, type="c", major=1)], _ALL),
    ],
    ids=["nothing but the usual", "all", "one bit of one", "a bit of a usual one", "but a few"],
)
def test_the_kernel_takes_the_program_and_does_as_it_says(
    config: list[DeviceRule], refused: set[str]
) -> None:
    """In a cgroup of version 2, which it runs in whoever holds the devices controller."""
    held = holder()
    if not held.v2:
        capabilities.skip_lacking("cgroup version 2")
    cgroup = held.top + unique()
    os.mkdir(cgroup)
    try:
        bpf.attach_device_filter(cgroup, device_program(read_rules(config)))
        assert _refused_in(cgroup) == refused
    finally:
        _cgroups.until_empty(cgroup, 5)
        os.rmdir(cgroup)


def _refused_in(cgroup: str) -> set[str]:
    """Which uses of devices a process in the cgroup is refused."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _cgroups.write(f"{cgroup}/cgroup.procs", "0")
            for each in sorted(_ALL):
                path, access = each.split(" ")
                try:
                    os.close(os.open(path, os.O_RDONLY if access == "r" else os.O_WRONLY))
                except PermissionError:
                    os.write(theirs, f"{each}\n".encode())
            os.write(theirs, b"done\n")
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours, encoding="ascii") as file:
        found = file.read().splitlines()
    os.waitpid(pid, 0)
    assert found.pop() == "done"
    return set(found)


def test_a_program_that_no_verifier_takes_is_an_error() -> None:
    with pytest.raises(OSError, match=r"Invalid argument|Operation not permitted"):
        bpf.load_device_filter(device_program(Rules(True, ()))[:-8])
