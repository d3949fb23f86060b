"""logs: what a container wrote, as it came."""

from __future__ import annotations

import contextlib
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from asyncrt.cli import commands, errors, session, values
from asyncrt.cli import parameters as p

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import BinaryIO

    from asyncrt.container import LogLine
    from asyncrt.container.log_reader import StreamName
    from asyncrt.engine import Engine


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
    cls=commands.Command,
    examples=[
        "asyncrt logs web",
        "asyncrt logs --follow --tail 20 web",
        "asyncrt logs --since 10m --timestamps --stream stderr web",
    ],
)
@p.ID
@click.option("-f", "--follow", is_flag=True, help="Go on until the container has ended.")
@click.option(
    "--since", type=values.Moment(), help="Only what came since then, or so long ago: 10m, 2h."
)
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
