from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from asyncrt.state import (
    ExitResult,
    Observed,
    Record,
    append_missing,
    event_log,
    missing_events,
)
from asyncrt.status import Status
from tests.helpers.events import append_line, append_raw, make_line
from tests.helpers.records import dead_identity, make_record, own_identity, put_record

Seen = tuple[Record, Observed]


def seen(root: str, id: str = "web", **changes: object) -> Seen:
    """A container on disk, as gc has looked at it."""
    record = make_record(id, **{"instance": f"{id}-instance", "revision": 3, **changes})
    put_record(root, record)
    return record, Observed(record.status, record.exit)


def missing(root: str, *containers: Seen) -> list[tuple[str, str]]:
    return [(each.id, each.status) for each in missing_events(root, containers)]


def mend(root: str, *containers: Seen) -> None:
    append_missing(root, missing_events(root, containers))
    assert missing_events(root, containers) == []


def forget(root: str, *ids: str) -> None:
    for id in ids:
        os.unlink(f"{root}/{id}.state")
        os.unlink(f"{root}/{id}.lock")


def test_what_was_told_isnt_missing(root: str) -> None:
    append_line(root, "web", 3)
    web = seen(root)
    assert missing(root, web) == []
    # Revisions without a transition: the progress of a deletion.
    web[0].revision = 7
    assert missing(root, web) == []
    forget(root, "web")


def test_a_line_that_its_writer_was_killed_before_is_added_once(root: str) -> None:
    append_line(root, "web", 2, status="created")
    web = seen(root)
    assert missing(root, web) == [("web", "running")]
    (found,) = missing_events(root, [web])
    assert found.instance == "web-instance"
    mend(root, web)
    forget(root, "web")


def test_a_new_container_of_which_nothing_was_told_is_added(root: str) -> None:
    append_line(root, "other", 1, status="destroyed")
    web = seen(root, status=Status.CREATING, revision=1)
    assert missing(root, web) == [("web", "creating")]
    mend(root, web)
    forget(root, "web")


def test_what_was_saved_before_the_log_begins_was_told_once(root: str) -> None:
    """Or each gc after a rotation would tell of every old container again."""
    old = (datetime.now(UTC) - timedelta(days=30)).timestamp()
    running = seen(root, "running")
    ended = ExitResult(reason="exit", exit_code=0, finished_at=datetime(2026, 1, 1, tzinfo=UTC))
    unsaved = seen(root, "unsaved")[0], Observed(Status.STOPPED, ended)
    append_line(root, "another", 1, status="destroyed")
    for id in ("running", "unsaved"):
        os.utime(f"{root}/{id}.state", (old, old))
    assert missing(root, running, unsaved) == []
    just_now = ExitResult(reason="exit", exit_code=0, finished_at=datetime.now(UTC))
    assert missing(root, (unsaved[0], Observed(Status.STOPPED, just_now))) == [
        ("unsaved", "stopped")
    ]
    forget(root, "running", "unsaved")


def test_an_end_isnt_missing_while_its_supervisor_may_be_about_to_tell(root: str) -> None:
    append_line(root, "web", 3)
    ended = ExitResult(reason="exit", exit_code=0, finished_at=datetime.now(UTC))
    for supervisor, found in (
        (own_identity(), []),
        (dead_identity(), [("web", "stopped")]),
        (None, [("web", "stopped")]),
    ):
        web = seen(root, supervisor=supervisor)[0], Observed(Status.STOPPED, ended)
        assert missing(root, web) == found
    forget(root, "web")


def test_an_end_that_its_killed_supervisor_didnt_tell_is_added_with_how(root: str) -> None:
    append_line(root, "web", 3)
    record, _ = seen(root)
    end = ExitResult(signal=9, reason="signal", finished_at=datetime.now(UTC))
    observed = Observed(Status.STOPPED, end)
    assert missing(root, (record, observed)) == [("web", "stopped")]
    mend(root, (record, observed))
    assert missing(root, (record, Observed(Status.STOPPED, None, exit_pending=True))) == []
    forget(root, "web")


def test_a_removal_that_wasnt_told_is_added(root: str) -> None:
    append_line(root, "web", 3)
    append_line(root, "done", 3, status="destroyed")
    assert missing(root) == [("web", "destroyed")]
    another = seen(root, "web", instance="another")
    append_line(root, "web", 3, instance="another")
    assert missing(root, another) == [("web", "destroyed")]
    mend(root, another)
    forget(root, "web")


def test_one_that_was_made_after_all_were_looked_at_isnt_taken_for_removed(root: str) -> None:
    append_line(root, "web", 3)
    seen(root)
    assert missing(root) == []
    with open(f"{root}/web.state", "w") as file:
        file.write("broken")
    assert missing(root) == []
    forget(root, "web")


def test_one_whose_own_writer_was_but_a_moment_behind_isnt_told_twice(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_line(root, "web", 2, status="created")
    web = seen(root)
    everything = event_log.EventLog.everything

    def then_told(log: event_log.EventLog) -> tuple[float, list[bytes]]:
        found = everything(log)
        append_line(root, "web", 3)
        return found

    monkeypatch.setattr(event_log.EventLog, "everything", then_told)
    assert missing(root, web) == []
    forget(root, "web")


def test_a_line_behind_a_torn_one_counts_and_an_overtaken_start_isnt_the_last_word(
    root: str,
) -> None:
    append_raw(root, make_line("torn")[:70] + make_line("web", 3))
    web = seen(root)
    assert missing(root, web) == []
    append_line(root, "web", 3, status="stopped")
    append_line(root, "web", 3)
    web[0].status = Status.STOPPED
    assert missing(root, (web[0], Observed(Status.STOPPED, ExitResult()))) == []
    forget(root, "web")


def test_to_a_root_without_a_log_nothing_is_missing_and_none_is_made(root: str) -> None:
    assert missing(root, seen(root)) == []
    forget(root, "web")
    assert os.listdir(root) == []


def test_what_has_changed_since_it_was_looked_at_isnt_missing(root: str) -> None:
    append_line(root, "web", 2, status="created")
    web = seen(root)
    seen(root, revision=4, status=Status.PAUSED)
    assert missing(root, web) == []
    forget(root, "web")
