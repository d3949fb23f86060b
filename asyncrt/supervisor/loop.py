"""What a supervisor waits with: descriptors, timers, the ends of children."""

from __future__ import annotations

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_POLL = 2**31 - 1  # milliseconds, an int to poll(2): 24 days


class Loop:
    """Calls whoever listens. Makes nothing that costs memory before it is first waited with."""

    __slots__ = ("_dropped", "_handlers", "_poller", "_timers", "_wakeup", "reap", "spare")

    def __init__(self, wakeup: int) -> None:
        """A byte comes in `wakeup` for each SIGCHLD; `reap` is to be set, and is called then."""
        self.reap: Callable[[], None] = _nothing
        self.spare = -1  # a descriptor for whoever has to turn a client away for want of one
        self._wakeup = wakeup
        self._poller: select.poll | None = None  # made when first waited for
        self._handlers: dict[int, tuple[Callable[[int], None], int]] = {}
        self._dropped: set[int] = set()  # descriptors that were let go of in this turn
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def listen(self, fd: int, handler: Callable[[int], None], events: int = select.POLLIN) -> None:
        """Call handler(events) whenever the descriptor is ready; replaces an earlier handler."""
        self._handlers[fd] = handler, events
        if self._poller is not None:
            self._poller.register(fd, events)

    def ignore(self, fd: int) -> None:
        """Stop listening; a descriptor that isn't listened to is fine."""
        self._dropped.add(fd)
        if self._handlers.pop(fd, None) and self._poller is not None:
            self._poller.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call once, so many seconds from now."""
        self._timers.append((time.monotonic() + seconds, call))

    def turn(self) -> None:
        """Wait for something and handle it. Children last: what was said before an exit counts."""
        if self._poller is None:
            self._poller = select.poll()
            self._poller.register(self._wakeup, select.POLLIN)
            for fd, (_, events) in self._handlers.items():
                self._poller.register(fd, events)
        timeout = None
        if self._timers:
            left = max(0.0, min(when for when, _ in self._timers) - time.monotonic())
            timeout = min(left * 1000, _LONGEST_POLL)
        children = False
        self._dropped.clear()
        for fd, events in self._poller.poll(timeout):
            if fd == self._wakeup:
                children = True
                continue
            # An earlier handler may have let go of it, and its number may be another's by now.
            if fd in self._handlers and fd not in self._dropped:
                self._handlers[fd][0](events)
        if children:
            os.read(self._wakeup, 65536)
            self.reap()
        if self._timers:
            now = time.monotonic()
            due = [each for each in self._timers if each[0] <= now]
            self._timers = [each for each in self._timers if each[0] > now]
            for _, call in due:
                call()


def _nothing() -> None:
    pass
