"""What the OCI specification demands of privileges: seccomp, scheduling, personality.

Names of capabilities aren't judged here: the specification wants those that can't be granted to be
told of, not refused, and what can be granted is the platform's to know.
"""

from __future__ import annotations

from asyncrt.errors import SpecInvalid
from asyncrt.oci import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from asyncrt.oci.config import (
        ExecCPUAffinity,
        IOPriority,
        Personality,
        Process,
        Scheduler,
        Seccomp,
        SeccompArg,
    )

_UINT64 = 2**64 - 1
_LARGEST_ERRNO = 4095  # MAX_ERRNO: the kernel makes anything above it this
_MOST_CPUS = 8192  # CONFIG_NR_CPUS at its largest

# sched(7): which policies take which numbers.
_NICE = {"SCHED_OTHER", "SCHED_BATCH"}
_REAL_TIME = {"SCHED_FIFO", "SCHED_RR"}
_DEADLINE = "SCHED_DEADLINE"


def check_process_privileges(process: Process, path: str) -> None:
    """The rules for what a process is given; `path` is its place in the config."""
    if process.scheduler is not None:
        _check_scheduler(process.scheduler, f"{path}.scheduler")
    if process.io_priority is not None:
        _check_io_priority(process.io_priority, f"{path}.ioPriority")
    if process.exec_cpu_affinity is not None:
        _check_affinity(process.exec_cpu_affinity, f"{path}.execCPUAffinity")


def _one_of(value: str, known: Collection[str], path: str, what: str) -> None:
    if value not in known:
        raise SpecInvalid(json_path=path, why=f"unknown {what} {value!r}")


def _each_of(values: Sequence[str] | None, known: Collection[str], path: str, what: str) -> None:
    for index, each in enumerate(values or ()):
        _one_of(each, known, f"{path}[{index}]", what)


def _at_most(value: int | None, most: int, path: str) -> None:
    if value is not None and value > most:
        raise SpecInvalid(json_path=path, why=f"expected an integer of at most {most}")


def _check_scheduler(scheduler: Scheduler, path: str) -> None:
    policy = scheduler.policy
    _one_of(policy, words.SCHEDULERS, f"{path}.policy", "scheduling policy")
    _each_of(scheduler.flags, words.SCHEDULER_FLAGS, f"{path}.flags", "scheduling flag")
    times = {
        "runtime": scheduler.runtime,
        "deadline": scheduler.deadline,
        "period": scheduler.period,
    }
    for name, value in times.items():
        _at_most(value, _UINT64, f"{path}.{name}")
        if value and policy != _DEADLINE:
            raise SpecInvalid(json_path=f"{path}.{name}", why=f"is for {_DEADLINE} only")
    if scheduler.nice and policy not in _NICE:
        why = f"{policy} has none; it is for {' and '.join(sorted(_NICE))}"
        raise SpecInvalid(json_path=f"{path}.nice", why=why)
    if policy in _REAL_TIME:
        if not scheduler.priority:
            why = f"{policy} needs one from 1 to 99"
            raise SpecInvalid(json_path=f"{path}.priority", why=why)
    elif scheduler.priority:
        why = f"{policy} has none; it is for {' and '.join(sorted(_REAL_TIME))}"
        raise SpecInvalid(json_path=f"{path}.priority", why=why)


def _check_io_priority(priority: IOPriority, path: str) -> None:
    _one_of(priority.io_class, words.IO_CLASSES, f"{path}.class", "class of input and output")


def _check_affinity(affinity: ExecCPUAffinity, path: str) -> None:
    for name, text in (("initial", affinity.initial), ("final", affinity.final)):
        try:
            cpu_list(text or "")
        except ValueError as error:
            raise SpecInvalid(json_path=f"{path}.{name}", why=str(error)) from None


def cpu_list(text: str) -> list[int]:
    """The CPUs of a list like "0-3,7" (cpuset(7), list format); none of "". Raises ValueError."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        for each in (first, last) if dash else (first,):
            if not (each.isascii() and each.isdecimal() and len(each) <= 4):
                raise ValueError(f"{text!r} is no list of CPUs like '0-3,7'")
        low, high = int(first), int(last if dash else first)
        if not low <= high < _MOST_CPUS:
            raise ValueError(f"{part!r} is no range of CPUs from 0 to {_MOST_CPUS - 1}")
        found.update(range(low, high + 1))
    return sorted(found)


def check_personality(personality: Personality) -> None:
    """A domain that there is; the specification has no flags yet."""
    path = "linux.personality"
    _one_of(personality.domain, words.PERSONALITIES, f"{path}.domain", "execution domain")
    if personality.flags:
        raise SpecInvalid(json_path=f"{path}.flags", why="the specification has no flags yet")


def check_seccomp(seccomp: Seccomp) -> None:
    """The rules of config-linux.md, seccomp."""
    path = "linux.seccomp"
    _check_action(seccomp.default_action, seccomp.default_errno_ret, path, default=True)
    _each_of(
        seccomp.architectures,
        words.SECCOMP_ARCHITECTURES,
        f"{path}.architectures",
        "architecture",
    )
    _each_of(seccomp.flags, words.SECCOMP_FLAGS, f"{path}.flags", "flag of seccomp(2)")
    if seccomp.default_action == "SCMP_ACT_NOTIFY":
        why = "a listener that needs system calls itself could never answer; notify of single ones"
        raise SpecInvalid(json_path=f"{path}.defaultAction", why=why)
    if seccomp.listener_metadata and not seccomp.listener_path:
        why = "is for a listener; give a listenerPath too"
        raise SpecInvalid(json_path=f"{path}.listenerMetadata", why=why)
    for index, each in enumerate(seccomp.syscalls or ()):
        at = f"{path}.syscalls[{index}]"
        if not each.names:
            raise SpecInvalid(json_path=f"{at}.names", why="is empty; name a system call")
        for number, name in enumerate(each.names):
            if not name:
                why = "is empty; name a system call"
                raise SpecInvalid(json_path=f"{at}.names[{number}]", why=why)
        _check_action(each.action, each.errno_ret, at, default=False)
        for number, condition in enumerate(each.args or ()):
            _check_condition(condition, f"{at}.args[{number}]")


def _check_action(action: str, errno: int | None, path: str, *, default: bool) -> None:
    action_name, errno_name = (
        ("defaultAction", "defaultErrnoRet") if default else ("action", "errnoRet")
    )
    _one_of(action, words.SECCOMP_ACTIONS, f"{path}.{action_name}", "action")
    if errno is not None:
        if action not in words.SECCOMP_ACTIONS_WITH_ERRNO:
            why = f"{action} has no errno to return"
            raise SpecInvalid(json_path=f"{path}.{errno_name}", why=why)
        _at_most(errno, _LARGEST_ERRNO, f"{path}.{errno_name}")


def _check_condition(condition: SeccompArg, path: str) -> None:
    _one_of(condition.op, words.SECCOMP_OPERATORS, f"{path}.op", "operator")
    _at_most(condition.value, _UINT64, f"{path}.value")
    _at_most(condition.value_two, _UINT64, f"{path}.valueTwo")
