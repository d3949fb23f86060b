from __future__ import annotations

import json
import logging
import os

import pytest

from asyncrt import _paths
from asyncrt.errors import EventsLost, InvalidPosition, SchemaTooNew, StorageFailed
from asyncrt.locking import attempt
from asyncrt.state import EventLog, Position, event_log
from asyncrt.state.event_log import OLDEST, PAGE_BYTES, parse_position, rotate
from tests.helpers.events import append_line, append_raw, make_line, read_on


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "ROTATE_BYTES", 0)


def begin(root: str, after: str | None = None) -> Position:
    at = EventLog(root).begin(after)
    assert at is not None
    return at


def ids(root: str, at: Position) -> list[str]:
    return [each.id for each in read_on(EventLog(root), at)[0]]


def test_a_root_without_a_log_has_one_from_then_on(root: str) -> None:
    at = begin(root)
    assert os.listdir(root) == ["~events"]
    append_line(root, "web")
    assert ids(root, at) == ["web"]


def test_it_begins_now_or_with_all_that_is_kept_or_after_any_event(root: str) -> None:
    for name in ("a", "b", "c"):
        append_line(root, name)
    assert ids(root, begin(root)) == []
    events, end = read_on(EventLog(root), begin(root, OLDEST))
    assert [each.id for each in events] == ["a", "b", "c"]
    assert events[-1].position == str(end) == str(begin(root))
    for number, event in enumerate(events):
        assert ids(root, begin(root, event.position)) == ["a", "b", "c"][number + 1 :]
    start = parse_position(events[0].position)._replace(offset=0)
    assert ids(root, begin(root, str(start))) == ["a", "b", "c"]


def test_now_is_behind_the_last_whole_line_so_that_one_under_way_isnt_missed(root: str) -> None:
    append_line(root, "whole")
    line = make_line("under-way")
    append_raw(root, line[:50])
    at = begin(root)
    assert ids(root, at) == []
    append_raw(root, line[50:])
    assert ids(root, at) == ["under-way"]


def test_now_is_found_behind_more_garbage_than_a_page(root: str) -> None:
    append_line(root, "whole")
    whole = begin(root)
    append_raw(root, b"\0" * (PAGE_BYTES * 2 + 100))
    assert begin(root) == whole


def test_more_than_a_page_is_read_page_by_page(root: str) -> None:
    at = begin(root)
    for number in range(700):
        append_line(root, f"c{number}")
    log = EventLog(root)
    page = log.read(at)
    assert page.more
    assert 0 < len(page.events) < 700
    assert ids(root, at) == [f"c{number}" for number in range(700)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "GENERATION:OFFSET"),
        ("now", "GENERATION:OFFSET"),
        ("0123456789ab", "GENERATION:OFFSET"),
        ("0123456789ab:", "GENERATION:OFFSET"),
        ("0123456789ab:-1", "GENERATION:OFFSET"),
        ("0123456789ab:1.5", "GENERATION:OFFSET"),
        ("0123456789ab:01", "GENERATION:OFFSET"),
        ("0123456789ab:1\n", "GENERATION:OFFSET"),
        ("0123456789AB:1", "GENERATION:OFFSET"),
        ("0123456789ab:" + "9" * 20, "GENERATION:OFFSET"),
        ("0123456789ab:٣", "GENERATION:OFFSET"),
        ("x" * 500, "GENERATION:OFFSET"),
    ],
)
def test_a_text_that_is_no_position_is_refused_in_a_short_line(
    root: str, text: str, why: str
) -> None:
    with pytest.raises(InvalidPosition) as caught:
        EventLog(root).begin(text)
    assert caught.value.position == text
    assert why in caught.value.why
    assert len(str(caught.value)) < 200


def test_a_position_beyond_the_end_or_in_the_middle_of_a_line_is_refused(root: str) -> None:
    append_line(root, "a")
    end = begin(root)
    for offset, why in (
        (end.offset + 1, f"ends at {end.offset}"),
        (10**18, f"ends at {end.offset}"),
        (end.offset - 1, "middle of a line"),
        (5, "middle of a line"),
    ):
        with pytest.raises(InvalidPosition, match=why):
            begin(root, str(end._replace(offset=offset)))


