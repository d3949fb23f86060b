"""export: what a container wrote to its overlay, as a tar archive."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, complete, session
from asyncrt.cli import parameters as p
from asyncrt.cli.text import size_text

if TYPE_CHECKING:
    from asyncrt.cli.progress import Progress
    from asyncrt.cli.whole_file import Write
    from asyncrt.container import Container
    from asyncrt.engine import Engine

_STDOUT = "-"


@click.command(
    cls=commands.Command,
    examples=[
        "asyncrt export -o web.tar web",
        "asyncrt export web | tar -tv",
    ],
)
@p.ID
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default=_STDOUT,
    shell_complete=complete.files,
    help="Write it there, all or nothing; default: -, which is standard output.",
)
@click.pass_context
def export(context: click.Context, id: str, output: str) -> int:
    """Write what a container wrote to its overlay, as a tar archive.

    The archive is what a layer of an OCI image is, uncompressed: files that it removed are there as
    `.wh.NAME`. It may run, but then what it writes meanwhile may be there in part: 'asyncrt pause' it
    before for a picture of one moment. Its layer is there until it is deleted.
    """
    if output == _STDOUT and sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError("won't write an archive to a terminal; name a file with -o")

    async def work(engine: Engine) -> int:
        from asyncrt.cli import whole_file
        from asyncrt.cli.progress import Progress

        container = await engine.load(id)
        async with Progress(f"exporting {container.id}") as progress:
            if output == _STDOUT:
                await _copy(container, whole_file.to_descriptor(1), progress)
            else:
                async with whole_file.writing(output) as write:
                    await _copy(container, write, progress)
        return 0

    return session.run(context, work)


async def _copy(container: Container, write: Write, progress: Progress) -> None:
    written = 0
    async with contextlib.aclosing(container.export()) as pieces:
        async for data in pieces:
            await write(data)
            written += len(data)
            progress.tell(size_text(written))
