"""What an exec is to run: from the options to the plan of a process in its container."""

from __future__ import annotations

import os
import re
from collections.abc import Sized
from typing import TYPE_CHECKING, NamedTuple

from asyncrt._threads import run_blocking
from asyncrt.container import cgroup, hooks
from asyncrt.errors import SandboxUnresponsive, SpecInvalid
from asyncrt.oci import complete_exec, derive_exec, is_known, process_of
from asyncrt.oci.users import own_user
from asyncrt.platforms import choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from asyncrt.container.context import Context
    from asyncrt.launch.plan import ProcessPlan
    from asyncrt.oci import Process, Spec, User
    from asyncrt.state import Record


class Program(NamedTuple):
    """A program to exec, as Container.exec is told: `args` with options, or a whole `process`."""

    args: Iterable[str | os.PathLike[str]] | None
    process: Mapping[str, object] | str | os.PathLike[str] | None
    env: Mapping[str, str] | None
    cwd: str | os.PathLike[str] | None
    user: int | str | None
    additional_gids: Iterable[int]
    capabilities: Iterable[str]
    no_new_privs: bool
    apparmor_profile: str | None
    selinux_label: str | None
    cgroup: str | None

    def check(self) -> None:
        """Raise SpecInvalid unless it is the one or the other."""
        if (self.args is None) == (self.process is None):
            raise SpecInvalid(json_path="process", why="give either a program's args or a process")
        if self.process is None:
            return
        for name in self._fields[2:-1]:
            given = getattr(self, name)
            unset = given is None or given is False or (isinstance(given, Sized) and not given)
            if not unset:
                raise SpecInvalid(json_path="process", why=f"{name} is for args; a process says it")


async def plan_program(context: Context, record: Record, program: Program) -> ProcessPlan:
    """The plan of the process. Raises SpecInvalid, SpecUnsupported, SandboxUnresponsive.

    If cancelled, nothing has happened.
    """
    program.check()
    spec = await hooks.read_spec(context, record.id)
    if spec is None or spec.config.process is None:
        raise SandboxUnresponsive(
            container_id=record.id, operation="exec", why="its config.json is missing or broken"
        )
    base, platform, user = spec.config.process, choose(record.platform, spec), program.user
    if isinstance(user, str) and re.search("[^0-9:]", user) and _has_own_users(spec):
        why = f"{user!r} is looked up here, and its root file system has users of its own: give UID"
        raise SpecInvalid(json_path="process.user", why=f"{why} or UID:GID")
    cgroups = _cgroups(record, program.cgroup)

    def make() -> ProcessPlan:
        nobody = own_user() if platform.name == "host" else None
        process = _process(base, program, nobody)
        plan = platform.plan_exec(spec, process, pivot_root=not record.unpivoted)
        if cgroups:
            plan["cgroups"] = cgroups
        return plan

    looks_nothing_up = user is None and program.process is None and is_known(base)
    return make() if looks_nothing_up else await run_blocking(make)


def _process(base: Process, program: Program, nobody: User | None) -> Process:
    if program.process is not None:
        return complete_exec(base, process_of(program.process))
    return derive_exec(
        base,
        program.args or (),
        env=program.env,
        cwd=program.cwd,
        user=program.user,
        additional_gids=program.additional_gids,
        capabilities=program.capabilities,
        no_new_privs=program.no_new_privs,
        apparmor_profile=program.apparmor_profile,
        selinux_label=program.selinux_label,
        nobody=nobody,
    )


def _has_own_users(spec: Spec) -> bool:
    """Whether it has another root file system than the host's."""
    root = spec.config.root
    return root is not None and bool(root.path.strip("/"))


def _cgroups(record: Record, below: str | None) -> list[str]:
    """The directories to join: the container's cgroups, or the one `below` in each of them."""
    places = cgroup.places(record)
    if below is None:
        return places
    if not places:
        raise SpecInvalid(json_path="cgroup", why=f"{below!r}: {record.id!r} has no cgroup")
    given: object = below
    parts = given.split("/") if isinstance(given, str) else [".."]
    if ".." in parts or not set(below).isdisjoint("\0:"):
        why = f"{below!r} is no path of a cgroup below the container's"
        raise SpecInvalid(json_path="cgroup", why=why)
    return [os.path.normpath(os.path.join(each, *parts)) for each in places]
