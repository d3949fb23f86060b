"""A sign of life on a terminal's stderr for whatever takes over a second; nothing elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Self

from asyncrt.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from rich import progress as rich_progress

AFTER_SECONDS = 1.0


class Progress:
    """Shows `what` is going on, and how much of `total` is done, once a second has passed."""

    def __init__(self, what: str, *, total: int = 1) -> None:
        self._what = printable(what)
        self._total = total
        self._done = 0
        self._amount = ""
        self._timer: asyncio.TimerHandle | None = None
        self._shown: rich_progress.Progress | None = None

    async def __aenter__(self) -> Self:
        """Set the timer. If cancelled, nothing is shown."""
        if sys.stderr is not None and sys.stderr.isatty():
            self._timer = asyncio.get_running_loop().call_later(AFTER_SECONDS, self._show)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take away what is shown. If cancelled, it is taken away all the same."""
        if self._timer is not None:
            self._timer.cancel()
        if self._shown is not None:
            self._shown.stop()

    def advance(self) -> None:
        """One more is done."""
        self._done += 1
        if self._shown is not None:
            self._shown.update(self._shown.task_ids[0], completed=self._done)

    def tell(self, amount: str) -> None:
        """So much is done, of nobody knows how much."""
        self._amount = f" {amount}"
        if self._shown is not None:
            self._shown.update(self._shown.task_ids[0], description=self._what + self._amount)

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Not shown inside, so that a line of text can be written."""
        shown = self._shown
        if shown is None:
            yield
            return
        shown.stop()
        try:
            yield
        finally:
            shown.start()

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            ProgressColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as Shown

        columns: list[ProgressColumn] = [
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
        ]
        if self._total > 1:
            columns += [BarColumn(), MofNCompleteColumn()]
        columns.append(TimeElapsedColumn())
        self._shown = Shown(
            *columns,
            console=Console(stderr=True),
            transient=True,
            # It would send what we print to stdout to stderr instead.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._shown.add_task(self._what + self._amount, total=self._total, completed=self._done)
        self._shown.start()
