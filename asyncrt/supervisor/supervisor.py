"""The role that owns one sandbox: parent and sub-reaper of its processes, writer of its exit records.

It lives in a session of its own, survives the engine that asked for it, holds no lock, and ends
when no process is left and everybody who asked has been answered. When init is dead the rest is
killed, the exit record is written, all connections are answered, and it exits.

There may be a thousand of these for months, so until a client asks for something this touches as
little as it can: each page written to is this process's own from then on.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.supervisor.loop import Loop
    from asyncrt.supervisor.workload import Workload

_FLUSH_SECONDS = 1.0  # how long a client that doesn't read may hold up our end


class Supervisor:
    """One sandbox: its root container, and the children of this process."""

    __slots__ = ("_alone", "_loop", "_root")

    def __init__(self, loop: Loop, root: Workload) -> None:
        self._loop = loop
        self._root = root
        self._alone = False  # no child is left; no new one comes once init has ended
        loop.reap = self._reap

    def run(self) -> None:
        """Serve until nothing is left to do."""
        root = self._root
        root.take_output()
        self._reap()  # most often it is init's end that woke us, and then nothing else is to be done
        if not self._over():
            root.listen()
            while not self._over():
                self._loop.turn()
        root.close_door()
        if not root.flushed:
            expired: list[bool] = []
            self._loop.after(_FLUSH_SECONDS, lambda: expired.append(True))
            while not (expired or root.flushed):
                self._loop.turn()

    def _over(self) -> bool:
        return self._root.recorded and self._alone

    def _reap(self) -> None:
        root = self._root
        while not self._alone:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._alone = root.status is not None
                break
            if pid == 0:
                break
            root.reaped(pid, status)
        root.settle(alone=self._alone)
