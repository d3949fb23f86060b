"""watch, events: what happens to containers, and what they use, as it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, complete, output, placing, session, values
from asyncrt.cli import parameters as p
from asyncrt.cli.text import printable, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.container import OutOfMemory, Stats
    from asyncrt.engine import Engine
    from asyncrt.state import Event

_INTERVAL = 5.0

_STATUSES = ("creating", "created", "running", "paused", "stopped", "destroyed")
_COLOURS = {"running": "green", "paused": "yellow", "stopped": "bright_black"}

# Nobody knows what is to come, so that columns have a width that does for most.
_WATCH = (("TIME", 27), ("ID", 24), ("STATUS", 9), ("BEFORE", 8), ("BY", 8), ("EXIT", 0))
_STATS = (
    *(("TIME", 20), ("ID", 24), ("CPU", 7), ("MEMORY", 9), ("LIMIT", 9)),
    *(("PIDS", 5), ("THREADS", 7), ("READ", 9), ("WRITTEN", 0)),
)


class _Table:
    """Rows as they come, below their titles."""

    def __init__(self, columns: Sequence[tuple[str, int]]) -> None:
        self._widths = [width for _, width in columns]
        self._coloured = sys.stdout is not None and sys.stdout.isatty()
        self.add([title for title, _ in columns])

    def add(self, cells: Sequence[str]) -> None:
        """Write one row, in one piece."""
        self.say(cells, "")

    def say(self, cells: Sequence[str], words: str) -> None:
        """Write the first cells of a row, and words instead of the others."""
        padded = []
        for cell, width in zip(cells, self._widths, strict=False):
            text = (printable(cell) or "-").ljust(width)
            if self._coloured and cell in _COLOURS:
                text = click.style(text, fg=_COLOURS[cell])
            padded.append(text)
        if words:
            padded.append(printable(words))
        output.write("  ".join(padded).rstrip() + "\n")


@click.command(
    cls=commands.Command,
    examples=[
        "asyncrt watch",
        "asyncrt watch --status stopped web",
        "asyncrt watch --format json --after oldest",
    ],
)
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete.ids)
@click.option(
    "--after",
    metavar="POSITION",
    help="Begin after the event with this position, or with all that are kept: oldest. Default: now.",
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice(_STATUSES),
    multiple=True,
    help="Only what leads to this status; may be repeated.",
)
@p.formats("table", "json")
@click.pass_context
def watch(
    context: click.Context,
    ids: tuple[str, ...],
    after: str | None,
    statuses: tuple[str, ...],
    format_: str,
) -> int:
    """Show what happens to containers, as it happens.

    Whichever process does it, until interrupted. With whole IDs of these only, there or yet to come.
    With --format json each event is a line, and its position is where another watch can go on after
    it.
    """

    async def work(engine: Engine) -> int:
        async with engine.watch(after, ids=ids, status=statuses) as events:
            table = _Table(_WATCH) if format_ == "table" else None
            async for event in events:
                if table is None:
                    output.write(output.json_text(_event_document(event), indent=None))
                else:
                    table.add(_event_row(event))
        return 0

    return session.run(context, work)


def _event_document(event: Event) -> dict[str, object]:
    import msgspec

    document: dict[str, object] = msgspec.to_builtins(event)
    if event.exit is not None:
        document["exit"] = output.exit_document(event.exit)
    return document


def _event_row(event: Event) -> Sequence[str]:
    return (
        f"{event.time:%Y-%m-%dT%H:%M:%S.%fZ}",
        event.id,
        event.status,
        event.previous or "",
        event.operation,
        "" if event.exit is None else output.exit_words(event.exit),
    )


@click.command(
    cls=commands.Command,
    examples=[
        "asyncrt events web",
        "asyncrt events --stats",
        "asyncrt events --format json --interval 60 web db",
        "asyncrt events --sandbox pod",
    ],
)
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete.ids)
@p.SANDBOX
@click.option("--stats", "once", is_flag=True, help="Show what they use now, and exit.")
@click.option(
    "--interval",
    type=values.Seconds(),
    help=f"How long to wait between what is used now and next; {_INTERVAL:g} if not given.",
)
@p.formats("table", "json")
@click.pass_context
def events(
    context: click.Context,
    ids: tuple[str, ...],
    sandbox: str | None,
    once: bool,
    interval: float | None,
    format_: str,
) -> int:
    """Show what containers use, run out of and become.

    Of the IDs until the last of them has ended, as of those in a sandbox and those that come into it;
    without any, of all that there are and all that come, until interrupted.

    CPU is in percent of one processor since the line before. MEMORY is what is charged to its cgroup;
    without one it counts what processes share for each. READ and WRITTEN are from and to storage, since
    the container began. With --format json each line is an object of the type stats, oom or lifecycle.
    """
    if ids and sandbox is not None:
        raise click.UsageError("give IDs or --sandbox, not both")
    if once and interval is not None:
        raise click.UsageError("--stats shows them once: not together with --interval")

    async def work(engine: Engine) -> int:
        show = _Show(format_)
        if once:
            return await _show_once(context, engine, ids, sandbox, show)
        if sandbox is not None:
            await placing.load(engine, sandbox)  # or its absence would be told as a container's
        seconds = _INTERVAL if interval is None else interval
        async for each in engine.events(ids or None, sandbox=sandbox, interval=seconds):
            show.show(each)
        return 0

    return session.run(context, work)


async def _show_once(
    context: click.Context,
    engine: Engine,
    ids: tuple[str, ...],
    sandbox: str | None,
    show: _Show,
) -> int:
    from asyncrt.cli import batch, options
    from asyncrt.errors import ContainerNotFound, InvalidTransition

    async def act(id: str) -> None:
        try:
            found = await (await engine.load(id)).stats()
        except (ContainerNotFound, InvalidTransition):
            if ids:
                raise
            return  # one of all, and it has ended meanwhile
        show.show(found)

    wanted = await placing.whole(engine, sandbox)
    live = ("created", "running", "paused")
    names = ids or [each.id for each in await engine.list(status=live, sandbox=wanted)]
    if not names:
        return 0
    debug = options.of(context).debug
    return await batch.for_each(names, act, doing="measuring", at_once=1, debug=debug)


class _Show:
    """One line for each thing that happens."""

    def __init__(self, format_: str) -> None:
        self._format = format_
        self._table: _Table | None = None
        self._last: dict[str, Stats] = {}

    def show(self, each: Stats | OutOfMemory | Event) -> None:
        """Write the line; the cpu's share is since the one before."""
        from asyncrt.container import OutOfMemory
        from asyncrt.state import Event

        if self._format == "json":
            output.write(output.json_text(_happening_document(each), indent=None))
            return
        if self._table is None:
            self._table = _Table(_STATS)
        row = [f"{each.time:%Y-%m-%dT%H:%M:%SZ}", each.id]
        if isinstance(each, Event):
            self._last.pop(each.id, None)
            self._table.say(row, _transition_words(each))
        elif isinstance(each, OutOfMemory):
            self._table.say(row, _memory_words(each))
        else:
            last, self._last[each.id] = self._last.get(each.id), each
            self._table.add([*row, *_stats_cells(each, last)])


