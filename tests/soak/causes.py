"""Whether what became of containers has a cause among what was done to them; looked at in the end."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from asyncrt.engine.recovery import report
from tests.soak.oplog import Line, moment
from tests.soak.worker import HANGS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.soak.story import Gap, Life, Stories

# Clocks are the same; what is stamped before a deed and what after it may be told apart by little.
_SLACK = timedelta(seconds=0.05)
_EVER = datetime(1970, 1, 2, tzinfo=UTC)
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_LINGERING = timedelta(seconds=10)

_LONGEST = timedelta(seconds=2 * HANGS_SECONDS)
_CREATORS = {"create", "sandbox"}
_KILLERS = {"kill", "kill_all", "stop", "destroy", "delete", "end"}
_WITH_ALL = {"end"}  # on a sandbox: they end each container in it, too


class Timed(NamedTuple):
    """A line, and when it was written."""

    at: datetime
    line: Line


class Causes:
    """What was done, by container and by time."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._kills: dict[str, list[Timed]] = defaultdict(list)  # by role
        self._done: dict[str, list[Timed]] = defaultdict(list)  # by id, what may end one
        self._ends: dict[tuple[str, int], Line] = {}  # by who and operation
        self._died: dict[str, datetime] = {}  # workers
        self._begun: dict[tuple[str, int], Line] = {}
        self._found: list[Line] = []  # by gc: members that are none
        for line in lines:
            if line["what"] == "killing":
                self._kills[line["role"]].append(Timed(moment(line), line))
                if line["role"] == "worker":
                    self._died[line["name"]] = moment(line)
            elif line["what"] in {"begin", "target"}:
                if line["verb"] in _KILLERS | _CREATORS:
                    self._done[line["id"]].append(Timed(moment(line), line))
                self._begun.setdefault((line["who"], line["op"]), line)
            elif line["what"] == "found":
                if (line["kind"], line["outcome"]) == (report.MEMBER, "mended"):
                    self._found.append(line)
            elif line["what"] == "end":
                self._ends[line["who"], line["op"]] = line
        for each in self._done.values():
            each.sort(key=_when)

    def wanting(self, stories: Stories) -> Iterator[str]:
        """What has none."""
        for gap in stories.gaps:
            if not self._explains(gap):
                yield f"nobody was killed, and an event is missing: {gap.text} ({gap})"
        for gap in stories.unheard:
            if not self._supervisor_killed(gap.life):
                yield f"its supervisor wasn't killed, and its end wasn't told: {gap}"
        for line in self._found:
            if not self._forgotten_by_killed(line, stories):
                yield f"nobody was killed who could have left it: {line}"
        for life in stories.lives.values():
            yield from self._judge(life, stories)

    def _forgotten_by_killed(self, found: Line, stories: Stories) -> bool:
        """Whether a worker was killed after the last container of that name there was gone.

        It may have been found stale at any time since that gc began; others may have come since.
        """
        begun = self._begun.get((found["who"], found["op"]), found)
        name, sandbox = found["path"].rpartition("/")[2], found["id"]
        told = (
            each.told
            for each in stories.of(name)
            if each.sandbox == sandbox and each.told <= moment(begun)
        )
        since = max(told, default=_EVER) - _SLACK
        return any(since <= each.at <= moment(found) for each in self._kills["worker"])

    def _explains(self, gap: Gap) -> bool:
        return any(
            gap.after - _SLACK <= each.at <= gap.before + _SLACK for each in self._kills["worker"]
        )

    def _supervisor_killed(self, life: Life) -> bool:
        return any(
            each.line["id"] == life.sandbox and each.at >= life.began - _SLACK
            for each in self._kills["supervisor"]
        )

    def _judge(self, life: Life, stories: Stories) -> Iterator[str]:
        for end in life.ends:
            if end.reason == "unknown" and not self._supervisor_killed(life):
                yield f"its supervisor wasn't killed, and nobody knows its end: {life}"
            if end.reason in {"oom", "deadline", "lease", "start failed"}:
                yield f"a reason that nothing here leads to: {life}"
            if end.reason == "gofer died" and not self._gofer_killed(life):
                yield f"its gofer wasn't killed: {life}"
            if end.reason == "sandbox ended" and not _root_ended(life, stories):
                yield f"its sandbox didn't end: {life}"
            if end.reason == "signal" and not self._was_killed(life):
                yield f"nobody killed it: {life}"

    def _gofer_killed(self, life: Life) -> bool:
        return any(each.line["instance"] == life.instance for each in self._kills["gofer"])

    def _was_killed(self, life: Life) -> bool:
        """By an operation on it, or on its sandbox, or by its own creation's being undone."""
        return any(
            (line["verb"] in _KILLERS or self._undone(line))
            and (line["id"] == life.id or line["verb"] in _WITH_ALL)
            for id in {life.id, life.sandbox}
            for line in self._at_its_end(id, life)
        )

    def _at_its_end(self, id: str, life: Life) -> Iterator[Line]:
        """Operations that had begun at its end and weren't over at its beginning."""
        assert life.end is not None
        done = self._done[id]
        # Of an end that only the kernel told of nobody knows when it was.
        finished = (life.end.finished_at or life.told) + _SLACK
        for index in range(bisect_right(done, finished, key=_when) - 1, -1, -1):
            at, line = done[index]
            if self._ended(line) >= life.began - _SLACK:
                yield line
            elif at < life.began - _LONGEST:
                return

    def _ended(self, line: Line) -> datetime:
        """When an operation was over; what a killed worker had sent may come a little later."""
        ended = self._ends.get((line["who"], line["op"]))
        if ended is not None:
            return moment(ended)
        died = self._died.get(line["who"])
        return _NEVER if died is None else died + _LINGERING

    def _undone(self, line: Line) -> bool:
        if line["verb"] not in _CREATORS:
            return False
        ended = self._ends.get((line["who"], line["op"]))
        return ended is None or ended["outcome"] != "done"


def _root_ended(life: Life, stories: Stories) -> bool:
    """Whether a root container of that id has ended, or is gone, in its time or right after."""
    return life.id != life.sandbox and any(
        each.status in {"stopped", "destroyed"} and each.told >= life.began
        for each in stories.of(life.sandbox)
    )


def _when(timed: Timed) -> datetime:
    return timed.at
