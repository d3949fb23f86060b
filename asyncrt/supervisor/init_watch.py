"""What an init says to its supervisor: that it is acknowledged, has started, or couldn't; its end last."""

from __future__ import annotations

import contextlib
import os
import select

from asyncrt import clock
from asyncrt.launch import frames, handover

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from asyncrt.supervisor.loop import Loop

_HEARING_MILLISECONDS = 1000  # for an init on a busy machine to read what it was sent


class InitWatch:
    """Our end of the socket to one init, and what was said there so far."""

    __slots__ = (
        "_loop",
        "_on_acknowledged",
        "_on_started",
        "_open",
        "_sock",
        "acknowledged",
        "failed",
        "started_at",
    )

    def __init__(
        self,
        loop: Loop,
        sock: _socket.socket,
        on_acknowledged: Callable[[], None],
        on_started: Callable[[], None],
    ) -> None:
        self.acknowledged = False  # the creation is done, as its creator says
        self.started_at: str | None = None  # None: not yet, or its program couldn't be executed
        self.failed = False
        self._loop = loop
        self._sock = sock
        self._open = True
        self._on_acknowledged = on_acknowledged
        self._on_started = on_started

    def listen(self) -> None:
        """Hear it from now on, if it hasn't ended."""
        if self._open:
            self._loop.listen(self._sock.fileno(), self._heard)

    def _heard(self, _: int) -> None:
        """Read once, without waiting: more comes with the next turn, its end last."""
        try:
            said = self._sock.recv(65536, frames.DONTWAIT)
        except OSError:
            said = b""
        if not said:
            self._open = False
            self._loop.ignore(self._sock.fileno())
        if said.startswith(handover.ACKNOWLEDGED):
            said = said[1:]
            self._acknowledge()
        if said.startswith(handover.STARTED):
            end = 1 + len(clock.stamp())
            self.started_at = said[1:end].decode()
            said = said[end:]
            self._on_started()
        if said.startswith(handover.FAILED):
            self.failed = True
            self.started_at = None

    def _acknowledge(self) -> None:
        self.acknowledged = True
        self._on_acknowledged()

    def hear(self) -> None:
        """Whatever it has said by now."""
        poller = self._poller()
        while self._open and poller.poll(0):
            self._heard(0)

    def hear_all(self) -> None:
        """Everything: it has ended."""
        while self._open:
            self._heard(0)

    def wait_acknowledged(self) -> None:
        """Wait until it has passed the acknowledgement on; once stopped it can't.

        We'd be deaf to its creator. It is on its way: nobody pauses what isn't recorded yet.
        """
        poller = self._poller()
        while not self.acknowledged and self._open and poller.poll(_HEARING_MILLISECONDS):
            self._heard(0)

    def is_acknowledged(self, creator: int) -> bool:
        """Whether the creator said so there, also to an init that was killed before it could read it."""
        if not self.acknowledged:
            poller = select.poll()
            poller.register(creator, select.POLLIN)
            with contextlib.suppress(OSError):
                if poller.poll(0):
                    said = os.read(creator, len(frames.ACKNOWLEDGEMENT))
                    if said == frames.ACKNOWLEDGEMENT:
                        self._acknowledge()
        return self.acknowledged

    def _poller(self) -> select.poll:
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        return poller

    def close(self) -> None:
        """Let go of it."""
        self._loop.ignore(self._sock.fileno())
        self._sock.close()
