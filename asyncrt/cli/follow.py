"""watch, events: what happens to containers, and what they use, as it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from asyncrt.cli import complete, output, session
from asyncrt.cli import parameters as p
from asyncrt.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.container import Stats
    from asyncrt.engine import Engine
    from asyncrt.state import Event

_STATUSES = ("creating", "created", "running", "paused", "stopped", "destroyed")
_COLOURS = {"running": "green", "paused": "yellow", "stopped": "bright_black"}

# Nobody knows what is to come, so that columns have a width that does for most.
_WATCH = (("TIME", 27), ("ID", 24), ("STATUS", 9), ("BEFORE", 8), ("BY", 8), ("EXIT", 0))
_STATS = (
    *(("TIME", 20), ("CPU", 7), ("MEMORY", 9), ("PIDS", 5)),
    *(("THREADS", 7), ("READ", 9), ("WRITTEN", 0)),
)


class _Table:
    """Rows as they come, below their titles."""

    def __init__(self, columns: Sequence[tuple[str, int]]) -> None:
        self._widths = [width for _, width in columns]
        self._coloured = sys.stdout is not None and sys.stdout.isatty()
        self.add([title for title, _ in columns])

    def add(self, cells: Sequence[str]) -> None:
        """Write one row, in one piece."""
        padded = []
        for cell, width in zip(cells, self._widths, strict=True):
            text = (printable(cell) or "-").ljust(width)
            if self._coloured and cell in _COLOURS:
                text = click.style(text, fg=_COLOURS[cell])
            padded.append(text)
        output.write("  ".join(padded).rstrip() + "\n")


@click.command(
    cls=p.Command,
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
    cls=p.Command,
    examples=["asyncrt events web", "asyncrt events --stats --format json web"],
)
@p.ID
@click.option("--stats", "once", is_flag=True, help="Show what it uses now, and exit.")
@click.option(
    "--interval",
    type=p.SECONDS,
    default=5.0,
    show_default=True,
    help="How long to wait between one line and the next.",
)
@p.formats("table", "json")
@click.pass_context
def events(context: click.Context, id: str, once: bool, interval: float, format_: str) -> int:
    """Show what a container's processes use, until it ends.

    CPU is in percent of one processor since the line before; MEMORY counts what processes share for
    each; READ and WRITTEN are from and to storage, since the container began.
    """

    async def work(engine: Engine) -> int:
        container = await engine.load(id)
        if once:
            _StatsShow(container.id, format_).show(await container.stats())
            return 0
        show = _StatsShow(container.id, format_)
        async for each in container.events(interval):
            show.show(each)
        return 0

    return session.run(context, work)


class _StatsShow:
    """One line for each time that a container was looked at."""

    def __init__(self, container_id: str, format_: str) -> None:
        self._id = container_id
        self._format = format_
        self._table: _Table | None = None
        self._last: Stats | None = None

    def show(self, stats: Stats) -> None:
        """Write the line; the cpu's share is since the one before."""
        if self._format == "json":
            import msgspec

            # As runc has it, whose data is of cgroups.
            document = {"type": "stats", "id": self._id, "data": msgspec.to_builtins(stats)}
            output.write(output.json_text(document, indent=None))
            return
        if self._table is None:
            self._table = _Table(_STATS)
        last, self._last = self._last, stats
        self._table.add(
            (
                f"{stats.time:%Y-%m-%dT%H:%M:%SZ}",
                "" if last is None else _share(last, stats),
                _bytes(stats.rss_bytes),
                str(stats.pids),
                str(stats.threads),
                _bytes(stats.read_bytes),
                _bytes(stats.write_bytes),
            )
        )


def _share(last: Stats, now: Stats) -> str:
    seconds = (now.time - last.time).total_seconds()
    if seconds <= 0:  # the clock was set back
        return ""
    return f"{max(0.0, now.cpu_seconds - last.cpu_seconds) / seconds:.1%}"


def _bytes(count: int | None) -> str:
    if count is None:
        return ""
    if count < 1024:
        return f"{count}B"
    amount, units = count / 1024, "KMGT"
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.1f}{units[0]}"
