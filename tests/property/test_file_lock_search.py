"""The shipped lock against every order of few events: two processes, two tasks in each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asyncrt.locking import _queue
from asyncrt.locking._queue import PathQueue
from asyncrt.locking._take import Attempt
from tests.helpers.lock_search import Setting, WrongError, search

if TYPE_CHECKING:
    from asyncrt.locking._idle import Hold
    from asyncrt.locking._queue import Ticket

LIMIT = 1000  # runs, in a sample

SETTINGS = {
    "writers": Setting((("x", "x"), ("x", "x")), cancels=1),
    "all cancelled": Setting((("x", "x"), ("x",)), cancels=3),
    "readers and writers": Setting((("s", "x"), ("s", "x")), cancels=1),
    "readers and a writer": Setting((("s", "s"), ("x", "s")), cancels=1),
    "the files removed": Setting((("X", "x"), ("x", "x"))),
    "the files removed under readers": Setting((("X", "s"), ("s", "x"))),
    "removed twice and cancelled": Setting((("X", "x"), ("X",)), cancels=1),
    "descriptors given up": Setting((("xx", "x"), ("X",)), gives_up=True),
    "again and again": Setting((("xx", "xx"), ("x",))),
}


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few that some tasks are enough to come to their end."""
    monkeypatch.setattr(_queue, "BATCH", 1)
    monkeypatch.setattr(_queue, "SKIPS", 1)


@pytest.mark.parametrize("name", SETTINGS)
def test_no_order_of_events_lets_two_in_or_leaves_one_waiting(name: str, full: bool) -> None:
    setting = SETTINGS[name]
    if full:
        setting = setting._replace(cancels=setting.cancels + 1)
    assert search(setting, limit=None if full else LIMIT) > 500


def _never_looks(self: PathQueue, hold: Hold) -> bool:
    return True


def _keeps_the_grant(self: PathQueue, ticket: Ticket) -> None:
    if not ticket.future.done() or ticket.future.cancelled():
        self._leave(ticket)


_run = Attempt._pass_gate


def _leaves_the_gate_early(self: Attempt) -> None:
    system = self._place.system
    real = system.lock

    def lock(fd: int, *, shared: bool) -> None:
        real(fd, shared=shared)
        if fd == self._gate:
            system.unlock(fd)

    system.lock = lock  # type: ignore[method-assign]  # planted
    try:
        _run(self)
    finally:
        system.lock = real  # type: ignore[method-assign]  # as above


PLANTED = {
    "a hand-over without a look at the file": (
        (PathQueue, "_is_at_path", _never_looks),
        "the files removed",
    ),
    "a grant lost with its cancelled task": (
        (PathQueue, "withdraw", _keeps_the_grant),
        "writers",
    ),
    "the gate left before the lock is taken": (
        (Attempt, "_pass_gate", _leaves_the_gate_early),
        "again and again",
    ),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_the_search_finds_a_planted_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (owner, name, planted), setting = PLANTED[bug]
    monkeypatch.setattr(owner, name, planted)
    with pytest.raises(WrongError):
        search(SETTINGS[setting], limit=2 * LIMIT)
