"""The lease on a container: who owns it, and its end when the owner's connection has closed.

The kernel closes a connection however its process ends, so nothing is asked and nothing expires
while the owner lives. (PR_SET_PDEATHSIG would follow a thread, and couldn't be handed on.)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.supervisor.clients import Connection
    from asyncrt.supervisor.workload import Workload


class Lease:
    """At most one owner, the last who asked; `ended` once the container is ended for want of one."""

    __slots__ = ("_grace", "_owner", "_turn", "_workload", "ended")

    def __init__(self, workload: Workload) -> None:
        self.ended = False
        self._workload = workload
        self._owner: Connection | None = None
        self._grace = 0.0
        self._turn = 0  # counts owners: who comes within the grace makes an end of it moot

    def give(self, client: Connection, grace: float | None) -> None:
        """To this client from now on, for as long as it is connected and `grace` seconds more.

        None: the container needs no owner any more.
        """
        self._turn += 1
        self._owner = None if grace is None else client
        self._grace = grace or 0.0

    def begin(self, creator: Connection, grace: float) -> None:
        """The creator's own, which somebody may have taken over before the creator was heard of."""
        if not self._turn:
            self.give(creator, grace)

    def lost(self, client: Connection) -> None:
        """That connection is closed."""
        if client is self._owner:
            self._owner = None
            turn = self._turn
            self._workload.loop.after(self._grace, lambda: self._end(turn))

    def _end(self, turn: int) -> None:
        if turn == self._turn:
            self.ended = True
            self._workload.end.expire("lease")
