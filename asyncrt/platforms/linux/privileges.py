"""What a process may do, from a config to a plan: capabilities, seccomp, labels, scheduling.

What this machine can't give is refused by its JSON path, with the reason. Capabilities alone are
different (config.md, capabilities): one that can't be granted is told of as a warning, and a process
gets what it can have. A name that no kernel has ever had is refused all the same: it is a mistake.
"""

from __future__ import annotations

import functools
import logging

from asyncrt.errors import SpecInvalid
from asyncrt.oci import words
from asyncrt.oci.check_privileges import cpu_list
from asyncrt.platforms.linux import machine, seccomp
from asyncrt.platforms.linux.syscalls import machine_architectures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.launch.plan import PrivilegePlan
    from asyncrt.oci import Process
    from asyncrt.oci.config import Capabilities, Linux, Seccomp

log = logging.getLogger("asyncrt.platforms.linux")

_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
_ALL = 2**64 - 1
_KEY_CALLS = ("add_key", "request_key", "keyctl")


def plan_privileges(
    process: Process, linux: Linux | None, json_path: str = "process", *, joins: bool = False
) -> tuple[PrivilegePlan, dict[str, str]]:
    """What the launch code is to put on, and what can't be honoured: reasons by JSON path.

    `json_path` is the process's place in the config; `joins`: it is exec'd in a container that runs.

    Raises SpecInvalid for the name of a capability that doesn't exist.
    """
    refused: dict[str, str] = {}
    plan: PrivilegePlan = {
        "capabilities": _capabilities(process.capabilities, json_path),
        "seccomp": None,
        "seccomp_flags": 0,
        "keys_denied": False,
        "scheduler": _scheduler(process, json_path, refused),
        "io_priority": _io_priority(process),
        "personality": None,
        "affinity": _affinity(process) if joins else [[], []],
        "apparmor": _apparmor(process, json_path, refused),
        "selinux": _selinux(process, json_path, refused),
    }
    if linux is not None:
        if linux.personality is not None:
            plan["personality"] = words.PERSONALITIES[linux.personality.domain]
        if linux.seccomp is not None:
            _filter(linux.seccomp, plan, refused)
        if linux.mount_label and not machine.has_selinux():
            refused["linux.mountLabel"] = _NO_SELINUX
    if not machine_architectures():
        refused[f"{json_path}.capabilities"] = "this machine's architecture isn't supported yet"
    return plan, refused


def _capabilities(wanted: Capabilities | None, json_path: str) -> list[int]:
    """The five sets as bit masks; none at all if nothing is said, as under runc."""
    if wanted is None:
        return [0] * len(_SETS)
    masks = []
    last = machine.last_capability()
    for name in _SETS:
        mask = 0
        for index, each in enumerate(getattr(wanted, name) or ()):
            at = f"{json_path}.capabilities.{name}[{index}]"
            number = words.CAPABILITIES.get(each)
            if number is None:
                raise SpecInvalid(json_path=at, why=f"unknown capability {each!r}")
            if number > last:
                log.warning("%s: this kernel has no %s, so it isn't granted", at, each)
                continue
            mask |= 1 << number
        masks.append(mask)
    bounding, _, permitted, inheritable, ambient = masks
    if ambient & ~(permitted & inheritable):
        log.warning(
            "%s.capabilities.ambient: what isn't permitted and inheritable can't be ambient: %s",
            json_path,
            " ".join(_names(ambient & ~(permitted & inheritable))),
        )
    if inheritable & ~bounding:
        log.warning(
            "%s.capabilities.inheritable: what isn't in the bounding set isn't granted: %s",
            json_path,
            " ".join(_names(inheritable & ~bounding)),
        )
    return masks


def _names(mask: int) -> list[str]:
    return [name for name, number in words.CAPABILITIES.items() if mask >> number & 1]


def _scheduler(process: Process, json_path: str, refused: dict[str, str]) -> list[int] | None:
    wanted = process.scheduler
    if wanted is None:
        return None
    if wanted.policy == "SCHED_ISO":
        refused[f"{json_path}.scheduler.policy"] = "no kernel has SCHED_ISO"
    flags = 0
    for each in wanted.flags or ():
        flags |= words.SCHEDULER_FLAGS[each]
    if flags & _CLAMPS:
        # The specification has the flags, but nothing that says to what.
        refused[f"{json_path}.scheduler.flags"] = "there is no field for what to clamp to"
    return [
        words.SCHEDULERS[wanted.policy],
        flags,
        *(wanted.nice or 0, wanted.priority or 0),
        *(wanted.runtime or 0, wanted.deadline or 0, wanted.period or 0),
    ]


_CLAMPS = 0x60


def _io_priority(process: Process) -> int | None:
    wanted = process.io_priority
    if wanted is None:
        return None
    return words.IO_CLASSES[wanted.io_class] << 13 | (wanted.priority or 0)


def _affinity(process: Process) -> list[list[int]]:
    wanted = process.exec_cpu_affinity
    if wanted is None:
        return [[], []]
    return [cpu_list(wanted.initial or ""), cpu_list(wanted.final or "")]


_NO_APPARMOR = "this kernel has no AppArmor, or it is switched off"
_NO_SELINUX = "this kernel has no SELinux, or it is switched off"


def _apparmor(process: Process, json_path: str, refused: dict[str, str]) -> str | None:
    profile = process.apparmor_profile
    if not profile:
        return None
    if not machine.has_apparmor():
        if profile != "unconfined":  # which everything is there
            refused[f"{json_path}.apparmorProfile"] = _NO_APPARMOR
        return None
    return profile


def _selinux(process: Process, json_path: str, refused: dict[str, str]) -> str | None:
    if process.selinux_label and not machine.has_selinux():
        refused[f"{json_path}.selinuxLabel"] = _NO_SELINUX
        return None
    return process.selinux_label or None


def _filter(wanted: Seccomp, plan: PrivilegePlan, refused: dict[str, str]) -> None:
    if not machine.has_seccomp() or not machine_architectures():
        refused["linux.seccomp"] = "this kernel has no seccomp filters"
        return
    if wanted.listener_path:
        refused["linux.seccomp.listenerPath"] = "listeners aren't supported yet"
    for index, each in enumerate(wanted.syscalls or ()):
        if each.action == "SCMP_ACT_NOTIFY":
            refused[f"linux.seccomp.syscalls[{index}].action"] = "listeners aren't supported yet"
    for index, flag in enumerate(wanted.flags or ()):
        bit = words.SECCOMP_FLAGS[flag]
        if flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV":
            continue  # of a listener, and the kernel refuses it where there is none
        if not machine.has_seccomp_flag(bit):
            refused[f"linux.seccomp.flags[{index}]"] = f"this kernel has no {flag}"
        plan["seccomp_flags"] |= bit
    try:
        plan["seccomp"], plan["keys_denied"] = _program(wanted)
    except ValueError as error:
        refused["linux.seccomp"] = str(error)


@functools.lru_cache(maxsize=64)
def _program(wanted: Seccomp) -> tuple[str, bool]:
    program = seccomp.assemble(wanted)
    denied = not any(seccomp.may_allow(wanted, name) for name in _KEY_CALLS)
    return program.hex(), denied