def test_a_position_of_another_root_or_boot_is_lost_and_says_where_to_go_on(root: str) -> None:
    append_line(root, "a")
    with pytest.raises(EventsLost) as caught:
        begin(root, "0123456789ab:100")
    assert caught.value.position == "0123456789ab:100"
    assert ids(root, begin(root, caught.value.oldest)) == ["a"]


def test_the_generation_before_is_kept_and_the_one_before_that_is_lost(root: str) -> None:
    first = begin(root)
    append_line(root, "a")
    assert rotate(root)
    append_line(root, "b")
    second = begin(root)
    assert ids(root, first) == ["a", "b"]
    assert ids(root, begin(root, str(first))) == ["a", "b"]
    assert rotate(root)
    append_line(root, "c")
    assert ids(root, second) == ["c"]
    for again in (lambda: EventLog(root).read(first), lambda: begin(root, str(first))):
        with pytest.raises(EventsLost) as caught:
            again()
        assert caught.value.oldest == str(begin(root, OLDEST))
    assert ids(root, begin(root, OLDEST)) == ["b", "c"]
    assert sorted(os.listdir(root)) == ["~events", "~events.1", "~events.lock"]


def test_a_follower_that_is_pages_behind_reads_on_in_the_old_generation_first(root: str) -> None:
    log = EventLog(root, lambda fd: None)
    at = log.begin(None)
    assert at is not None
    for number in range(1400):
        append_line(root, f"c{number}")
        if number == 699:
            assert rotate(root)
    events, _ = read_on(log, at)
    assert [each.id for each in events] == [f"c{number}" for number in range(1400)]


def test_a_torn_end_of_the_generation_before_holds_nobody_up(root: str) -> None:
    at = begin(root)
    append_line(root, "a")
    append_raw(root, make_line("torn")[:60])
    assert rotate(root)
    append_line(root, "b")
    assert ids(root, at) == ["a", "b"]


