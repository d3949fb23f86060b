"""Whether what became of containers has a cause among what was done to them; looked at in the end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from asyncrt.engine.recovery import report
from tests.soak.deeds import CREATORS, EVER, KILLERS, SLACK, Deeds
from tests.soak.oplog import moment
from tests.soak.plans import SHORT, SHORT_CODES
from tests.soak.task import WIDE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from asyncrt import ExitResult
    from tests.soak.oplog import Line
    from tests.soak.story import Gap, Life, Stories

# What only a killed worker leaves, of what a recovery mends, found under a lock or for certain.
_OF_KILLED = {report.TEMPORARY, report.CREATION}
_NEARBY = timedelta(seconds=10)  # its removal is told before the finding is
_OF_DISTURBED = {report.DELETION, report.BEGUN}  # or one that was cancelled or refused


class Causes(Deeds):
    """What was done, held against what became of it."""

    def wanting(self, stories: Stories) -> Iterator[str]:
        """What has no cause."""
        for gap in stories.gaps:
            if not self._explains(gap):
                yield f"nobody was killed, and an event is missing: {gap.text} ({gap})"
        for gap in stories.unheard:
            if not self._supervisor_killed(gap.life):
                yield f"its supervisor wasn't killed, and its end wasn't told: {gap}"
        yield from self._mended(stories)
        for life in stories.lives.values():
            yield from self._judge(life, stories)
        yield from self._waits(stories)
        yield from self._limits()

    # --- what a recovery found

    def _mended(self, stories: Stories) -> Iterator[str]:
        searches = self.searches()
        for line in self.found:
            kind, at = line["kind"], moment(line)
            if line["outcome"] != "mended":
                continue
            if kind == report.MEMBER and not self._forgotten_by_killed(line, stories):
                yield f"nobody was killed who could have left it: {line}"
            if kind not in _OF_KILLED | _OF_DISTURBED:
                continue
            id = line["id"] or ""
            since = EVER  # an earlier search would have found it
            for span, busy in searches:
                if span.end < self.span_of(line).begin and not busy & {id, ""}:
                    since = span.begin
            if self.was_cut(id, since, at):
                continue
            if kind == report.CREATION and self._creator_died(id, at, stories):
                continue
            if kind in _OF_DISTURBED and self._was_left(id, since, at, stories):
                continue
            yield f"nobody was killed who could have left it since {since}: {line}"

    def _creator_died(self, id: str, at: datetime, stories: Stories) -> bool:
        """Whether one that ended before it was begun had been told to be created, to who died then."""
        return any(
            life.told >= at - _NEARBY
            and any(end.reason == "creation interrupted" for end in life.ends)
            and self.died_by(life.instance, at)
            for life in stories.of(id)
        )

    def _was_left(self, id: str, since: datetime, at: datetime, stories: Stories) -> bool:
        """Whether something that was to be done to it wasn't, for another reason than a kill."""
        return any(
            self.outcome_of(line) != "done"
            for each in {id, "", *(life.sandbox for life in stories.of(id))}
            for line in self.in_time(each, since, at)
        )

    def _forgotten_by_killed(self, found: Line, stories: Stories) -> bool:
        """Whether a worker was killed after the last container of that name there was gone.

        It may have been found stale at any time since that gc began; others may have come since.
        """
        begun = self.span_of(found).begin
        name, sandbox = found["path"].rpartition("/")[2], found["id"]
        told = (
            each.told for each in stories.of(name) if each.sandbox == sandbox and each.told <= begun
        )
        return self.was_cut(name, max(told, default=EVER), moment(found))

    def _explains(self, gap: Gap) -> bool:
        return self.was_cut(gap.life.id, gap.after, gap.before)

    # --- how they ended

    def _supervisor_killed(self, life: Life) -> bool:
        return any(
            each.line["id"] == life.sandbox and life.began - SLACK <= each.at <= life.told + SLACK
            for each in self.kills["supervisor"]
        )

    def _judge(self, life: Life, stories: Stories) -> Iterator[str]:
        for end in life.ends:
            if end.reason == "exit" and not self._is_its_code(life, end):
                facts = self.facts_of(life.instance)
                yield f"its program doesn't end so: {life}, {facts}"
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

    def _is_its_code(self, life: Life, end: ExitResult) -> bool:
        facts = self.facts_of(life.instance)
        if not facts:
            return end.exit_code in SHORT_CODES
        return bool(facts["program"] == SHORT and end.exit_code == facts["code"])

    def _gofer_killed(self, life: Life) -> bool:
        return any(each.line["instance"] == life.instance for each in self.kills["gofer"])

    def _was_killed(self, life: Life) -> bool:
        """By an operation on it, or on its sandbox, or by its own creation's being undone."""
        assert life.end is not None
        # Of an end that only the kernel told of nobody knows when it was.
        ended = life.end.finished_at or life.told
        return any(
            (line["verb"] in KILLERS or self._took_along(line))
            and (line["id"] == life.id or line["verb"] in WIDE)
            # Begun by its end, and not over at its beginning.
            and self.span_of(line).meets(life.began, ended)
            for id in {life.id, life.sandbox}
            for line in self.in_time(id, life.began, ended)
        )

    def _took_along(self, line: Line) -> bool:
        """Whether a creation was undone, or a hook failed at a start."""
        outcome = self.outcome_of(line)
        if line["verb"] == "start":
            return outcome is None or "HookFailed" in outcome
        return line["verb"] in CREATORS and outcome != "done"

    # --- what was told of it

    def _waits(self, stories: Stories) -> Iterator[str]:
        for line in self.ended:
            life = stories.lives.get(line["instance"])
            told = [] if life is None else [[e.exit_code, e.signal, e.reason] for e in life.ends]
            unknown = any(
                reason == "unknown" for *_, reason in told
            )  # but the kernel told this one
            if told and not unknown and line["result"] not in told:
                yield f"a wait heard of another end: {line}, {life}"

    def _limits(self) -> Iterator[str]:
        """What was set is so, or what somebody else has set since."""
        wanted = [each for each in self.limits if each.line["what"] == "limit"]
        for _, line in self.limits:
            if line["what"] == "limited" and line["found"] != line["wanted"]:
                since = self.span_of(line).begin
                others = {
                    each.line["wanted"]
                    for each in wanted
                    if each.line["instance"] == line["instance"]
                    and self.end_of(each.line) >= since - SLACK
                }
                if line["found"] not in others:
                    yield f"a limit wasn't set: {line}"


def _root_ended(life: Life, stories: Stories) -> bool:
    """Whether a root container of that id has ended, or is gone, in its time or right after."""
    return life.id != life.sandbox and any(
        each.status in {"stopped", "destroyed"} and each.told >= life.began
        for each in stories.of(life.sandbox)
    )
