"""An init's way into the cgroups of its plan: made first of all, and left behind for nobody."""

from __future__ import annotations

import os
import select

from asyncrt.launch import cgroup
from asyncrt.launch import gate as gates

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from asyncrt.launch.parent import Parent
    from asyncrt.launch.plan import CgroupReport, ProcessPlan


class Cgroups:
    """What was made of the plan's cgroups, and those of them that the supervisor needs, opened."""

    __slots__ = ("opened", "report")

    def __init__(
        self, plan: ProcessPlan, creator: _socket.socket, parent: Parent, *, opened: bool
    ) -> None:
        """Make the cgroups, before anything else, and be in them. Raises Failure, NobodyWants.

        What it may use, and in which cgroups it counts, holds from here on; an init of namespaces goes
        in when it is cloned. `opened`: there is a supervisor that needs them.
        """
        self.report: CgroupReport | None = None
        self.opened: list[int] = []
        wanted = plan.get("cgroup")
        if wanted is None:
            return
        report = self.report = cgroup.make(wanted)
        if _has_left(creator):
            # Whoever cleared up after it may have done so before these were there.
            cgroup.unmake(report["made"])
            raise gates.NobodyWants
        cgroup.put(wanted.get("supervisor") or (), parent.pid)
        if opened:
            self.opened = cgroup.open_all(cgroup.watched(report))
        if "linux" in plan:
            return
        doors = cgroup.Doors(each["path"] for each in wanted["places"])
        if doors.need_a_birth:
            from asyncrt.launch import namespaces  # most often nobody needs it

            parent.waiting = namespaces.go_on(0, None, doors.clone)
            os.setsid()  # what leads the session is whom a terminal takes
        else:
            doors.enter()


def _has_left(creator: _socket.socket) -> bool:
    poller = select.poll()
    poller.register(creator, select.POLLRDHUP)
    return bool(poller.poll(0))
