"""A stream's files: format, rotation, and a disk that refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from asyncrt.supervisor import log_files
from asyncrt.supervisor.log_files import HEADER_BYTES, LogWriter, generations, name_of, stamped


@pytest.fixture
def logs(root: str) -> Iterator[int]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def writer(
    logs: int, *, max_bytes: int | None = None, files: int = 3, timestamps: bool = False
) -> LogWriter:
    return LogWriter(
        logs, "stdout", {"max_bytes": max_bytes, "files": files, "timestamps": timestamps}
    )


def contents(logs: int) -> list[bytes]:
    found = []
    for each in generations(logs, "stdout"):
        fd = os.open(name_of("stdout", each), os.O_RDONLY, dir_fd=logs)
        found.append(os.read(fd, 1 << 20))
        os.close(fd)
    return found


@pytest.mark.leaves
def test_without_timestamps_every_byte_is_as_it_came(logs: int) -> None:
    log = writer(logs)
    data = os.urandom(100_000)
    log.write(data)
    log.write(b"no end")
    log.close()
    assert b"".join(contents(logs)) == data + b"no end"


def test_a_stamped_line_has_time_stream_tag_and_text() -> None:
    first, second, third = stamped(b"one\n\nend", "stdout").splitlines()
    for line, tag, text in ((first, b"F", b"one"), (second, b"F", b""), (third, b"P", b"end")):
        assert line[27:HEADER_BYTES] == b" stdout " + tag + b" "
        assert line[HEADER_BYTES:] == text


@pytest.mark.leaves
@pytest.mark.parametrize("timestamps", [False, True])
def test_no_file_is_larger_than_asked_for_and_no_line_is_cut(
    logs: int, *, timestamps: bool
) -> None:
    log = writer(logs, max_bytes=1000, files=4, timestamps=timestamps)
    for _ in range(20):
        log.write(b"".join(b"%d\n" % each for each in range(100)))
    log.close()
    found = contents(logs)
    assert len(found) == 4
    assert all(0 < len(each) <= 1000 and each.endswith(b"\n") for each in found)
    assert found[-1].endswith(b"99\n")


@pytest.mark.leaves
@pytest.mark.parametrize("timestamps", [False, True])
def test_a_line_longer_than_a_file_may_be_is_kept(logs: int, *, timestamps: bool) -> None:
    log = writer(logs, max_bytes=100, files=100, timestamps=timestamps)
    log.write(b"a\n" + b"x" * 350 + b"\nb\n")
    log.close()
    whole = b"".join(contents(logs))
    assert whole.count(b"x") == 350
    assert whole.endswith(b"b\n")


@pytest.mark.leaves
def test_whoever_begins_to_write_begins_a_file_so_a_torn_end_stays_an_end(logs: int) -> None:
    log = writer(logs, timestamps=True)
    log.write(b"one\n")
    log.close()
    with open(f"/proc/self/fd/{logs}/{name_of('stdout', 1)}", "ab") as file:
        file.write(b"2026-01-31T12:0")
    log = writer(logs, timestamps=True)
    log.write(b"two\n")
    log.close()
    first, second = contents(logs)
    assert first.endswith(b"one\n2026-01-31T12:0")
    assert second.endswith(b"F two\n")


@pytest.mark.leaves
@pytest.mark.parametrize("timestamps", [False, True])
def test_who_comes_after_a_killed_writer_takes_no_file_away(logs: int, *, timestamps: bool) -> None:
    """Each with a file of its own, a few of them would push out all that was kept."""
    for each in range(10):
        log = writer(logs, max_bytes=1000, timestamps=timestamps)
        log.write(b"%d\n" % each)
        log.close()
    (kept,) = contents(logs)
    assert kept.count(b"\n") == 10


@pytest.mark.leaves
def test_without_a_limit_everything_is_kept_whoever_was_killed(logs: int) -> None:
    for each in range(10):
        log = writer(logs, timestamps=True)
        log.write(b"%d\n" % each)
        log.close()
        with open(f"/proc/self/fd/{logs}/{name_of('stdout', each + 1)}", "ab") as file:
            file.write(b"torn")
    assert len(contents(logs)) == 10


@pytest.mark.leaves
@pytest.mark.parametrize("timestamps", [False, True])
def test_a_full_disk_costs_log_and_is_told_when_there_is_room_again(
    logs: int, monkeypatch: pytest.MonkeyPatch, *, timestamps: bool
) -> None:
    real = os.write
    room = [10_000]

    def write(fd: int, data: bytes) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = real(fd, bytes(data)[: room[0]])
        room[0] -= taken
        return taken

    log = writer(logs, timestamps=timestamps)
    monkeypatch.setattr(os, "write", write)
    lines = b"".join(b"line %d\n" % each for each in range(4000))
    log.write(lines)
    log.write(lines)
    assert log_files.lost_name("stdout") not in os.listdir(logs)
    room[0] = 1 << 30
    log.write(b"again\n")
    log.close()
    (kept,) = contents(logs)
    assert kept.endswith(b"again\n")
    made = 2 * len(stamped(lines, "stdout") if timestamps else lines)
    last = len(stamped(b"again\n", "stdout") if timestamps else b"again\n")
    with open(f"/proc/self/fd/{logs}/{log_files.lost_name('stdout')}") as file:
        assert int(file.read()) == made - (len(kept) - last)
    if timestamps:  # every line has its header: none ran into another
        assert all(each[27:35] == b" stdout " for each in kept.splitlines())


@pytest.mark.leaves
def test_a_file_that_somebody_removed_is_followed_by_another(logs: int) -> None:
    log = writer(logs)
    log.write(b"one\n")
    os.unlink(name_of("stdout", 1), dir_fd=logs)
    log.write(b"two\n")
    log.close()
    assert contents(logs) == [b"two\n"]


@pytest.mark.leaves
def test_a_directory_that_is_gone_harms_nobody(root: str, logs: int) -> None:
    os.mkdir("gone", dir_fd=logs)
    fd = os.open(f"{root}/gone", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir("gone", dir_fd=logs)
    log = writer(fd)
    log.write(b"x" * 1000)
    log.close()
    os.close(fd)
