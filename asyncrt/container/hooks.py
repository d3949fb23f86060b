"""Running a container's OCI hooks from the engine's side (runtime-spec, config.md#posix-hooks)."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from asyncrt import _durable, _paths
from asyncrt.container import callables
from asyncrt.errors import HookFailed, SpecInvalid
from asyncrt.oci import Spec, hook_plans, state_report
from asyncrt.state import Deletion

if TYPE_CHECKING:
    from asyncrt.container.change import Change
    from asyncrt.container.context import Context
    from asyncrt.oci.hooks import HookKind
    from asyncrt.state import HookProgress, Record
    from asyncrt.status import Status

_log = logging.getLogger("asyncrt.container")


async def read_spec(context: Context, container_id: str) -> Spec | None:
    """The spec a container was made of, from ID.d/config.json; None when there is none (any more).

    If cancelled, nothing has changed.
    """
    path = f"{context.directory(container_id)}/{_paths.CONFIG}"
    try:
        return Spec.decode(await context.run(_durable.read, path), path=path)
    except (OSError, SpecInvalid):
        return None


def report(record: Record, spec: Spec | None, status: Status, pid: int | None) -> dict[str, object]:
    """The OCI state of a container."""
    return state_report(
        oci_version=spec.config.oci_version if spec is not None else "1.2.0",
        id=record.id,
        status=status.value,
        pid=pid,
        bundle=record.bundle,
        annotations=spec.config.annotations if spec is not None else None,
    )


async def run_hooks(
    context: Context, spec: Spec | None, record: Record, status: Status, *kinds: HookKind
) -> None:
    """Run the hooks of these kinds in order; each hears `status` in its state.

    In each kind the spec's come first, then the engine's. Raises HookFailed at the first that
    fails. If cancelled, the one that runs is killed, see also `callables.call`.
    """
    for kind in kinds:
        plans = hook_plans(spec.config, kind) if spec is not None else []
        calls = context.hooks.get(kind, ())
        if not plans and not calls:
            continue
        pid = record.init.pid if record.init is not None else None
        told = report(record, spec, status, pid)
        for plan in plans:
            _log.debug("container %s: %s hook %s", record.id, kind, plan["path"])
            why = await context.launcher.run_hook(plan, json.dumps(told))
            if why:
                raise HookFailed(container_id=record.id, kind=kind, path=plan["path"], why=why)
        for each in calls:
            _log.debug("container %s: %s hook %s", record.id, kind, callables.name_of(each))
            await callables.call(record.id, kind, each, {**told})


def has_hooks(context: Context, record: Record, *kinds: HookKind) -> bool:
    """Whether there are any of these kinds, the spec's or the engine's."""
    return any(kind in record.hooks or kind in context.hooks for kind in kinds)


async def run_poststop(held: Change, status: Status) -> None:
    """Run the poststop hooks, each step saved, so that a killed deleter leaves none out.

    A hook that is done isn't run again; one that had begun is, and so are the engine's own. A
    failing one is logged and the others still run. If cancelled, the one that runs is killed and
    stays begun.
    """
    context, record = held.context, held.record
    if not has_hooks(context, record, "poststop"):
        return
    spec = await read_spec(context, record.id)
    if "poststop" in record.hooks:
        await _run_specs_poststop(held, spec, status)
    for each in context.hooks.get("poststop", ()):
        try:
            told = report(record, spec, status, None)
            await callables.call(record.id, "poststop", each, told)
        except HookFailed as error:
            _log.warning("%s", error, exc_info=error.__cause__)


async def _run_specs_poststop(held: Change, spec: Spec | None, status: Status) -> None:
    context, record = held.context, held.record
    plans = hook_plans(spec.config, "poststop") if spec is not None else []
    if not plans:
        return
    if record.deletion is None or len(record.deletion.poststop) != len(plans):
        pending: HookProgress = "pending"
        record.deletion = Deletion(poststop=(pending,) * len(plans))
    state = json.dumps(report(record, spec, status, None))
    for index, plan in enumerate(plans):
        if record.deletion.poststop[index] == "done":
            continue
        await _note(held, index, "begun")
        why = await context.launcher.run_hook(plan, state)
        if why:
            _log.warning("container %s: poststop hook %s: %s", record.id, plan["path"], why)
        await _note(held, index, "done")


async def _note(held: Change, index: int, progress: HookProgress) -> None:
    deletion = held.record.deletion
    if deletion is not None:
        held.record.deletion = deletion.with_hook(index, progress)
        await held.save()
