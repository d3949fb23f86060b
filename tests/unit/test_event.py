from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from asyncrt.errors import SchemaTooNew
from asyncrt.state import Event, ExitResult, Told
from asyncrt.state.event import decode_event, decode_line
from asyncrt.supervisor.exits import exit_json
from tests.helpers.events import make_line

EXIT = ExitResult(exit_code=3, reason="exit", finished_at=datetime(2026, 1, 31, tzinfo=UTC))


def decoded(line: bytes) -> Event:
    found = decode_event(line, path="/r/~events", position="0:0")
    assert found is not None
    return found


def test_a_line_holds_what_it_was_made_of_and_is_one_line() -> None:
    line = make_line(
        "web", 4, operation="pause", previous="running", status="paused", sandbox="pod"
    )
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    fields = json.loads(line)
    assert list(fields) == [
        "schema",
        "time",
        "id",
        "instance",
        "sandbox",
        "revision",
        "operation",
        "previous",
        "status",
    ]
    event = decoded(line)
    assert (event.id, event.sandbox, event.revision) == ("web", "pod", 4)
    assert (event.operation, event.previous, event.status) == ("pause", "running", "paused")
    assert event.exit is None
    assert event.position == "0:0"
    assert abs(datetime.now(UTC) - event.time) < timedelta(minutes=1)


def test_only_an_end_says_how_it_ended() -> None:
    assert decoded(make_line(status="stopped", exit=EXIT)).exit == EXIT
    assert b"exit" not in make_line(status="running", exit=EXIT)


def test_a_new_container_has_no_status_before() -> None:
    line = make_line(previous=None, status="creating")
    assert json.loads(line)["previous"] is None
    assert decoded(line).previous is None


def test_fields_of_a_newer_version_are_left_out_and_a_newer_schema_is_refused_by_name() -> None:
    fields = json.loads(make_line())
    assert decoded(json.dumps({**fields, "novel": [1]}).encode()).id == "web"
    with pytest.raises(SchemaTooNew) as caught:
        decoded(json.dumps({**fields, "schema": 2}).encode())
    assert (caught.value.path, caught.value.schema) == ("/r/~events", 2)


def test_behind_a_line_torn_anywhere_the_next_one_is_found() -> None:
    record = exit_json("i" * 32, code=0, signal=None, reason="exit", started_at=None)
    supervisors = make_line("torn")[:-2] + b',"exit":' + record + b"}\n"
    assert decoded(supervisors).exit is not None
    for torn in (make_line("torn"), supervisors):
        for kept in range(len(torn) - 1):
            assert decoded(torn[:kept] + make_line("whole")).id == "whole"
            assert decoded(torn[:kept] + supervisors.replace(b"torn", b"whole")).id == "whole"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"\0" * 300,
        b'{"schema":1}',
        b'{"schema":1,"generation":"0123456789ab","previous":"","time":"2026-01-31T12:00:00Z"}',
        make_line()[:100],
        b"[" * 100_000,
        b'{"schema":' * 1000,
    ],
)
def test_what_is_no_event_is_none(line: bytes) -> None:
    assert decode_line(line) is None


def test_times_are_in_utc_whatever_wrote_them() -> None:
    fields = {**json.loads(make_line()), "time": "2026-01-31T13:00:00+01:00"}
    event = decoded(json.dumps(fields).encode())
    assert event.time.isoformat() == "2026-01-31T12:00:00+00:00"


def told(*lines: bytes) -> list[bool]:
    memory = Told()
    return [memory.is_news(decoded(each)) for each in lines]


def test_what_was_told_isnt_told_again() -> None:
    line = make_line(revision=3)
    assert told(line, line) == [True, False]
    assert told(line, make_line(revision=3, instance="another")) == [True, True]
    stopped = make_line(revision=4, status="stopped")
    exit = make_line(revision=0, status="stopped")
    assert told(exit, stopped) == [True, False]
    gone = make_line(revision=4, status="destroyed")
    assert told(stopped, gone, gone) == [True, True, False]


def test_a_start_that_its_programs_end_has_overtaken_is_left_out() -> None:
    """Or whoever keeps the last status would call it running for ever."""
    created, running = make_line(revision=2, status="created"), make_line(revision=3)
    stopped, gone = make_line(status="stopped"), make_line(status="destroyed")
    assert told(created, stopped, running, gone) == [True, True, False, True]
    assert told(created, gone, stopped, running) == [True, True, False, False]
    assert told(running, created) == [True, False]


def test_what_concerns_no_instance_is_always_told() -> None:
    unreadable = make_line(instance="", status="destroyed")
    assert told(unreadable, unreadable) == [True, True]


def test_memory_is_bounded_and_forgets_what_was_told_first() -> None:
    memory = Told(limit=3)
    events = [decoded(make_line(instance=f"i{number}")) for number in range(5)]
    for each in events:
        assert memory.is_news(each)
    assert not memory.is_news(events[4])
    assert memory.is_news(events[0])
    assert len(memory._ranks) == 3
