"""What a create is asked for: refused, or planned, before anything is begun."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from asyncrt._seconds import check_seconds
from asyncrt.container import cgroup, leaves
from asyncrt.container.context import own_identity
from asyncrt.container.lease import check_lease, owned_by_us, refuse_caller
from asyncrt.container.passing import Passed
from asyncrt.container.terminal import planned
from asyncrt.errors import SpecInvalid
from asyncrt.launch import frames
from asyncrt.oci import HOOK_KINDS, hook_plans, is_sandbox
from asyncrt.platforms import choose, plan_overlay
from asyncrt.state import Record
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.container.beside import Sandbox
    from asyncrt.container.context import Context
    from asyncrt.container.lease import Lease
    from asyncrt.container.passing import PassedFds
    from asyncrt.container.terminal import TerminalChoice
    from asyncrt.ids import ContainerId
    from asyncrt.launch.plan import OverlayPlan, ProcessPlan
    from asyncrt.oci import Spec
    from asyncrt.platforms import Overlay

Supervision = Literal["own", "caller"]
PathLike = str | os.PathLike[str]


class CreatePlan(NamedTuple):
    """One create, planned."""

    record: Record  # says creating; it is filled in while that goes on
    spec: Spec
    process: ProcessPlan
    layer: OverlayPlan | None
    passed: Passed
    deadline: float | None  # seconds that the program may run
    lease: Lease | None
    console_path: PathLike | None  # the socket that the terminal is sent to
    waits: bool  # whether init waits for hooks before it enters its root file system
    sandbox: Sandbox | None  # what it comes beside others in

    @property
    def has_terminal(self) -> bool:
        """Whether the workload's streams are a terminal."""
        return self.process.get("terminal") is not None


def plan_create(
    context: Context,
    container_id: ContainerId,
    spec: Spec,
    *,
    supervision: Supervision,
    deadline_seconds: float | None,
    lease: Lease | None = None,
    terminal: TerminalChoice | None = None,
    console_socket: PathLike | None = None,
    pass_fds: PassedFds | None = None,
    overlay: Overlay | None = None,
    room: bool = False,
    sandbox: Sandbox | None = None,
) -> CreatePlan:
    """Plan the create of a new instance. Raises SpecInvalid, SpecUnsupported.

    `room`: others are to come beside it. `sandbox`: it comes beside others, in that one.
    """
    process = spec.config.process
    if process is None:
        raise SpecInvalid(
            json_path="process", why="is required to create a container", path=spec.path
        )
    _check_deadline(deadline_seconds, supervision)
    check_lease(lease)
    if lease is not None:
        refuse_caller(supervision)
    if overlay is not None and supervision == "caller":
        raise SpecInvalid(
            json_path="", why='overlay needs supervision="own": nobody else keeps the layer'
        )
    beside = None if sandbox is None else sandbox.beside
    instance = uuid.uuid4().hex
    name = cgroup.name_of(container_id, instance)
    layer = None if overlay is None else plan_overlay(overlay, name)
    platform = choose(context.platform, spec, beside, layer)
    if beside is not None and beside.cgroups:
        name = container_id
    elif room:
        name = f"{name}/{container_id}"
    plan: ProcessPlan = platform.plan(
        spec,
        name=name,
        hide=context.root,
        pivot_root=context.pivot_root,
        room=room,
        beside=beside,
        overlay=layer,
    )
    leaves.refuse_clash(container_id, plan.get("cgroup"), beside, room=room)
    if terminal is not None:
        plan["terminal"] = planned(terminal, plan.get("terminal"))
    passed = Passed(pass_fds)
    if passed.numbers:
        plan["passed"] = passed.numbers
    _check_console(plan, console_socket, supervision)
    # Who supervises by itself has annotations of its own, and a sandbox that isn't ours.
    counts = supervision == "own" and not is_sandbox(spec.config)
    record = Record(
        id=container_id,
        instance=instance,
        sandbox=container_id if sandbox is None else sandbox.record.id,
        status=Status.CREATING,
        created_at=datetime.now(UTC),
        owner=context.owner,
        uid=os.geteuid(),
        bundle=spec.bundle,
        platform=platform.name,
        supervision=supervision,
        creator=own_identity(),
        protocol=frames.VERSION,
        lease=owned_by_us(lease),
        unpivoted=not context.pivot_root and plan.get("linux") is not None,
        oom_score_adj=process.oom_score_adj if counts else None,
        hooks=tuple(kind for kind in HOOK_KINDS if hook_plans(spec.config, kind)),
    )
    return CreatePlan(
        record=record,
        spec=spec,
        process=plan,
        layer=layer,
        passed=passed,
        deadline=deadline_seconds,
        lease=lease,
        console_path=console_socket,
        waits=plan.get("linux") is not None and _has_hooks(context, spec),
        sandbox=sandbox,
    )


def _check_deadline(seconds: float | None, supervision: Supervision) -> None:
    check_seconds(seconds, "deadline_seconds")
    if seconds is not None and supervision == "caller":
        raise SpecInvalid(
            json_path="", why='deadline_seconds needs supervision="own": nobody else keeps it'
        )


def _check_console(plan: ProcessPlan, path: PathLike | None, supervision: Supervision) -> None:
    terminal = plan.get("terminal") is not None
    if path is not None and not terminal:
        raise SpecInvalid(
            json_path="", why="console_socket is for a terminal: set terminal=True, '--tty'"
        )
    if terminal and supervision == "caller" and path is None:
        raise SpecInvalid(
            json_path="",
            why='a terminal with supervision="caller" needs a console_socket to be sent to',
        )


def _has_hooks(context: Context, spec: Spec) -> bool:
    """Whether there are some that come before the container's root file system is entered."""
    return any(hook_plans(spec.config, kind) for kind in HOOK_KINDS[:3]) or any(
        kind in context.hooks for kind in HOOK_KINDS[:2]
    )