def _happening_document(each: Stats | OutOfMemory | Event) -> dict[str, object]:
    """As runc has it: a type, an id, and the data."""
    import msgspec

    from asyncrt.container import OutOfMemory
    from asyncrt.state import Event

    kind = "stats"
    data: dict[str, object] = msgspec.to_builtins(each)
    if isinstance(each, Event):
        kind, data = "lifecycle", _event_document(each)
    elif isinstance(each, OutOfMemory):
        kind = "oom"
    known = {"id": data.pop("id"), "instance": data.pop("instance")}
    return {"type": kind, **known, "data": data}


def _transition_words(event: Event) -> str:
    words = f"{event.previous or 'new'} -> {event.status} ({event.operation})"
    return words if event.exit is None else f"{words}: {output.exit_words(event.exit)}"


def _memory_words(each: OutOfMemory) -> str:
    if each.hangs:
        return "out of memory: it hangs, as nobody is killed"
    return "out of memory" + ("" if each.kills is None else f": {each.kills} killed so far")


def _stats_cells(stats: Stats, last: Stats | None) -> Sequence[str]:
    memory = stats.cgroup.memory if stats.cgroup is not None else None
    return (
        "" if last is None else _share(last, stats),
        size_text(stats.rss_bytes if memory is None else memory.usage_bytes),
        size_text(None if memory is None else memory.limit_bytes),
        str(stats.pids),
        str(stats.threads),
        size_text(stats.read_bytes),
        size_text(stats.write_bytes),
    )


def _share(last: Stats, now: Stats) -> str:
    seconds = (now.time - last.time).total_seconds()
    if seconds <= 0:  # the clock was set back
        return ""
    return f"{max(0.0, now.cpu_seconds - last.cpu_seconds) / seconds:.1%}"
