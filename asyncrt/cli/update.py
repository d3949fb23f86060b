"""update: other limits for containers that live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from asyncrt.cli import commands, complete, options, session
from asyncrt.cli import parameters as p

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncrt.engine import Engine

_MOST_BYTES = 16 * 1024 * 1024


class _Size(click.ParamType[int]):
    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value == "-1":
            return -1
        from asyncrt.errors import SpecInvalid
        from asyncrt.oci.sandbox_config import parse_size

        try:
            return parse_size(str(value), "")
        except SpecInvalid:
            return self.fail(f"{value!r} is neither bytes, a size like 256M, nor -1", param, ctx)


# By the names of runc's update, and where each stands in OCI's resources.
_LIMITS: tuple[tuple[tuple[str, ...], tuple[str, str], Any, str], ...] = (
    (
        ("--memory",),
        ("memory", "limit"),
        _Size(),
        "How much memory; -1: no limit, nor one of swap.",
    ),
    (
        ("--memory-swap",),
        ("memory", "swap"),
        _Size(),
        "How much memory and swap together; -1: no limit.",
    ),
    (
        ("--memory-reservation",),
        ("memory", "reservation"),
        _Size(),
        "How much memory it keeps longest when there is little.",
    ),
    (("--pids-limit",), ("pids", "limit"), int, "How many processes and threads; -1: no limit."),
    (
        ("--cpu-share", "--cpu-shares"),
        ("cpu", "shares"),
        int,
        "Its weight beside other containers, 2 to 262144; 1024 is usual.",
    ),
    (
        ("--cpu-quota",),
        ("cpu", "quota"),
        int,
        "Microseconds of processor time in each period; -1: no limit.",
    ),
    (("--cpu-period",), ("cpu", "period"), int, "A period's length in microseconds."),
    (("--cpu-burst",), ("cpu", "burst"), int, "Unused microseconds that it may use up later."),
    (("--cpu-idle",), ("cpu", "idle"), int, "1: run only when nobody else wants to; 0: as usual."),
    (
        ("--cpu-rt-period",),
        ("cpu", "realtimePeriod"),
        int,
        "A period of realtime scheduling, in microseconds (cgroup version 1).",
    ),
    (
        ("--cpu-rt-runtime",),
        ("cpu", "realtimeRuntime"),
        int,
        "Microseconds of realtime scheduling in each of its periods (cgroup version 1).",
    ),
    (("--cpuset-cpus",), ("cpu", "cpus"), str, "Which processors, as 0-3,7."),
    (("--cpuset-mems",), ("cpu", "mems"), str, "Which memory nodes, as 0-1."),
    (
        ("--blkio-weight",),
        ("blockIO", "weight"),
        int,
        "Its weight in the use of block devices, 10 to 1000.",
    ),
)

_NOT_HERE = ("--l3-cache-schema", "--mem-bw-schema")  # runc's update has these too


def _refuse(_: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(
            f"{param.opts[0]}: caches and memory bandwidth (Intel RDT) aren't divided here;"
            " the kernel's interface for it is /sys/fs/resctrl"
        )


def _limits(command: Callable[..., int]) -> Callable[..., int]:
    for name in _NOT_HERE:
        add = click.option(name, callback=_refuse, expose_value=False, hidden=True, help="Refused.")
        command = add(command)
    for names, (part, field), kind, help_ in reversed(_LIMITS):
        metavar = {int: "N", str: "LIST"}.get(kind, "SIZE")
        add = click.option(*names, f"{part}_{field}", type=kind, metavar=metavar, help=help_)
        command = add(command)
    return command


@click.command(
    cls=commands.Command,
    examples=[
        "asyncrt update --memory 512M --memory-swap 512M --pids-limit 200 web",
        "asyncrt update --cpu-quota 50000 web db",
        "asyncrt update --resources limits.json web",
    ],
)
@p.IDS
@click.option(
    "-r",
    "--resources",
    metavar="FILE",
    shell_complete=complete.files,
    help="Take the limits from this file, an object as OCI's linux.resources; - is standard input.",
)
@_limits
@click.pass_context
def update(
    context: click.Context,
    /,
    ids: Sequence[str],
    resources: str | None,
    **limits: int | str | None,
) -> int:
    """Change the limits of containers that live.

    They may be created, running or paused. What isn't named stays as it is. Of each container all is changed or, when something is refused,
    nothing; the others are changed all the same. SIZE is bytes, or has a unit: 256M, 2G.
    """
    named = _named(limits)
    if resources is None and not named:
        raise click.UsageError("name a limit, or a file of them with --resources")
    if resources is not None and named:
        raise click.UsageError("--resources and other limits exclude each other")
    wanted = named if resources is None else _read(resources)

    async def work(engine: Engine) -> int:
        from asyncrt.cli import batch

        async def act(id: str) -> None:
            await (await engine.load(id)).update(wanted)

        debug = options.of(context).debug
        return await batch.for_each(ids, act, doing="updating", debug=debug)

    return session.run(context, work)


def _named(limits: dict[str, int | str | None]) -> dict[str, Any]:
    found: dict[str, dict[str, int | str]] = {}
    for _, (part, field), _, _ in _LIMITS:
        value = limits[f"{part}_{field}"]
        if value is not None:
            found.setdefault(part, {})[field] = value
    return found


def _read(path: str) -> dict[str, Any]:
    """What a file names. Raises SpecInvalid with its path, before anything is done to anybody."""
    from asyncrt.oci.bundle import read_config
    from asyncrt.oci.update import read_change

    if path == "-":
        return read_change(_standard_input(), "standard input")
    return read_change(read_config(path), path)


def _standard_input() -> bytes:
    import sys

    if sys.stdin is None:
        return b""
    return sys.stdin.buffer.read(_MOST_BYTES)
