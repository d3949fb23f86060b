"""From what a caller gives to a created container: the way that all of its creations go."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypedDict, Unpack

from asyncrt._threads import run_blocking
from asyncrt.container import Creation, open_streams, plan_create
from asyncrt.container.beside import find_sandbox
from asyncrt.errors import SpecInvalid
from asyncrt.ids import check_id
from asyncrt.oci import Spec, is_known, placed

if TYPE_CHECKING:
    from asyncrt.container import (
        Context,
        Lease,
        PassedFds,
        Streams,
        StreamTarget,
        Supervision,
        TerminalChoice,
    )
    from asyncrt.platforms import Overlay
    from asyncrt.state import Record

PathLike = str | os.PathLike[str]


class Options(TypedDict):
    """What a create is planned with as it is given."""

    supervision: Supervision
    deadline_seconds: float | None
    lease: Lease | None
    terminal: TerminalChoice | None
    console_socket: PathLike | None
    pass_fds: PassedFds | None
    overlay: Overlay | None


class Place(NamedTuple):
    """Where a container is to be, if its spec alone doesn't say: a sandbox to be, or inside of one."""

    sandbox: tuple[str, str] | None = None  # id and instance of the root container
    share_pid: bool = False


async def make(
    context: Context,
    id: str,
    *,
    spec: Spec | None,
    bundle: PathLike | None,
    streams: tuple[StreamTarget, StreamTarget, StreamTarget],
    timeout: float | None,
    place: Place | None = None,
    **options: Unpack[Options],
) -> tuple[Record, Streams]:
    """Create a container; its record, and its streams, which are the caller's. Raises as Engine.create.

    If cancelled, everything begun is undone first.
    """
    container_id = check_id(id)
    if options["supervision"] not in ("own", "caller"):
        why = f'supervision is {options["supervision"]!r:.40}, must be "own" or "caller"'
        raise SpecInvalid(json_path="", why=why)
    if (spec is None) == (bundle is None):
        raise SpecInvalid(json_path="", why="give either a spec or a bundle")
    if spec is None:
        assert bundle is not None  # noqa: S101 - checked right above
        spec = await run_blocking(Spec.from_bundle, bundle)
    given: object = spec
    if not isinstance(given, Spec):
        why = f"spec={given!r:.40} is no Spec; Spec.command([...]) makes one"
        raise SpecInvalid(json_path="", why=why)
    root, instance = (None if place is None else place.sandbox) or (None, None)
    if place is not None:
        spec = placed(spec, root)
    sandbox = None
    if options["supervision"] == "own":  # else annotations are but words
        sandbox = await find_sandbox(
            context,
            container_id,
            spec,
            instance=instance,
            share_pid=place is not None and place.share_pid,
        )
    planning = partial(
        plan_create,
        context,
        container_id,
        spec,
        room=place is not None and root is None,
        sandbox=sandbox,
        **options,
    )
    plan = planning() if is_known(spec.config.process) else await run_blocking(planning)
    creation = Creation(context, plan)
    with open_streams(container_id, *streams, terminal=plan.has_terminal) as opened:
        await opened.connect()
        try:
            await creation.run(opened, timeout)
        except BaseException:
            opened.disconnect()
            raise
    return creation.record, opened
