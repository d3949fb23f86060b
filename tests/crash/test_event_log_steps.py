"""A process killed at every system call with which it appends to, makes or rotates the log."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from asyncrt.state import EventLog, event_log
from tests.helpers.events import append_line, read_on
from tests.helpers.steps import stages

pytestmark = pytest.mark.crash

DRIVER = """
import sys
from asyncrt.state import event_log
from tests.helpers import steps
from tests.helpers.events import append_line

root, what = sys.argv[1:]
event_log.ROTATE_BYTES = 0

def work(step):
    if what == "append":
        append_line(root, f"its{step}")
    else:
        event_log.rotate(root)

steps.serve(work, ["open", "write", "close", "link", "rename", "unlink", "fstat", "stat"])
"""


def kills(root: str, what: str) -> Iterator[int]:
    """Yields after each kill, with its number, and last after a run to the end."""
    step = 0
    for _ in stages(DRIVER, root, what):
        step += 1
        yield step
    assert step > 5


def test_killed_at_any_step_of_an_append_it_harms_no_other_line(root: str) -> None:
    log = EventLog(root)
    at = log.begin(None)
    assert at is not None
    for step in kills(root, "append"):
        append_line(root, f"next{step}")
        found, at = read_on(log, at)
        ids = [each.id for each in found]
        assert ids in ([f"next{step}"], [f"its{step}", f"next{step}"])


@pytest.mark.leaves(".~events.*~")  # a killed maker's, for gc
def test_killed_at_any_step_of_making_the_log_it_leaves_none_or_a_whole_one(root: str) -> None:
    for step in kills(root, "append"):
        found, _ = read_on(EventLog(root), _oldest(root))
        assert [each.id for each in found] in ([], [f"its{step}"])
        append_line(root, "next")
        found, _ = read_on(EventLog(root), _oldest(root))
        assert found[-1].id == "next"
        os.unlink(f"{root}/~events")


def test_killed_at_any_step_of_a_rotation_nothing_is_lost_or_told_twice_and_the_next_is_clean(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "ROTATE_BYTES", 0)
    log = EventLog(root)
    at = _oldest(root)
    for step in kills(root, "rotate"):
        append_line(root, f"before{step}")
        behind = at
        found, at = read_on(log, at)
        assert [each.id for each in found] == [f"before{step}"]
        again, _ = read_on(EventLog(root), behind)
        assert [each.id for each in again] == [f"before{step}"]
        assert event_log.rotate(root)
        append_line(root, f"after{step}")
        found, at = read_on(log, at)
        assert [each.id for each in found] == [f"after{step}"]
        assert sorted(os.listdir(root)) == ["~events", "~events.1", "~events.lock"]


def _oldest(root: str) -> event_log.Position:
    at = EventLog(root).begin(event_log.OLDEST)
    assert at is not None
    return at
