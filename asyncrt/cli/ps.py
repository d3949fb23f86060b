"""ps: the processes of a container, as we know them or as ps(1) tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, output, session
from asyncrt.cli import parameters as p
from asyncrt.cli.errors import CommandFailedError
from asyncrt.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from asyncrt.container import ProcessInfo
    from asyncrt.engine import Engine

_COLUMNS = (
    output.Column("PID", right=True),
    output.Column("PPID", right=True),
    output.Column("USER"),
    output.Column("STATE"),
    output.Column("STARTED"),
    output.Column("CPU", right=True),
    output.Column("RSS", right=True),
    output.Column("COMMAND", flexible=True),
)

_MOST_NAMED = 10_000  # of pids that fit into one argument (execve(2): 128 KiB)


class _PsCommand(commands.ProgramCommand):
    """A command that ends in options of ps(1)."""

    program_usage = "[-- PS-OPTIONS...]"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As its parent; an option that isn't ours is one of ps, most likely."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            why = f"No such option: {error.option_name}. Options of ps go at the end, after --."
            raise click.UsageError(why, ctx) from None


@click.command(
    "ps",
    cls=_PsCommand,
    examples=[
        "asyncrt ps web",
        "asyncrt ps --format json web",
        "asyncrt ps web -- -o pid,ppid,etime,args",
        "asyncrt ps web aux",
    ],
)
@p.ID
@p.formats("table", "json")
@click.pass_context
def ps(context: click.Context, id: str, program: Sequence[str], format_: str) -> int:
    """List the processes of a container.

    With options of ps(1) it is that program's output, of the container's processes only. They need to
    have it show a column PID.
    """
    if program and format_ == "json":
        raise click.UsageError("options of ps are for the table, not for --format json")

    async def work(engine: Engine) -> int:
        import msgspec

        container = await engine.load(id)
        found = await container.processes()
        if program:
            pids = [each.pid for each in found]
            output.write(select(await _ps(program, pids), pids))
        elif format_ == "json":
            output.write(output.json_text(msgspec.to_builtins(found)))
        else:
            output.write_table(_COLUMNS, [_row(each) for each in found])
        return 0

    return session.run(context, work)


def _row(each: ProcessInfo) -> Sequence[str]:
    return (
        str(each.pid),
        str(each.ppid),
        each.user,
        each.state,
        output.stamp(each.started_at),
        f"{each.cpu_seconds:.2f}",
        f"{each.rss_bytes // 1024}K",
        " ".join(each.command),
    )


async def _ps(options: Sequence[str], pids: Sequence[int]) -> str:
    """What ps(1) says with these options. If cancelled, it is killed."""
    # Options that select none would have it tell of this terminal's only; others it shows as well.
    code, out, err = 1, "", ""
    if len(pids) <= _MOST_NAMED:
        code, out, err = await _run("ps", *options, "-p", ",".join(map(str, pids)))
    if code:  # all have ended, or it is one that knows no -p
        code, out, err = await _run("ps", *options)
    if code:
        said = next(filter(None, map(str.strip, err.splitlines())), f"exit status {code}")
        raise CommandFailedError(f"ps: {printable(said.removeprefix('error: '))}")
    return out


async def _run(*command: str) -> tuple[int, str, str]:
    """Exit status and output. If cancelled, it is killed and reaped."""
    import asyncio
    from asyncio.subprocess import DEVNULL, PIPE

    from asyncrt import _threads

    starting = asyncio.get_running_loop().create_task(
        asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    )
    # To its end: uvloop, cancelled in the middle of it, doesn't wait for what it has begun.
    cancelled = await _threads.drain(starting)
    try:
        process = starting.result()
    except FileNotFoundError:
        raise CommandFailedError(
            "ps isn't installed (Debian: apt install procps); without options 'asyncrt ps' needs none"
        ) from None
    try:
        if cancelled is not None:
            raise cancelled
        out, err = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
        await _threads.finish(process.wait())
        raise
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


def select(text: str, pids: Collection[int]) -> str:
    """The lines of ps that tell of these processes, below its titles.

    Threads that it shows on lines of their own, without a pid, go with the process above them.
    Raises CommandFailedError for an output that can't be told apart.
    """
    titles, *lines = text.split("\n")
    try:
        column = titles.split().index("PID")
    except ValueError:
        raise CommandFailedError(
            "ps shows no column PID to know the container's processes by; ask for one: -o pid,..."
        ) from None
    kept = [titles]
    wanted = False
    for line in filter(str.strip, lines):
        fields = line.split()
        pid = fields[column] if column < len(fields) else ""
        if pid.isascii() and pid.isdecimal():
            wanted = int(pid) in pids
        elif pid not in {"-", "PID"}:
            raise CommandFailedError(
                "ps shows a column with spaces before PID; ask for that first: -o pid,..."
            )
        if wanted or pid == "PID":
            kept.append(line)
    return "".join(f"{printable(each)}\n" for each in kept)
