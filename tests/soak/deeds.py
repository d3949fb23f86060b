"""The log of a soak put in order: what was done to whom when, who was killed in the middle of what."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.soak.oplog import Line, moment
from tests.soak.task import WIDE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.soak.story import Life

# Clocks are the same; what is stamped before a deed and what after it may be told apart by little.
SLACK = timedelta(seconds=0.05)
EVER = datetime(1970, 1, 2, tzinfo=UTC)
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_LINGERING = timedelta(seconds=10)

_LONGEST = timedelta(seconds=300)  # no operation takes longer: twice what makes it a fault
CREATORS = {"create", "sandbox"}
KILLERS = {"kill", "kill_all", "stop", "destroy", "delete", "end", "kill_pod", "stop_pod"} | {
    "destroy_pod"
}
_LOOKED_AT = KILLERS | CREATORS | {"start", "gc"}
Key = tuple[str, int]  # by whom, which of its operations


class Timed(NamedTuple):
    """A line, and when it was written."""

    at: datetime
    line: Line


class Span(NamedTuple):
    """From when to when it was that it was done; of what was cut short, when its worker was killed."""

    begin: datetime
    end: datetime

    def meets(self, begin: datetime, end: datetime) -> bool:
        """Whether some of it was then."""
        return self.begin <= end + SLACK and self.end >= begin - SLACK


class Deeds:
    """What was done, by container and by time."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.kills: dict[str, list[Timed]] = defaultdict(list)  # by role
        self.found: list[Line] = []  # by gc
        self.ended: list[Line] = []  # what waits were told
        self.limits: list[Timed] = []  # that were set
        self._done: dict[str, list[Timed]] = defaultdict(list)  # by id
        self._begun: dict[Key, Timed] = {}
        self._ends: dict[Key, Line] = {}
        self._died: dict[str, Span] = {}  # workers: about to be killed, and dead
        self._plans: dict[Key, Line] = {}
        self._made: dict[str, Key] = {}  # by instance
        self._instances: dict[str, str] = {}  # by nonce
        self._started: set[str] = set()
        for line in lines:
            self._note(line)
        for each in self._done.values():
            each.sort(key=_when)
        self._cut: dict[str, list[Span]] = defaultdict(list)  # by id; "" of any
        for key, begun in self._begun.items():
            died = self._died.get(key[0])
            if key not in self._ends and died is not None:
                line = begun.line
                self._cut["" if line["verb"] in WIDE else line["id"]].append(died)
        for instance, key in self._made.items():
            if key in self._plans:
                self._instances[self._plans[key]["nonce"]] = instance

    def _note(self, line: Line) -> None:
        what, key = line["what"], (line["who"], line.get("op", -1))
        match what:
            case "killing":
                at = moment(line)
                self.kills[line["role"]].append(Timed(at, line))
                if line["role"] == "worker":
                    since = self._died.get(line["name"], Span(at, at))
                    self._died[line["name"]] = since._replace(end=at)
            case "begin" | "target":
                timed = Timed(moment(line), line)
                if line["verb"] in _LOOKED_AT:
                    self._done[line["id"]].append(timed)
                if what == "target" and line["verb"] in CREATORS:
                    self._made[line["instance"]] = key
                self._begun.setdefault(key, timed)
            case "end":
                self._ends[key] = line
            case "planned":
                self._plans[key] = line
            case "started":
                self._started.add(line["instance"])
            case "found":
                self.found.append(line)
            case "ended":
                self.ended.append(line)
            case "limit" | "limited":
                self.limits.append(Timed(moment(line), line))
            case _:
                pass

    # --- what was created

    def facts_of(self, instance: str) -> dict[str, Any]:
        """What was planned of it; nothing, if nobody came to say which instance it was."""
        key = self._made.get(instance)
        return {} if key is None else self._plans.get(key, {})

    def instance_of(self, nonce: str) -> str | None:
        """Which instance has that mark."""
        return self._instances.get(nonce)

    def died_by(self, instance: str, at: datetime) -> bool:
        """Whether the worker that made that instance was killed by then."""
        key = self._made.get(instance)
        died = None if key is None else self._died.get(key[0])
        return died is not None and died.begin <= at

    def started(self) -> Iterator[tuple[str, str]]:
        """Nonces and instances of what was started, and that was told."""
        for nonce, instance in self._instances.items():
            if instance in self._started:
                yield nonce, instance

    # --- what was done, and when

    def span_of(self, line: Line) -> Span:
        """When the operation was under way that a line is of."""
        begun = self._begun.get((line["who"], line.get("op", -1)))
        return Span(moment(line) if begun is None else begun.at, self.end_of(line))

    def outcome_of(self, line: Line) -> str | None:
        """What became of the operation; None: its worker was killed."""
        end = self._ends.get((line["who"], line.get("op", -1)))
        outcome: str | None = None if end is None else end["outcome"]
        return outcome

    def end_of(self, line: Line) -> datetime:
        """When an operation was over; what a killed worker had sent may come a little later."""
        ended = self._ends.get((line["who"], line.get("op", -1)))
        if ended is not None:
            return moment(ended)
        died = self._died.get(line["who"])
        return _NEVER if died is None else died.end + _LINGERING

    def was_cut(self, id: str, begin: datetime, end: datetime) -> bool:
        """Whether a worker was killed then that was about to do something to that one, or to any."""
        return any(span.meets(begin, end) for each in (id, "") for span in self._cut.get(each, ()))

    def was_disturbed(self, life: Life) -> bool:
        """Whether anything that was done to it was cut short, cancelled or refused."""
        return self.was_cut(life.id, life.began, life.told) or any(
            self.outcome_of(line) != "done"
            for id in (life.id, life.sandbox, "")
            for line in self.in_time(id, life.began, life.told)
        )

    def in_time(self, id: str, begin: datetime, end: datetime) -> Iterator[Line]:
        """Operations on that id that had begun by the end and weren't over at the beginning."""
        done = self._done.get(id, [])
        for index in range(bisect_right(done, end + SLACK, key=_when) - 1, -1, -1):
            at, line = done[index]
            if self.end_of(line) >= begin - SLACK:
                yield line
            elif at < begin - _LONGEST:
                return

    def searches(self) -> list[tuple[Span, set[str]]]:
        """Each gc that came to its end, in order, and whom it couldn't look at."""
        busy: dict[Key, set[str]] = defaultdict(set)
        for line in self.found:
            if line["outcome"] != "mended":
                busy[line["who"], line["op"]].add(line["id"] or "")
        found = [
            (self.span_of(begun.line), busy[key])
            for key, begun in self._begun.items()
            if begun.line["verb"] == "gc" and self.outcome_of(begun.line) == "done"
        ]
        return sorted(found, key=lambda each: each[0].begin)


def _when(timed: Timed) -> datetime:
    return timed.at
