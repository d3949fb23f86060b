"""logs: what a container wrote, as it came."""

from __future__ import annotations

import contextlib
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from asyncrt.cli import errors, session
from asyncrt.cli import parameters as p

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import BinaryIO

    from asyncrt.container import LogLine
    from asyncrt.container.log_reader import StreamName
    from asyncrt.engine import Engine

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class _Since(click.ParamType["datetime | timedelta"]):
    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | timedelta:
        text = str(value)
        if text and re.fullmatch(r"([0-9.]+[dhms])+", text):
            try:
                parts = re.findall(r"([0-9.]+)([dhms])", text)
                return timedelta(seconds=sum(float(each) * _UNITS[unit] for each, unit in parts))
            except (ValueError, OverflowError):
                pass
        try:
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC)  # without a zone it is local time
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is no time: write 10m, 1h30m or 2026-01-31T12:00:00Z", param, ctx)


class _Tail(click.ParamType["int | None"]):
    name = "LINES"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        text = str(value)
        if text == "all":
            return None
        if not (text.isascii() and text.isdecimal()):
            self.fail(f"{text!r} is no number of lines from 0 on", param, ctx)
        return int(text)


@click.command(
    cls=p.Command,
    examples=[
        "asyncrt logs web",
        "asyncrt logs --follow --tail 20 web",
        "asyncrt logs --since 10m --timestamps --stream stderr web",
    ],
)
@p.ID
@click.option("-f", "--follow", is_flag=True, help="Go on until the container has ended.")
@click.option("--since", type=_Since(), help="Only what came since then, or so long ago: 10m, 2h.")
@click.option("-n", "--tail", type=_Tail(), help="Only so many of the last lines.")
@click.option("-t", "--timestamps", is_flag=True, help="Show when each line came.")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="One of the two only.")
@click.pass_context
def logs(
    context: click.Context,
    id: str,
    follow: bool,
    since: datetime | timedelta | None,
    tail: int | None,
    timestamps: bool,
    stream: StreamName | None,
) -> int:
    """Print what a container wrote.

    Its stdout goes to stdout, its stderr to stderr. For containers whose output goes to a log: those of 'run --detach', or made with --log. A log is
    there until its container is deleted.
    """

    async def work(engine: Engine) -> int:
        container = await engine.load(id)
        lines = container.logs(follow=follow, since=since, tail=tail, stream=stream)
        await copy(lines, timestamps=timestamps, live=follow)
        return 0

    return session.run(context, work)


async def copy(
    lines: AsyncGenerator[LogLine, None], *, timestamps: bool = False, live: bool = True
) -> None:
    """Write lines as they are to our stdout and stderr; `live` as soon as they come.

    If cancelled, what was written stays written.
    """
    outputs: dict[str, BinaryIO | None] = {
        name: getattr(getattr(sys, name), "buffer", None) for name in ("stdout", "stderr")
    }
    begins = dict.fromkeys(outputs, True)
    try:
        async with contextlib.aclosing(lines):
            async for line in lines:
                output = outputs[line.stream]
                if output is None:
                    continue
                if timestamps and line.time is not None and begins[line.stream]:
                    output.write(f"{line.time:%Y-%m-%dT%H:%M:%S.%fZ} ".encode())
                begins[line.stream] = line.data.endswith(b"\n")
                output.write(line.data)
                if live:
                    output.flush()
        for output in outputs.values():
            if output is not None:
                output.flush()
    except OSError as error:
        raise errors.output_failed(error) from error
