"""wait and delete: the end of containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, options, output, placing, session
from asyncrt.cli import parameters as p
from asyncrt.ids import check_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.engine import Engine


@click.command(
    cls=commands.Command, examples=["asyncrt wait web", "asyncrt wait --format json web db cache"]
)
@p.IDS
@p.formats("text", "json")
@click.pass_context
def wait(context: click.Context, ids: Sequence[str], format_: str) -> int:
    """Wait until containers have stopped, and print how they ended.

    Prints the exit status alone for one container, a line `ID STATUS` each for several, as they
    end: the program's own status, 128 + the signal that killed it, or 255 if that is unknown. As
    JSON it prints an object a line with id, status_code, exit_code, signal, reason and times.
    """

    async def work(engine: Engine) -> int:
        from asyncrt.cli import batch

        several = len(set(ids)) > 1

        async def one(name: str) -> str:
            container = await engine.load(name)
            result = await container.wait()
            if format_ == "json":
                document = {"id": container.id, **output.exit_document(result)}
                return output.json_text(document, indent=None)
            if several:
                return f"{container.id} {result.status_code}\n"
            return f"{result.status_code}\n"

        debug = options.of(context).debug
        # All at once: waiting for some would else depend on the end of others.
        return await batch.for_each(ids, one, doing="waiting for", at_once=len(ids), debug=debug)

    return session.run(context, work)


@click.command(
    cls=commands.Command,
    examples=[
        "asyncrt delete web",
        "asyncrt delete --force web db",
        "asyncrt delete --force --sandbox pod",
    ],
)
@p.IDS_IF_ANY
@placing.OF
@click.option(
    "-f", "--force", is_flag=True, help="Stop it first if need be; one that isn't there is fine."
)
@click.pass_context
def delete(context: click.Context, ids: Sequence[str], sandbox: str | None, force: bool) -> int:
    """Delete containers that have stopped.

    With --force those of any status, and those whose record is broken, are deleted too. Several are
    deleted at once; one that can't be is told, and the others are deleted all the same. With the root
    of a sandbox the others in it are stopped, and stay; --sandbox deletes them too, before it.
    """
    placing.check(ids, sandbox)
    if force and sandbox is not None:
        check_id(sandbox)  # one that there can't be is no missing one
    if force and session.is_missing(options.of(context).root):
        for each in ids:
            check_id(each)
        return 0  # nothing is there, as is to be

    async def work(engine: Engine) -> int:
        from asyncrt.cli import batch

        async def one(name: str) -> None:
            await engine.delete(name, force=force)

        debug = options.of(context).debug
        try:
            turns = await placing.stages(engine, ids, sandbox, abbreviated=not force)
        except placing.NoSandboxError:
            if not force:
                raise
            turns = [list(ids)]
        return await batch.in_turns(turns, one, doing="deleting", debug=debug)

    return session.run(context, work)
