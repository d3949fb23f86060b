"""What the command does about the signals it gets, at each moment of its life.

- Most commands: INT, TERM and HUP cancel what is being done, which undoes it, and the exit status is
  128 + signal. One more of them ends the command at once; what it leaves is found by the next call.
- `run` and `exec` attached pass on all that make sense. What comes before the program runs is held
  and delivered right after its start; a second request to end in that time gives up the start.
- Every one is passed on once the program runs, also a second and third Ctrl-C: whether they end it
  is the program's business. (`asyncrt kill ID KILL` always does.)

A signal that our parent had us ignore (nohup, a shell's background job) stays ignored. Ctrl-Z stops
the command only, the container goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING, Self

from asyncrt.errors import AsyncrtError, ContainerNotFound, InvalidTransition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

_log = logging.getLogger("asyncrt.cli")

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Not among them: what can't be caught, what a fault of our own raises, and what is about our own
# children, pipes, timers and terminal.
FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGCONT,
    signal.SIGWINCH,
    signal.SIGIO,
    signal.SIGPWR,
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)


class Signals:
    """The signals of this process while one command runs. `interrupted_by`: what cancelled it."""

    def __init__(self, task: asyncio.Task[int]) -> None:
        self.interrupted_by: int | None = None
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._caught: set[int] = set()
        self._held: list[int] = []
        self._sends: asyncio.Queue[int] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._resized: Callable[[], Awaitable[object]] | None = None
        self._continued: Callable[[], object] | None = None

    def __enter__(self) -> Self:
        for number in ENDING:
            self._catch(number, self._interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pump is not None:
            self._pump.cancel()
        for number in self._caught:
            self._loop.remove_signal_handler(number)

    def hold(self) -> None:
        """From now on keep what is for the program until forward() says where it goes."""
        for number in FORWARDED:
            self._catch(number, self._take)

    def forward(self, send: Callable[[int], Awaitable[object]] | None) -> None:
        """From now on pass every signal to `send`, those held so far first."""
        self._sends = asyncio.Queue()
        for number in self._held:
            self._sends.put_nowait(number)
        self._pump = self._loop.create_task(self._send_all(self._sends, send))

    def lend(
        self, resized: Callable[[], Awaitable[object]], continued: Callable[[], object]
    ) -> None:
        """From now on a change of our window's size isn't passed on, but told by `resized`.

        When we were stopped and go on `continued` is called, and the size may be another.
        """
        self._resized = resized
        self._continued = continued
        for number in (signal.SIGWINCH, signal.SIGCONT):
            self._catch(number, self._take)

    def interrupt(self) -> None:
        """From now on a signal to end cancels the command again: the program is gone."""
        for number in ENDING:
            self._catch(number, self._interrupt)

    def _catch(self, number: int, act: Callable[[int], None]) -> None:
        if number in self._caught or signal.getsignal(number) is not signal.SIG_IGN:
            self._loop.add_signal_handler(number, act, number)
            self._caught.add(number)

    def _interrupt(self, number: int) -> None:
        if self.interrupted_by is not None:
            os._exit(128 + number)
        self.interrupted_by = number
        self._task.cancel()

    def _take(self, number: int) -> None:
        if number == signal.SIGCONT and self._continued is not None:
            self._continued()
            self._take(signal.SIGWINCH)
        if self._sends is not None:
            self._sends.put_nowait(number)
            return
        ending = (*ENDING, signal.SIGQUIT)
        if number in ending and any(each in ending for each in self._held):
            self._interrupt(number)
        else:
            self._held.append(number)

    async def _send_all(
        self, numbers: asyncio.Queue[int], send: Callable[[int], Awaitable[object]] | None
    ) -> None:
        while True:
            number = await numbers.get()
            try:
                if number == signal.SIGWINCH and self._resized is not None:
                    await self._resized()
                elif send is not None:
                    await send(number)
            except (InvalidTransition, ContainerNotFound, ProcessLookupError):
                pass  # it ended between the signal's coming and its passing on
            except (AsyncrtError, OSError) as error:
                _log.warning("signal %d was not passed on: %s", number, error)
