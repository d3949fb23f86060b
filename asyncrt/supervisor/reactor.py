"""A small event loop: descriptors, child signals and timers, and framed connections on it.

It exists because asyncio in every supervisor would cost a megabyte each.
"""

from __future__ import annotations

import contextlib
import heapq
import select
import signal
import socket
import time

from asyncrt.launch import frames

_LONGEST_POLL = 86_400.0  # seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class Reactor:
    """Calls handlers when descriptors are readable, when children change, when timers are due."""

    def __init__(self, on_child: Callable[[], None]) -> None:
        self._poller = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._on_child = on_child
        self._wakeup, wake = socket.socketpair()
        self._wakeup.setblocking(False)
        wake.setblocking(False)
        self._wake = wake
        # The handler itself does nothing: the byte that set_wakeup_fd writes ends the poll.
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._poller.register(self._wakeup, select.POLLIN)

    def watch(self, fd: int, handler: Callable[[int], None], events: int = select.POLLIN) -> None:
        """Call handler(events) whenever the descriptor is ready; replaces an earlier handler."""
        self._handlers[fd] = handler
        self._poller.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching; one that isn't watched is fine."""
        if self._handlers.pop(fd, None):
            self._poller.unregister(fd)

    def close(self) -> None:
        """Let go of its own descriptors."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._wakeup.close()
        self._wake.close()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call once, so many seconds from now."""
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._count, call))

    def turn(self) -> None:
        """Wait for something and handle it. Children come last: what was sent before an exit counts."""
        timeout = None
        if self._timers:
            # poll(2) takes an int of milliseconds: what is further away is looked at again then.
            timeout = min(max(0.0, self._timers[0][0] - time.monotonic()), _LONGEST_POLL) * 1000
        children = False
        for fd, events in self._poller.poll(timeout):
            if fd == self._wakeup.fileno():
                children = True
                continue
            handler = self._handlers.get(fd)  # an earlier handler may have taken it away
            if handler:
                handler(events)
        if children:
            with contextlib.suppress(BlockingIOError):
                while self._wakeup.recv(4096):
                    pass
            self._on_child()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()


def _nothing(number: int, frame: object) -> None:
    """Stand in for SIG_DFL, with which no wake-up byte is written."""


class Connection:
    """One client. Never blocks: what a client doesn't read is kept, up to a bound."""

    MAX_BACKLOG = 1 << 20

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        on_message: Callable[[Connection, dict[str, Any], list[int]], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.keep = False  # after an end-of-file our end stays open until this process ends
        self._reactor = reactor
        self._decoder = frames.Decoder()
        self._backlog = bytearray()
        self._on_message = on_message
        self._on_close = on_close
        reactor.watch(sock.fileno(), self._ready)

    @property
    def open(self) -> bool:
        return self.sock.fileno() >= 0

    @property
    def flushed(self) -> bool:
        return not self._backlog or not self.open

    def _ready(self, events: int) -> None:
        if events & select.POLLOUT:
            self._flush()
        if not self.open or not events & ~select.POLLOUT:
            return
        try:
            data, fds = frames.receive(self.sock)
        except BlockingIOError:
            return
        except (OSError, frames.BadFrame):
            self.close()
            return
        if not data:
            self.close()
            return
        self._decoder.feed(data, fds)
        try:
            while (found := self._decoder.pop()) is not None:
                self._on_message(self, *found)
        except frames.BadFrame as error:
            self.send({"error": f"bad message: {error}"})
            self.close()

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send or keep; a client that leaves too much unread is dropped."""
        if not self.open:
            return
        frame = frames.encode(message)
        if not self._backlog:
            try:
                sent = frames.send(self.sock, frame, fds)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            frame = frame[sent:]
        if frame:
            self._backlog += frame
            if len(self._backlog) > self.MAX_BACKLOG:
                self.close()
            else:
                self._reactor.watch(self.sock.fileno(), self._ready, select.POLLIN | select.POLLOUT)

    def _flush(self) -> None:
        try:
            sent = frames.send(self.sock, bytes(self._backlog[:65536]))
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        del self._backlog[:sent]
        if not self._backlog:
            self._reactor.watch(self.sock.fileno(), self._ready)

    def close(self) -> None:
        """Close and tell the owner; once."""
        if self.open:
            self._reactor.forget(self.sock.fileno())
            self._decoder.close()
            if self.keep:
                self._kept = self.sock.dup()
            self.sock.close()
            self._on_close(self)