def test_a_small_log_isnt_rotated(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    append_line(root)
    monkeypatch.setattr(event_log, "ROTATE_BYTES", 10_000)
    assert not rotate(root)
    assert not os.path.exists(f"{root}/~events.1")


def test_nothing_is_rotated_while_somebody_else_does_or_where_there_is_nothing(root: str) -> None:
    assert not rotate(root)
    append_line(root)
    with attempt(f"{root}/{_paths.EVENTS_LOCK}") as alone:
        assert alone
        assert not rotate(root)
    assert rotate(root)


def test_a_lock_file_that_somebody_removed_locks_nobody_in_and_nobody_out(root: str) -> None:
    append_line(root)
    path = f"{root}/{_paths.EVENTS_LOCK}"
    with attempt(path):
        os.unlink(path)
        with attempt(path) as alone:
            assert alone
        assert rotate(root)


def test_rotating_fails_with_the_log_as_it_was(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = begin(root)
    append_line(root, "a")
    rename = os.rename

    def full(source: str, target: str, **kwargs: int) -> None:
        if target == _paths.EVENTS:
            raise OSError(28, "No space left on device")
        rename(source, target, **kwargs)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space"):
        rotate(root)
    monkeypatch.undo()
    monkeypatch.setattr(event_log, "ROTATE_BYTES", 0)
    assert sorted(os.listdir(root)) == ["~events", "~events.1", "~events.lock"]
    assert ids(root, at) == ["a"]
    append_line(root, "b")
    assert ids(root, at) == ["a", "b"]
    assert rotate(root)
    append_line(root, "c")
    assert ids(root, at) == ["a", "b", "c"]


def test_a_log_that_somebody_removed_is_a_loss_for_who_followed_it(root: str) -> None:
    append_line(root, "a")
    at = begin(root)
    os.unlink(f"{root}/~events")
    append_line(root, "b")
    with pytest.raises(EventsLost) as caught:
        EventLog(root).read(at)
    assert ids(root, begin(root, caught.value.oldest)) == ["b"]


@pytest.mark.parametrize("left", [b"", b"garbage\n", make_line("kept"), b'{"schema":1'])
def test_a_log_that_somebody_truncated_or_overwrote_is_replaced_when_it_is_read(
    root: str, left: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "ROTATE_BYTES", 1 << 20)
    append_line(root, "a")
    at = begin(root)
    with open(f"{root}/~events", "wb") as file:
        file.write(left)
    with pytest.raises(EventsLost):
        EventLog(root).read(at)
    append_line(root, "b")
    assert ids(root, begin(root, OLDEST)) == ["b"]
    with open(f"{root}/~events.1", "rb") as file:
        assert file.read() == left


def test_while_somebody_else_replaces_a_broken_log_its_readers_wait_for_that(root: str) -> None:
    with open(f"{root}/~events", "wb") as file:
        file.write(b"garbage\n")
    given: list[int] = []
    log = EventLog(root, given.append)
    with attempt(f"{root}/{_paths.EVENTS_LOCK}"):
        assert log.begin(None) is None
        at = Position("0123456789ab", 5)
        assert log.read(at) == ([], at, False)
    assert len(given) == 1
    assert log.begin(None) is not None
    assert len(given) == 2


def test_a_log_cut_short_below_its_followers_position_is_a_loss(root: str) -> None:
    first = begin(root)
    append_line(root, "a")
    at = begin(root)
    os.truncate(f"{root}/~events", first.offset)
    with pytest.raises(EventsLost):
        EventLog(root).read(at)


def test_garbage_between_lines_is_left_out_and_told_to_the_operator(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    at = begin(root)
    append_line(root, "a")
    append_raw(root, b"gar\rbage\n")
    append_line(root, "b")
    append_raw(root, b"\0" * (3 * PAGE_BYTES) + b"\n")
    append_line(root, "c")
    with caplog.at_level(logging.WARNING):
        events, _ = read_on(EventLog(root), at)
    assert [each.id for each in events] == ["a", "b", "c"]
    for each in events:
        assert begin(root, each.position) == parse_position(each.position)
    assert len(caplog.records) >= 2


def test_a_log_of_a_newer_asyncrt_is_refused_by_name_and_not_rotated(root: str) -> None:
    header = {"schema": 2, "generation": "x", "previous": "", "time": "2026-01-31T12:00:00Z"}
    with open(f"{root}/~events", "wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
    with pytest.raises(SchemaTooNew):
        begin(root)
    with pytest.raises(SchemaTooNew):
        rotate(root)
    assert not os.path.exists(f"{root}/~events.1")


def test_a_root_that_is_gone_and_a_log_that_is_no_file_are_told_by_path(root: str) -> None:
    os.symlink("/nowhere", f"{root}/~events")
    with pytest.raises(StorageFailed, match=r"~events: Too many levels"):
        begin(root)
    os.unlink(f"{root}/~events")
    os.mkdir(f"{root}/~events")
    with pytest.raises(StorageFailed, match=r"~events: Is a directory"):
        begin(root)
    os.rmdir(f"{root}/~events")
    with pytest.raises(StorageFailed, match="No such file"):
        begin(f"{root}/gone")


def test_what_is_to_be_watched_is_given_once_and_again_after_a_rotation(root: str) -> None:
    given: list[int] = []

    def note(fd: int) -> None:
        given.append(os.fstat(fd).st_ino)

    log = EventLog(root, note)
    at = log.begin(None)
    assert at is not None
    append_line(root, "a")
    log.read(at)
    assert given == [os.stat(f"{root}/~events").st_ino]
    rotate(root)
    log.read(at)
    assert given == [os.stat(f"{root}/~events.1").st_ino, os.stat(f"{root}/~events").st_ino]


def test_a_rotation_right_before_the_watch_is_set_isnt_missed(root: str) -> None:
    given: list[int] = []

    def overtaken(fd: int) -> None:
        given.append(os.fstat(fd).st_ino)
        if len(given) == 1:
            rotate(root)

    append_line(root, "a")
    log = EventLog(root, overtaken)
    at = log.begin(None)
    assert at is not None
    assert given[-1] == os.stat(f"{root}/~events").st_ino
    append_line(root, "b")
    assert [each.id for each in read_on(log, at)[0]] == ["b"]


def test_nothing_stays_open_also_after_errors(root: str) -> None:
    append_line(root, "a")
    at = begin(root)
    before = len(os.listdir("/proc/self/fd"))
    EventLog(root).read(at)
    rotate(root)
    rotate(root)
    with pytest.raises(EventsLost):
        EventLog(root).read(at)
    with pytest.raises(InvalidPosition):
        begin(root, str(begin(root)._replace(offset=7)))
    assert len(os.listdir("/proc/self/fd")) == before
