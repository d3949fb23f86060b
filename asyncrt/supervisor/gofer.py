"""The supervisor's side of a container's gofer: its child, which it asks for exports and outlives."""

from __future__ import annotations

import _socket
import os

from asyncrt import _csignal
from asyncrt.launch import frames, handover, servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt.supervisor.loop import Loop


class Gofer:
    """One gofer. Its death is told once, whichever way it is heard of."""

    __slots__ = ("_servers", "_sock", "pid")

    def __init__(self, pid: int, sock: int) -> None:
        """Take over the descriptor of the socket to it."""
        self.pid = pid
        self._sock = _socket.socket(fileno=sock)
        self._sock.setblocking(False)
        # Of the overlay, where the kernel isn't; their pids aren't used again before it ends.
        self._servers: list[int] = []

    def listen(self, loop: Loop, on_death: Callable[[], None]) -> None:
        """Have its death told from now on; it may have been reaped already."""
        loop.listen(self._sock.fileno(), lambda _: on_death())
        self._servers = servers.find(self.pid)

    def let_go(self, loop: Loop) -> None:
        """It has ended."""
        loop.ignore(self._sock.fileno())
        self._sock.close()

    def export(self, fd: int) -> None:
        """Have it write the layer to a descriptor, which stays ours. Raises OSError."""
        frames.send(self._sock, handover.EXPORT, [fd])

    def kill(self) -> None:
        """End it; whose end of the socket is open is our child and hasn't ended, nor been reaped."""
        try:
            self._sock.recv(1)
        except BlockingIOError:
            os.kill(self.pid, _csignal.SIGKILL)
        except OSError:
            pass  # it has ended

    def end_servers(self) -> None:
        """End what serves its overlay, unless that is the kernel; it ends with it."""
        servers.end(self.pid)

    def serves_no_more(self) -> bool:
        """Whether what serves its overlay has died, or is to die with it; the kernel never does."""
        if any(servers.is_ending(each) for each in self._servers):
            return True
        try:
            return bool(self._servers) and not self._sock.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
