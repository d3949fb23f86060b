"""One operation of a worker: what it is about to do goes to the log, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.soak import oplog

if TYPE_CHECKING:
    import asyncrt
    from tests.soak.oplog import OpLog
    from tests.soak.plans import Plan

# What is done to more containers than the one that it names.
WIDE = frozenset({"end", "kill_pod", "stop_pod", "destroy_pod", "gc"})


class Task:
    """It writes before a deed and after it; `ids` are those of all that it is about."""

    def __init__(self, log: OpLog, number: int, verb: str) -> None:
        self._log = log
        self._number = number
        self.verb = verb
        self.ids: set[str] = set()

    @property
    def is_wide(self) -> bool:
        """Whether it may be about any container."""
        return self.verb in WIDE

    def begin(self, id: str) -> None:
        """It is about that container or sandbox; written before anything is done."""
        self.ids.add(id)
        self.note("begin", verb=self.verb, id=id)

    def planned(self, plan: Plan) -> None:
        """That is what is to be created."""
        self.note("planned", **plan.facts)

    def target(self, container: asyncrt.Container | asyncrt.Sandbox) -> None:
        """That is who it is done to."""
        self.ids.add(container.id)
        self.note("target", verb=self.verb, id=container.id, instance=container.instance)

    def note(self, what: str, **fields: Any) -> None:
        """Whatever else there is to know."""
        self._log.write(what, op=self._number, **fields)

    def found(self, report: asyncrt.RecoveryReport) -> None:
        """What gc had to mend; whoever is killed after it did and before this has told nobody."""
        oplog.write_findings(self._log, self._number, report)

    def end(self, outcome: str) -> None:
        """It is done, refused or cancelled."""
        self.note("end", verb=self.verb, outcome=outcome)
