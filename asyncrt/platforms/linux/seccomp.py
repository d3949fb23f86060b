"""From the seccomp section of a config to a filter program (config-linux.md, seccomp; seccomp(2)).

The rules mean what they mean to libseccomp, through which runc and crun load them: a rule without
conditions counts before those with, the first rule before later ones, a name that an architecture
doesn't have is skipped there, the machine's own architecture is always included, and a call of one
that isn't kills the thread. Two conditions on one argument are alternatives, as runc has them.

Two differences, both on the strict side or asked for by users of runc: a rule with conditions that is
*stricter* than the one without is honoured, where libseccomp drops it in silence. And where the
default is to refuse with an errno, a system call newer than all that are named fails with ENOSYS, as
under runc: programs know what to do without it, but not what EPERM means.

The numbers that are decided alike are joined to ranges, and the filter searches these by halves: a
profile of 400 names and three architectures takes a few dozen steps in all. Assembling costs some
milliseconds, so a program is kept for as long as its section is asked for.
"""

from __future__ import annotations

import errno
import functools
from typing import NamedTuple

from asyncrt.oci.words import SECCOMP_ACTIONS, SECCOMP_ACTIONS_WITH_ERRNO
from asyncrt.platforms.linux import _bpf
from asyncrt.platforms.linux.syscalls import (
    ARCHITECTURES,
    MULTIPLEXERS,
    Architecture,
    machine_architectures,
    numbers,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.oci.config import Seccomp, SeccompSyscall

_KILL_THREAD = SECCOMP_ACTIONS["SCMP_ACT_KILL_THREAD"]
_SKIPPED = 2**32 - 1
_MULTIPLEXED = {name: each for each, names in MULTIPLEXERS.items() for name in names}


class _Rule(NamedTuple):
    conditions: tuple[_bpf.Condition, ...]
    value: int


class _Decision(NamedTuple):
    """What becomes of a call: the first rule whose conditions hold, else `value`."""

    rules: tuple[_Rule, ...]
    value: int


@functools.lru_cache(maxsize=64)
def assemble(seccomp: Seccomp, names: tuple[str, ...] | None = None) -> bytes:
    """The filter program; `names` are the architectures of the machine (default: this one).

    Raises ValueError if it would be longer than the kernel takes.
    """
    machine = machine_architectures() if names is None else names
    # Code for what this machine can't run would never run.
    wanted = {machine[0], *(each for each in seccomp.architectures or () if each in machine)}
    default = _value(seccomp.default_action, seccomp.default_errno_ret)
    by_token: dict[int, dict[int, _Decision]] = {}
    for name in machine:
        architecture = ARCHITECTURES[name]
        starts = by_token.setdefault(architecture.token, {})
        if name in wanted:
            _decide(seccomp, architecture, default, starts)
        elif architecture.base:
            starts[architecture.base] = _Decision((), _KILL_THREAD)
            # -1 isn't one of x32: a tracer has had the call skipped (ptrace(2)).
            starts[_SKIPPED] = starts[max(each for each in starts if each < architecture.base)]
        else:
            del by_token[architecture.token]
    program = _bpf.Assembler()
    here = program.returns(_KILL_THREAD)
    for token, starts in reversed(by_token.items()):
        section = _section(program, starts)
        here = program.equal(token, section, here)
    program.load(_bpf.ARCHITECTURE_OFFSET, here)
    if len(program) > _bpf.MOST_INSTRUCTIONS:
        why = f"makes a filter of {len(program)} instructions; the kernel takes"
        raise ValueError(f"{why} {_bpf.MOST_INSTRUCTIONS}")
    return program.program()


def may_allow(seccomp: Seccomp, name: str) -> bool:
    """Whether the profile may let a call of that name happen; doubt counts as yes."""
    allowed = {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"}
    named = [each for each in seccomp.syscalls or () if name in each.names]
    if any(each.action in allowed for each in named):
        return True
    denied = any(not each.args for each in named)
    return seccomp.default_action in allowed and not denied


def _value(action: str, errno_ret: int | None) -> int:
    data = 0
    if action in SECCOMP_ACTIONS_WITH_ERRNO:
        data = errno.EPERM if errno_ret is None else errno_ret
    return SECCOMP_ACTIONS[action] | data


def _decide(
    seccomp: Seccomp, architecture: Architecture, default: int, starts: dict[int, _Decision]
) -> None:
    """Add the beginnings of this architecture's ranges to `starts`, and what is decided there."""
    known = numbers(architecture.column)
    flat: dict[int, int] = {}
    conditional: dict[int, list[_Rule]] = {}
    last = -1
    for entry in seccomp.syscalls or ():
        value = _value(entry.action, entry.errno_ret)
        rules = _rules(entry, value, architecture.bits)
        for name in entry.names:
            number = known.get(name)
            if number is not None:
                last = max(last, number)
                if value == default:
                    continue  # no rule at all to libseccomp
                if rules:
                    conditional.setdefault(number, []).extend(rules)
                else:
                    flat.setdefault(number, value)
            if architecture.multiplexed and name in _MULTIPLEXED and value != default:
                through = _MULTIPLEXED[name]
                # Conditions can't be looked at there: such a rule holds if that is the strict side.
                if not rules or _severity(value) < _severity(default):
                    rule = _multiplexed(through, name, value)
                    conditional.setdefault(known[through], []).append(rule)
    fallback = _Decision((), default)
    found: dict[int, _Decision] = {}
    for number in {*flat, *conditional}:
        rules = conditional.get(number, [])
        if number in flat:
            rules = [each for each in rules if _severity(each.value) < _severity(flat[number])]
        found[number] = _Decision(tuple(rules), flat.get(number, default))
    _join(found, fallback, architecture.base, starts)
    newer = SECCOMP_ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS
    if default & 0xFFFF0000 == SECCOMP_ACTIONS["SCMP_ACT_ERRNO"] and default != newer and last >= 0:
        starts[architecture.base + last + 1] = _Decision((), newer)


def _rules(entry: SeccompSyscall, value: int, bits: int) -> list[_Rule]:
    conditions = [
        _bpf.condition(each.index, each.op, each.value, each.value_two or 0, bits=bits)
        for each in entry.args or ()
    ]
    if not conditions:
        return []
    if len({each.argument for each in conditions}) < len(conditions):
        return [_Rule((each,), value) for each in conditions]
    return [_Rule(tuple(conditions), value)]


def _multiplexed(through: str, name: str, value: int) -> _Rule:
    number = MULTIPLEXERS[through][name]
    return _Rule((_bpf.condition(0, "SCMP_CMP_EQ", number, 0, bits=32),), value)


def _severity(value: int) -> int:
    """In the order of seccomp(2): of several filters the lowest return value wins, as signed."""
    action = value & 0xFFFF0000
    return action - 2**32 if action >= 2**31 else action


def _join(
    found: dict[int, _Decision], fallback: _Decision, base: int, starts: dict[int, _Decision]
) -> None:
    current = starts[base] = found.get(0, fallback)
    for number in sorted({*found, *(each + 1 for each in found)}):
        here = found.get(number, fallback)
        if here != current:
            current = starts[base + number] = here


def _section(program: _bpf.Assembler, starts: dict[int, _Decision]) -> int:
    leads: dict[_Decision, int] = {}
    places = []
    for start, decision in sorted(starts.items(), reverse=True):
        if not decision.rules:
            places.append((start, program.returns(decision.value)))
            continue
        if decision not in leads:
            here = program.returns(decision.value)
            for rule in reversed(decision.rules):
                yes, no = program.returns(rule.value), here
                for condition in reversed(rule.conditions):
                    yes = program.test(condition, yes, no)
                here = yes
            leads[decision] = here
        places.append((start, leads[decision]))
    return program.load(_bpf.NUMBER_OFFSET, program.search(places[::-1]))
