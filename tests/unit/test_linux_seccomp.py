"""Filters assembled here: the same verdicts as libseccomp's, and what differs on purpose."""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrt.errors import SpecInvalid
from asyncrt.oci import Spec
from asyncrt.oci.config import Seccomp
from asyncrt.oci.words import SECCOMP_ACTIONS
from asyncrt.platforms.linux import _bpf
from asyncrt.platforms.linux.seccomp import assemble
from asyncrt.platforms.linux.syscalls import ARCHITECTURES, MULTIPLEXERS, X32_BIT, numbers
from tests.helpers import bpf
from tests.helpers.capabilities import skip_lacking

PC = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
X86_64, X86 = (ARCHITECTURES[each].token for each in PC[:2])
LIBRARY_TOKENS = {"SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X32": 0x4000003E}

ALLOW = SECCOMP_ACTIONS["SCMP_ACT_ALLOW"]
KILL = SECCOMP_ACTIONS["SCMP_ACT_KILL_THREAD"]
ERRNO = SECCOMP_ACTIONS["SCMP_ACT_ERRNO"]
NONE = (0,) * 6


def section(**profile: object) -> Seccomp:
    """A seccomp section, by way of the decoder that checks it."""
    config = {"ociVersion": "1.2.0", "linux": {"seccomp": profile}}
    linux = Spec.decode(json.dumps(config).encode()).config.linux
    assert linux is not None
    assert linux.seccomp is not None
    return linux.seccomp


def refused(**profile: object) -> str:
    with pytest.raises(SpecInvalid) as caught:
        section(**profile)
    return caught.value.json_path


