"""Whether what became of containers has a cause among what was done to them; looked at in the end."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from asyncrt.engine.recovery import report
from tests.soak.oplog import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.soak.oplog import Line
    from tests.soak.story import Gap, Life, Stories

# Clocks are the same; what is stamped before a deed and what after it may be told apart by little.
_SLACK = timedelta(seconds=0.05)
_EVER = datetime(1970, 1, 2, tzinfo=UTC)

_KILLERS = {"kill", "kill_all", "stop", "destroy", "delete", "end"}
_WITH_ALL = {"end"}  # on a sandbox: they end each container in it, too


class Causes:
    """What was done, by container and by time."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._kills: dict[str, list[Line]] = defaultdict(list)  # by role
        self._done: dict[str, list[Line]] = defaultdict(list)  # by id
        self._ends: dict[tuple[str, int], Line] = {}  # by who and operation
        self._begun: dict[tuple[str, int], Line] = {}
        self._found: list[Line] = []  # by gc: members that are none
        for line in lines:
            if line["what"] == "killing":
                self._kills[line["role"]].append(line)
            elif line["what"] in {"begin", "target"}:
                self._done[line["id"]].append(line)
                self._begun.setdefault((line["who"], line["op"]), line)
            elif line["what"] == "found":
                if (line["kind"], line["outcome"]) == (report.MEMBER, "mended"):
                    self._found.append(line)
            elif line["what"] == "end":
                self._ends[line["who"], line["op"]] = line

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
            for each in stories.lives.values()
            if (each.id, each.sandbox) == (name, sandbox) and each.told <= moment(begun)
        )
        since = max(told, default=_EVER) - _SLACK
        return any(since <= moment(each) <= moment(found) for each in self._kills["worker"])

    def _explains(self, gap: Gap) -> bool:
        return any(
            gap.after - _SLACK <= moment(line) <= gap.before + _SLACK
            for line in self._kills["worker"]
        )

    def _supervisor_killed(self, life: Life) -> bool:
        return any(
            line["id"] == life.sandbox and moment(line) >= life.began - _SLACK
            for line in self._kills["supervisor"]
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
        return any(line["instance"] == life.instance for line in self._kills["gofer"])

    def _was_killed(self, life: Life) -> bool:
        """By an operation on it, or on its sandbox, or by its own creation's being undone."""
        return any(
            self._overlaps(line, life)
            and (line["verb"] in _KILLERS or self._undone(line))
            and (line["id"] == life.id or line["verb"] in _WITH_ALL)
            for id in (life.id, life.sandbox)
            for line in self._done[id]
        )

    def _overlaps(self, line: Line, life: Life) -> bool:
        """Whether an operation went on at its end; one that was never ended may have for ever."""
        assert life.end is not None
        # Of an end that only the kernel told of nobody knows when it was.
        if moment(line) > (life.end.finished_at or life.told) + _SLACK:
            return False
        ended = self._ends.get((line["who"], line["op"]))
        return ended is None or moment(ended) >= life.began - _SLACK

    def _undone(self, line: Line) -> bool:
        if line["verb"] not in {"create", "sandbox"}:
            return False
        ended = self._ends.get((line["who"], line["op"]))
        return ended is None or ended["outcome"] != "done"


def _root_ended(life: Life, stories: Stories) -> bool:
    """Whether a root container of that id has ended, or is gone, in its time or right after."""
    return life.id != life.sandbox and any(
        each.id == life.sandbox
        and each.status in {"stopped", "destroyed"}
        and each.told >= life.began
        for each in stories.lives.values()
    )
