"""The host platform: a plain process, no isolation.

It honours what a process can do to itself before it executes a program. Everything else a spec may
ask for is refused by name: a container that silently isn't isolated is worse than none.
"""

from __future__ import annotations

import os

from asyncrt.errors import SpecInvalid, SpecUnsupported
from asyncrt.oci import home_of, is_sandbox, membership, merge_env
from asyncrt.oci.config import Linux
from asyncrt.platforms import _process
from asyncrt.platforms._identity import Identity, plan_identity
from asyncrt.platforms._requests import asks as _asks
from asyncrt.platforms._requests import requests as _requests
from asyncrt.platforms.cgroups import Planned, plan_cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.launch.plan import OverlayPlan, ProcessPlan
    from asyncrt.oci import Config, Process, Spec
    from asyncrt.platforms.protocol import Beside

name = _NAME = "host"

# Struct fields that no plain process can honour, whatever they ask for, unless they ask for nothing.
_PROCESS = (
    "capabilities",
    "apparmor_profile",
    "selinux_label",
    "scheduler",
    "io_priority",
    "exec_cpu_affinity",
)
_CONFIG = ("hostname", "domainname", "mounts", "vm", "windows", "solaris", "zos", "freebsd")
_OURS = {"namespaces", "cgroups_path", "resources"}  # the first by index, a cgroup if permitted
_LINUX = tuple(each for each in Linux.__struct_fields__ if each not in _OURS)


def plan(
    spec: Spec,
    *,
    name: str = "asyncrt",
    hide: str = "",  # noqa: ARG001 - of the protocol; nothing is hidden here
    pivot_root: bool = True,  # noqa: ARG001 - of the protocol; the root stays the host's here
    room: bool = False,
    beside: Beside | None = None,
    overlay: OverlayPlan | None = None,
) -> ProcessPlan:
    """How to make the container's init; `name` is its cgroup's, if it asks for one without a path.

    With others in its sandbox it has one in any case: nothing else tells their processes apart.

    Raises SpecUnsupported naming every field that can't be honoured, SpecInvalid when there is no
    program to run. Blocks unless oci.is_known says that no home directory has to be looked up.
    """
    process = spec.config.process
    if process is None:
        refused, identity = _refused_config(spec.config), Identity(None, None, None, [])
    else:
        identity = plan_identity(process.user, "process")
        refused = [*_refused_process(process, identity, "process"), *_refused_config(spec.config)]
    planned = _plan_cgroup(spec.config, name, room=room, beside=beside)
    reasons = dict(planned.refused)
    if overlay is not None:
        reasons["overlay"] = "it has no root file system of its own"
    refused += reasons
    if refused:
        raise SpecUnsupported(platform=_NAME, fields=refused, reasons=reasons)
    if process is None:
        raise SpecInvalid(json_path="process", why="is required and missing", path=spec.path)
    made = _make(process, identity, "process", file=spec.path)
    if planned.plan is not None:
        made["cgroup"] = planned.plan
    return made


def _plan_cgroup(
    config: Config, name: str, *, room: bool = False, beside: Beside | None = None
) -> Planned:
    """A cgroup for a container that asks for one, or for limits, or has others in its sandbox."""
    linux = config.linux
    asked = linux is not None and bool(linux.cgroups_path or _asks(linux.resources))
    if beside is None and not (asked or room or is_sandbox(config)):
        return Planned(None, {})
    leaves = () if beside is None else beside.cgroups
    planned = plan_cgroup(linux, name=name, wanted=asked, room=room, leaves=leaves)
    if planned.refused or (beside is None and not room):
        return planned
    at = membership(config).json_path
    if beside is not None and not beside.has_cgroup:
        return Planned(None, {at: "its sandbox's root container has no cgroup"})
    if planned.plan is None:
        why = "several containers of a sandbox need a cgroup each, and this user may make none here"
        return Planned(None, {at or "linux.cgroupsPath": why})
    return planned


def unsupported(
    spec: Spec, beside: Beside | None = None, overlay: OverlayPlan | None = None
) -> list[str]:
    """The JSON path of every field the host can't honour, in the order of the config."""
    process = spec.config.process
    if process is None:
        found = _refused_config(spec.config)
    else:
        identity = plan_identity(process.user, "process")
        found = [*_refused_process(process, identity, "process"), *_refused_config(spec.config)]
    found += _plan_cgroup(spec.config, name, beside=beside).refused
    return found if overlay is None else [*found, "overlay"]


def plan_process(process: Process, json_path: str = "process") -> ProcessPlan:
    """How to make one process, init or exec'd. Raises and blocks as `plan` does."""
    identity = plan_identity(process.user, json_path)
    refused = _refused_process(process, identity, json_path)
    if refused:
        raise SpecUnsupported(platform=name, fields=refused)
    return _make(process, identity, json_path)


def plan_exec(
    spec: Spec,  # noqa: ARG001 - others need it
    process: Process,
    *,
    pivot_root: bool = True,  # noqa: ARG001 - it has no root of its own
) -> ProcessPlan:
    """How to run one more process in a container of `spec`. Raises and blocks as `plan` does."""
    return plan_process(process)


def _make(
    process: Process, identity: Identity, json_path: str, *, file: str | None = None
) -> ProcessPlan:
    if not process.args:
        why = "is required and missing"
        raise SpecInvalid(json_path=f"{json_path}.args", why=why, path=file)
    env = merge_env(process.env or ())
    if not any(entry.startswith("HOME=") for entry in env):
        env.append(f"HOME={home_of(os.geteuid() if identity.uid is None else identity.uid)}")
    return _process.plan_process(
        process, env, uid=identity.uid, gid=identity.gid, groups=identity.groups
    )


def _refused_process(process: Process, identity: Identity, json_path: str) -> list[str]:
    return [
        *_process.refused_size(process, json_path),
        *_requests(process, _PROCESS, f"{json_path}."),
        *identity.refused,
        *_process.refused_limits(process, json_path),
    ]


def _refused_config(config: Config) -> list[str]:
    found = []
    if config.root is not None:
        if not config.root.path or config.root.path.strip("/"):
            found.append("root.path")
        if config.root.readonly:
            found.append("root.readonly")
    found += _requests(config, _CONFIG, "")
    if config.linux is not None:
        found += [f"linux.namespaces[{i}]" for i in range(len(config.linux.namespaces or ()))]
        found += _requests(config.linux, _LINUX, "linux.")
    return found