def rule(names: str, action: str, *args: tuple[int, str, int, int], **more: object) -> Any:
    conditions = [
        {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": two}
        for index, op, value, two in args
    ]
    return {"names": names.split(), "action": f"SCMP_ACT_{action}", "args": conditions, **more}


def verdict(
    program: bytes | bpf.Program, name: str, *args: int, arch: str = "SCMP_ARCH_X86_64"
) -> int:
    where = ARCHITECTURES[arch]
    number = numbers(where.column)[name] + where.base
    return bpf.run(program, (where.token, number, (*args, *NONE)[:6]))


_HEADER_NUMBER = re.compile(r"#define __NR_(\w+) \(?(?:__X32_SYSCALL_BIT \+ )?(\d+)")
# Of x86_64 and x32: left free by the numbers that are the same everywhere, and used since 6.11.
_GAP = range(335, 424)


def newer(found: Mapping[str, int], ours: Mapping[str, int]) -> set[str]:
    """The calls that headers have and our table hasn't as they came after it."""
    last = max(each for each in ours.values() if each < 512)  # x32's own and arm's are elsewhere
    taken = set(ours.values())
    return {
        name
        for name, number in found.items()
        if name not in ours and number not in taken and (number > last or number in _GAP)
    }


@pytest.mark.parametrize(
    ("column", "header"),
    [
        ("x86_64", "asm/unistd_64.h"),
        ("x86", "asm/unistd_32.h"),
        ("x32", "asm/unistd_x32.h"),
    ],
)
def test_the_numbers_are_those_of_the_kernels_headers(column: str, header: str) -> None:
    try:
        done = subprocess.run(
            ["gcc", "-E", "-dM", "-"],
            input=f"#include <{header}>\n",
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        skip_lacking("gcc")
    if done.returncode:
        skip_lacking(f"the kernel's header {header}")
    found = {name: int(number) for name, number in _HEADER_NUMBER.findall(done.stdout)}
    assert len(found) > 300
    ours = numbers(column)
    known = {name: number for name, number in found.items() if name not in newer(found, ours)}
    assert {name: ours.get(name) for name in known} == known


def test_headers_newer_than_the_table_are_told_from_a_fault_in_it() -> None:
    ours = {"read": 0, "uprobe": 336, "last": 470, "x32s": 547}
    later = {"next": 471, "gap": 337}
    assert newer({**ours, **later}, ours) == set(later)
    assert newer({**ours, "forgotten": 200}, ours) == set()
    assert newer({**ours, "renamed": 470}, ours) == set()


def library() -> ctypes.CDLL:
    found = bpf.load_libseccomp()
    if found is None:
        skip_lacking("libseccomp")
    return found


# As of 2.5.4: newer than the library, or told by another name there.
_OTHER = {("SCMP_ARCH_X32", "map_shadow_stack"), ("SCMP_ARCH_ARM", "sync_file_range2")}
_LOOKED_AT = (2, 5, 4)
_TOLERATED = 8  # faults of a newer library's table; ours is compared with headers


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_numbers_are_those_of_libseccomp(name: str) -> None:
    known = [each for each in numbers(ARCHITECTURES[name].column) if resolved(name, each) != -1]
    other = [each for each in known if not same(name, each) and (name, each) not in _OTHER]
    assert len(known) > 290
    assert len(other) <= (_TOLERATED if bpf.version(library()) > _LOOKED_AT else 0), other


def resolved(architecture: str, name: str) -> int:
    """The library's number of a call; -1: not known, below that: not of this architecture."""
    where = ARCHITECTURES[architecture]
    token = LIBRARY_TOKENS.get(architecture, where.token)
    return int(library().seccomp_syscall_resolve_name_arch(token, name.encode()))


def same(architecture: str, name: str) -> bool:
    """Whether the library and our table have the same number for a call, or both none."""
    where = ARCHITECTURES[architecture]
    number, known = numbers(where.column).get(name), resolved(architecture, name)
    if known < 0:
        hidden = where.multiplexed and any(name in names for names in MULTIPLEXERS.values())
        return number is None or hidden
    return number == known & ~X32_BIT


@functools.cache
def agreed() -> list[str]:
    """The calls on whose numbers the library and our table agree wherever this machine has them."""

    return [
        name
        for name in sorted(numbers("x86_64"))
        if resolved(PC[0], name) >= 0 and all(same(each, name) for each in PC)
    ]


SIMPLE = ("read", "write", "openat", "ioctl", "clone", "personality", "prctl", "kill", "mmap")
VALUES = st.sampled_from(
    [0, 1, 7, 8, 9, 0x5412, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 2**63, 2**64 - 1, 0x7E020000]
)
OPERATORS = st.sampled_from(["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"])
ACTIONS = st.sampled_from(["ALLOW", "ERRNO", "KILL_PROCESS", "LOG", "TRAP", "KILL_THREAD"])
# Distinct arguments: several conditions on one are alternatives, which runc makes rules of.
CONDITIONS = st.dictionaries(st.integers(0, 5), st.tuples(OPERATORS, VALUES, VALUES), max_size=3)
# libseccomp (2.5.4) merges several rules of one call wrongly unless they are as simple as these: of
# "a2 < 0 or a2 < 2**32" it makes a filter that a2 == 1 doesn't pass.
ALTERNATIVES = st.lists(VALUES.map(lambda value: {2: ("EQ", value, 0)}), min_size=2, max_size=4)


@st.composite
def profiles(draw: st.DrawFn) -> dict[str, Any]:
    rules = []
    for name in draw(st.lists(st.sampled_from(SIMPLE), unique=True, min_size=1)):
        action = draw(ACTIONS)
        rules += [
            rule(name, action, *((index, *each) for index, each in conditions.items()))
            for conditions in draw(st.lists(CONDITIONS, min_size=1, max_size=1) | ALTERNATIVES)
        ]
    names = draw(st.lists(st.sampled_from(agreed()), unique=True, max_size=60))
    rules += [rule(name, draw(ACTIONS)) for name in names if name not in SIMPLE]
    return {
        "defaultAction": "SCMP_ACT_" + draw(ACTIONS),
        "architectures": draw(st.lists(st.sampled_from(PC), unique=True)),
        "syscalls": rules,
    }


def made_by_libseccomp(profile: Mapping[str, Any]) -> bytes:
    def value(action: str) -> int:
        number = SECCOMP_ACTIONS[action]
        return number | errno.ENOSYS if number == ERRNO else number

    default = value(profile["defaultAction"])
    made = bpf.LibraryFilter(library(), default)
    for name in profile["architectures"]:
        if name in LIBRARY_TOKENS:
            made.add_architecture(LIBRARY_TOKENS[name])
    for each in profile["syscalls"]:
        if value(each["action"]) == default:
            continue
        conditions = [(a["index"], a["op"], a["value"], a["valueTwo"]) for a in each["args"]]
        for name in each["names"]:
            assert made.add_rule(value(each["action"]), name, conditions) == 0
    return made.program()


@settings(max_examples=40, deadline=None)
@given(
    profile=profiles(),
    arguments=st.lists(st.tuples(*[VALUES] * 6), min_size=6, max_size=6),
)
def test_the_verdicts_are_those_of_libseccomp(
    profile: dict[str, Any], arguments: Sequence[tuple[int, ...]]
) -> None:
    reference = bpf.parse(made_by_libseccomp(profile))
    full = {
        "defaultErrnoRet": errno.ENOSYS,
        **profile,
        "syscalls": [
            {**each, "errnoRet": errno.ENOSYS} if each["action"] == "SCMP_ACT_ERRNO" else each
            for each in profile["syscalls"]
        ],
    }
    if profile["defaultAction"] != "SCMP_ACT_ERRNO":
        del full["defaultErrnoRet"]
    ours = bpf.parse(assemble(section(**full), PC))
    with_args = {numbers(column)[name] for column in ("x86_64", "x86") for name in SIMPLE}
    for token in (X86_64, X86, ARCHITECTURES["SCMP_ARCH_ARM"].token):
        for base in (0, X32_BIT):
            for number in (*range(0, 548, 5), *with_args):
                for each in arguments if number in with_args else arguments[:1]:
                    call = (token, base + number, each)
                    assert bpf.run(ours, call) == bpf.run(reference, call), call
        skipped = (token, 2**32 - 1, NONE)
        assert bpf.run(ours, skipped) == bpf.run(reference, skipped)


def test_a_stricter_rule_with_conditions_counts_beside_one_without() -> None:
    # libseccomp drops it in silence, in either order: TIOCSTI would be allowed with ioctl.
    sti = rule("ioctl", "ERRNO", (1, "MASKED_EQ", 0xFFFFFFFF, 0x5412))
    for rules in ([rule("ioctl", "ALLOW"), sti], [sti, rule("ioctl", "ALLOW")]):
        program = assemble(section(defaultAction="SCMP_ACT_KILL", syscalls=rules), PC)
        assert verdict(program, "ioctl", 0, 0x5411) == ALLOW
        assert verdict(program, "ioctl", 0, 0x5412) == ERRNO | errno.EPERM
        # The kernel looks at the low half only.
        assert verdict(program, "ioctl", 0, 0x1_0000_5412) == ERRNO | errno.EPERM


def test_a_laxer_rule_with_conditions_is_nothing_beside_one_without() -> None:
    rules = [rule("clone", "ALLOW", (0, "EQ", 0, 0)), rule("clone", "ERRNO")]
    program = assemble(section(defaultAction="SCMP_ACT_KILL", syscalls=rules), PC)
    assert verdict(program, "clone", 0) == ERRNO | errno.EPERM


def test_conditions_on_one_argument_are_alternatives() -> None:
    rules = [rule("personality", "ALLOW", (0, "EQ", 0, 0), (0, "EQ", 8, 0))]
    program = assemble(section(defaultAction="SCMP_ACT_KILL", syscalls=rules), PC)
    assert [verdict(program, "personality", each) for each in (0, 8, 9)] == [ALLOW, ALLOW, KILL]


def test_a_call_newer_than_all_that_are_named_does_not_exist() -> None:
    # EPERM instead has broken programs on every new C library.
    rules = [rule("read openat2", "ALLOW")]
    program = assemble(
        section(defaultAction="SCMP_ACT_ERRNO", architectures=[PC[1]], syscalls=rules), PC
    )
    assert verdict(program, "faccessat2") == ERRNO | errno.ENOSYS
    assert verdict(program, "write") == ERRNO | errno.EPERM
    assert bpf.run(program, (X86, 438, NONE)) == ERRNO | errno.ENOSYS
    # Where the rest is to be killed or logged it still is.
    program = assemble(section(defaultAction="SCMP_ACT_KILL_PROCESS", syscalls=rules), PC)
    assert verdict(program, "faccessat2") == SECCOMP_ACTIONS["SCMP_ACT_KILL_PROCESS"]


def test_names_that_an_architecture_lacks_are_skipped_there() -> None:
    rules = [rule("no_such_call _llseek read", "ALLOW")]
    program = assemble(
        section(defaultAction="SCMP_ACT_KILL", architectures=[PC[1]], syscalls=rules), PC
    )
    assert verdict(program, "read") == ALLOW
    assert verdict(program, "_llseek", arch="SCMP_ARCH_X86") == ALLOW


def test_what_a_multiplexed_call_hides_is_decided_on_the_strict_side() -> None:
    for default, action, through in (
        ("KILL", "ALLOW", KILL),
        ("ALLOW", "ERRNO", ERRNO | errno.EPERM),
    ):
        rules = [rule("socket", action, (0, "EQ", 40, 0))]
        program = assemble(
            section(defaultAction=f"SCMP_ACT_{default}", architectures=[PC[1]], syscalls=rules), PC
        )
        assert verdict(program, "socketcall", 1, arch="SCMP_ARCH_X86") == through
    program = assemble(
        section(
            defaultAction="SCMP_ACT_KILL", architectures=[PC[1]], syscalls=[rule("shmget", "ALLOW")]
        ),
        PC,
    )
    assert verdict(program, "ipc", 23, arch="SCMP_ARCH_X86") == ALLOW
    assert verdict(program, "ipc", 22, arch="SCMP_ARCH_X86") == KILL


def test_an_architecture_that_the_machine_cannot_run_takes_no_code() -> None:
    rules = [rule("read", "ALLOW")]
    small = assemble(section(defaultAction="SCMP_ACT_KILL", syscalls=rules), PC)
    names = ["SCMP_ARCH_ARM", "SCMP_ARCH_S390X"]
    same = section(defaultAction="SCMP_ACT_KILL", architectures=names, syscalls=rules)
    assert assemble(same, PC) == small
    arm = assemble(same, ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"))
    assert verdict(arm, "read", arch="SCMP_ARCH_ARM") == ALLOW
    assert verdict(arm, "read", arch="SCMP_ARCH_AARCH64") == ALLOW


def test_jumps_reach_farther_than_their_eight_bits() -> None:
    # Every call decided in its own way, so that nothing joins.
    known = sorted(numbers("x86_64").items(), key=lambda each: each[1])
    rules = [
        rule(name, "ERRNO", (index % 6, "GT", 2**32 * number + 1, 0), errnoRet=index + 1)
        for index, (name, number) in enumerate(known)
    ]
    assembled = assemble(section(defaultAction="SCMP_ACT_ALLOW", syscalls=rules), PC)
    assert len(assembled) > 8 * 2000
    program = bpf.parse(assembled)
    for index, (name, number) in enumerate(known):
        for value, expected in (
            (2**32 * number + 1, ALLOW),
            (2**32 * number + 2, ERRNO | index + 1),
        ):
            arguments = [0] * 6
            arguments[index % 6] = value
            assert verdict(program, name, *arguments) == expected


def test_a_filter_too_long_for_the_kernel_is_refused() -> None:
    rules = [
        rule("read", "ERRNO", (0, "EQ", value, 0), errnoRet=1 + value % 4000)
        for value in range(2000)
    ]
    with pytest.raises(ValueError, match="the kernel takes 4096"):
        assemble(section(defaultAction="SCMP_ACT_ALLOW", syscalls=rules), PC)
    assert _bpf.MOST_INSTRUCTIONS == 4096


def test_a_section_that_makes_no_sense_is_refused_by_its_path() -> None:
    allow = "SCMP_ACT_ALLOW"
    at = "linux.seccomp."
    read = rule("read", "ALLOW")
    assert refused() == f"{at}defaultAction"
    assert refused(defaultAction="ALLOW") == f"{at}defaultAction"
    assert refused(defaultAction="SCMP_ACT_NOTIFY") == f"{at}defaultAction"
    assert refused(defaultAction=allow, defaultErrnoRet=1) == f"{at}defaultErrnoRet"
    assert refused(defaultAction="SCMP_ACT_ERRNO", defaultErrnoRet=4096) == f"{at}defaultErrnoRet"
    assert refused(defaultAction=allow, architectures=["X86"]) == f"{at}architectures[0]"
    assert refused(defaultAction=allow, flags=["TSYNC"]) == f"{at}flags[0]"
    assert refused(defaultAction=allow, listenerMetadata="x") == f"{at}listenerMetadata"
    for wrong, path in (
        ({"names": []}, "names"),
        ({"names": ["read", ""]}, "names[1]"),
        ({"action": "allow"}, "action"),
        ({"errnoRet": 1}, "errnoRet"),
        ({"args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}, "args[0].index"),
        ({"args": [{"index": 0, "value": 0, "op": "EQ"}]}, "args[0].op"),
        ({"args": [{"index": 0, "value": 2**64, "op": "SCMP_CMP_EQ"}]}, "args[0].value"),
        ({"args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]}, "args[0].value"),
    ):
        found = refused(defaultAction=allow, syscalls=[read, {**read, **wrong}])
        assert found == f"{at}syscalls[1].{path}"
