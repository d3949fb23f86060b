"""What the stream of events tells of each container, and whether that can be a life.

What can't be is told at once. What can be only because of a kill is kept, for who knows the kills (see
`causes`): a transition that nobody told, an end that nobody saw.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asyncrt.status import SUCCESSORS, Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import asyncrt
    from asyncrt import ExitResult

DESTROYED = "destroyed"
_STOPPED = Status.STOPPED.value
_NEXT: dict[str | None, set[str]] = {
    None: {Status.CREATING.value},
    **{each.value: {to.value for to in after} for each, after in SUCCESSORS.items()},
}
_REASONS = {
    *("exit", "signal", "oom", "deadline", "lease", "sandbox ended", "gofer died"),
    *("creation interrupted", "start failed", "unknown"),
}


@dataclass
class Life:
    """One instance, as far as it was told."""

    id: str
    instance: str
    sandbox: str
    began: datetime
    told: datetime  # when the last was
    status: str | None = None
    revision: int = 0
    ends: list[ExitResult] = field(default_factory=list)  # that were told, by whomever: one, or two

    @property
    def end(self) -> ExitResult | None:
        """How it ended."""
        return self.ends[-1] if self.ends else None


@dataclass
class Gap:
    """A transition that wasn't told: a writer was killed between its save and its line."""

    life: Life
    text: str
    after: datetime
    before: datetime


class Stories:
    """All lives of one soak."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self._by_id: dict[str, list[Life]] = defaultdict(list)
        self.gaps: list[Gap] = []
        self.unheard: list[Gap] = []  # gone without a word of their end

    def hear(self, event: asyncrt.Event) -> list[str]:
        """What is wrong with an event after all that was told before."""
        life = self.lives.get(event.instance)
        if life is None:
            life = Life(event.id, event.instance, event.sandbox, event.time, event.time)
            self.lives[event.instance] = life
            self._by_id[event.id].append(life)
        wrong = [f"{each}: {event}, after {life}" for each in self._judge(event, life)]
        life.told, life.status = event.time, event.status
        life.revision = max(life.revision, event.revision or 0)
        return wrong

    def of(self, id: str) -> list[Life]:
        """Those with that id, one after the other."""
        return self._by_id.get(id, [])

    def end(self, instance: str, end: ExitResult | None) -> list[str]:
        """That somebody says it ended so: all who say something say the same."""
        life = self.lives.get(instance)
        if life is None or end is None:
            return []
        return [f"{each}: {end}, of {life}" for each in _told_again(life, end)]

    def _judge(self, event: asyncrt.Event, life: Life) -> Iterator[str]:
        status, previous = event.status, event.previous
        if (event.id, event.sandbox) != (life.id, life.sandbox):
            yield "another container with that instance"
        saved = event.revision is not None and status not in {_STOPPED, DESTROYED}
        if saved and (event.revision or 0) <= life.revision:
            yield "an older revision"
        if life.status == DESTROYED or (life.status == _STOPPED and status != DESTROYED):
            yield "something after the end"
        if status == DESTROYED:
            yield from self._judge_removal(event, life)
            return
        if status not in _NEXT[previous] and event.operation != "gc":
            yield "a step that isn't allowed"
        # An exit is told without the lock: it may overtake a start or a pause.
        if previous != life.status and event.operation != "exit":
            self.gaps.append(
                Gap(life, f"{life.status}, then {previous} became {status}", life.told, event.time)
            )
        if event.exit is not None:
            yield from _told_again(life, event.exit)

    def _judge_removal(self, event: asyncrt.Event, life: Life) -> Iterator[str]:
        if event.previous not in {None, Status.CREATING.value, _STOPPED} and (
            event.operation != "gc"
        ):
            yield "a removal of what hasn't stopped"
        if life.status not in {None, Status.CREATING.value, _STOPPED}:
            self.unheard.append(Gap(life, f"{life.status}, then gone", life.told, event.time))


def _told_again(life: Life, end: ExitResult) -> Iterator[str]:
    """Told once and never changed; that nobody knows may become what the kernel has told somebody."""
    if end.reason not in _REASONS:
        yield "a reason that there isn't"
    if end == life.end or (life.end is not None and _is_same(end, life.end)):
        return
    if life.end is not None and life.end.reason != "unknown":
        if end.reason != "unknown":
            yield "another end than was told"
        return
    life.ends.append(end)


def _is_same(one: ExitResult, other: ExitResult) -> bool:
    """What was never begun has no more of an end than that, though its supervisor may tell when."""
    return one.reason == other.reason == "creation interrupted" and (
        (one.exit_code, one.signal) == (other.exit_code, other.signal)
    )
