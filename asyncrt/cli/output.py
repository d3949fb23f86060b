"""What commands print: JSON for machines, aligned columns for people, colour on terminals only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncrt.cli import errors
from asyncrt.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from asyncrt.state import ExitResult, View


_LEAST_FLEXIBLE = 20


class Column(NamedTuple):
    """A column of a table. `flexible`: may be cut to fit a terminal (never in a pipe)."""

    title: str
    right: bool = False
    flexible: bool = False
    styles: dict[str, str] = {}  # noqa: RUF012  # never changed


def write(text: str) -> None:
    """Write to standard output, at once, so that whoever follows us sees each line as it comes."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except UnicodeEncodeError:
        sys.stdout.write(text.encode("ascii", "backslashreplace").decode())
        sys.stdout.flush()
    except OSError as error:
        raise errors.output_failed(error) from error


def json_text(document: object, *, indent: int | None = 2) -> str:
    """One JSON document. Text that isn't valid Unicode keeps its bytes as lone escapes."""
    import json

    return json.dumps(document, indent=indent) + "\n"


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Write a table; whole words in a pipe, fitted to the width on a terminal."""
    cells = [[printable(each) or "-" for each in row] for row in rows]
    if sys.stdout is not None and sys.stdout.isatty():
        _write_rich(columns, cells)
    else:
        write(plain_table(columns, cells))


def plain_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """The table as aligned text, nothing cut, no space at line ends."""
    titles = [each.title for each in columns]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = []
    for row in (titles, *rows):
        padded = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        lines.append("  ".join(padded).rstrip() + "\n")
    return "".join(lines)


def _write_rich(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    needed = 0
    for index, column in enumerate(columns):
        longest = max([len(column.title), *(len(row[index]) for row in rows)])
        least = min(longest, _LEAST_FLEXIBLE) if column.flexible else longest
        needed += least + 2
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=least,
        )
    for row in rows:
        table.add_row(
            *(
                Text(cell, style=column.styles.get(cell, ""))
                for cell, column in zip(row, columns, strict=True)
            )
        )
    console = Console(highlight=False, markup=False)
    # Ids are copied from here: if need be the terminal breaks the line, but nothing is cut.
    console.width = max(console.width, needed)
    with console.capture() as capture:
        console.print(table)
    write("".join(line.rstrip() + "\n" for line in capture.get().splitlines()))


def exit_document(result: ExitResult) -> dict[str, Any]:
    """An exit as JSON: its fields, and the status a shell would give it."""
    import msgspec

    return {"status_code": result.status_code, **msgspec.to_builtins(result)}


def view_document(view: View) -> dict[str, Any]:
    """A view as JSON; names as in Python."""
    import msgspec

    document: dict[str, Any] = msgspec.to_builtins(view)
    if view.exit is not None:
        document["exit"] = exit_document(view.exit)
    return document


def stamp(moment: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "" if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def exit_words(result: ExitResult) -> str:
    """How something ended, in a word or two: `0`, `SIGTERM`, `SIGKILL (deadline)`, `unknown`."""
    import signal

    if result.exit_code is not None:
        words = str(result.exit_code)
    elif result.signal is not None:
        try:
            words = signal.Signals(result.signal).name
        except ValueError:  # real-time signals between the first and the last have no names
            words = f"signal {result.signal}"
    else:
        return result.reason
    return words if result.reason in {"exit", "signal"} else f"{words} ({result.reason})"
