from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest

from asyncrt import _events, _paths
from asyncrt.state import EventLog, event_log
from asyncrt.state.event import decode_event
from asyncrt.supervisor.exits import exit_json, line
from tests.helpers.events import append_line, append_raw, make_line, read_on


@pytest.fixture
def directory(root: str) -> Iterator[int]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def lines(root: str, name: str = _paths.EVENTS) -> list[bytes]:
    with open(f"{root}/{name}", "rb") as file:
        return file.read().splitlines(keepends=True)[1:]


def test_the_first_line_makes_the_log_and_every_line_says_its_size(
    root: str, directory: int
) -> None:
    size = _events.append(directory, b"one\n")
    assert size == os.stat(f"{root}/~events").st_size
    assert _events.append(directory, b"two\n") == size + 4
    assert lines(root) == [b"one\n", b"two\n"]
    assert os.listdir(root) == ["~events"]
    assert os.stat(f"{root}/~events").st_mode & 0o777 == 0o640


def test_a_supervisor_appends_from_its_containers_directory(root: str) -> None:
    os.mkdir(f"{root}/web.d")
    inner = os.open(f"{root}/web.d", os.O_RDONLY | os.O_DIRECTORY)
    _events.append(inner, b"one\n", below="../")
    record = exit_json("i" * 32, code=None, signal=9, reason="deadline", started_at=None)
    told = line(inner, "i" * 32, "running", record, "")
    _events.append(inner, told, below="../")
    os.rmdir(f"{root}/web.d")
    # Destroyed: nobody wants to hear of it any more.
    assert line(inner, "i" * 32, "running", record, "") == b""
    os.close(inner)
    one, two = lines(root)
    assert one == b"one\n"
    event = decode_event(two, path="", position="")
    assert event is not None
    assert (event.id, event.sandbox, event.instance) == ("web", "web", "i" * 32)
    assert (event.operation, event.previous, event.status) == ("exit", "running", "stopped")
    assert event.exit is not None
    assert (event.exit.signal, event.exit.reason) == (9, "deadline")
    assert os.listdir(root) == ["~events"]


def test_two_that_make_the_log_at_once_make_one(
    root: str, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def slower(*args: object, **kwargs: object) -> None:
        monkeypatch.setattr(os, "link", link)
        _events.append(directory, b"faster\n")
        link(*args, **kwargs)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(os, "link", slower)
    _events.append(directory, b"slower\n")
    assert lines(root) == [b"faster\n", b"slower\n"]
    assert os.listdir(root) == ["~events"]


def test_a_line_that_went_to_a_file_that_was_rotated_meanwhile_is_written_again(
    root: str, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "ROTATE_BYTES", 0)
    _events.append(directory, b"before\n")
    write = os.write

    def overtaken(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        assert event_log.rotate(root)
        return write(fd, data)

    monkeypatch.setattr(os, "write", overtaken)
    _events.append(directory, b"late\n")
    assert lines(root, _paths.EVENTS_OLD) == [b"before\n", b"late\n"]
    assert lines(root) == [b"late\n"]


def test_a_line_that_went_to_a_file_that_somebody_removed_is_written_again(
    root: str, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _events.append(directory, b"before\n")
    write = os.write

    def overtaken(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        os.unlink(f"{root}/~events")
        return write(fd, data)

    monkeypatch.setattr(os, "write", overtaken)
    _events.append(directory, b"late\n")
    assert lines(root) == [b"late\n"]


def test_a_write_that_stops_short_is_a_full_disk_and_the_next_line_is_read_all_the_same(
    root: str, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_line(root, "first")
    log = EventLog(root)
    at = log.begin(event_log.OLDEST)
    assert at is not None
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
    with pytest.raises(OSError, match="No space left") as caught:
        _events.append(directory, make_line("torn"))
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    found, at = read_on(log, at)
    assert [each.id for each in found] == ["first"]
    append_line(root, "next")
    found, at = read_on(log, at)
    assert [each.id for each in found] == ["next"]


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_what_is_no_file_in_its_place_is_an_error_and_isnt_followed(
    root: str, directory: int, kind: str
) -> None:
    path = f"{root}/~events"
    if kind == "directory":
        os.mkdir(path)
    elif kind == "link":
        os.symlink("/dev/shm/elsewhere", path)
    else:
        os.mkfifo(path)
    with pytest.raises(OSError, match=r"directory|symbolic|No such device"):
        append_raw(root, b"line\n")
    assert not os.path.exists("/dev/shm/elsewhere")
    os.rmdir(path) if kind == "directory" else os.unlink(path)


def test_nothing_stays_open(root: str, directory: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    append_line(root)
    os.unlink(f"{root}/~events")
    append_line(root)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_maker_whose_file_gc_took_for_left_over_begins_again(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped for long in the middle: its line is written all the same."""
    real = os.link
    taken: list[str] = []

    def late(source: str, target: str, **kwargs: Any) -> None:
        if len(taken) < 3:
            taken.append(source)
            os.unlink(f"{root}/{source}")
        real(source, target, **kwargs)

    monkeypatch.setattr(os, "link", late)
    line = append_line(root)
    assert len(taken) == 3
    assert lines(root) == [line]
    assert os.listdir(root) == ["~events"]
