from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asyncrt import _durable, _paths
from tests.helpers import capabilities

pytestmark = pytest.mark.leaves("file*")


@pytest.fixture
def directory(root: str) -> Iterator[int]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def fail(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, failing)


def before(name: str, first: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(os, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(os, name, real)
        first()
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, wrapped)


def test_the_content_is_whole_and_the_mode_is_as_asked(root: str, directory: int) -> None:
    data = os.urandom(300_000)
    _durable.replace(directory, "file", b"old")
    _durable.replace(directory, "file", data, mode=0o600)
    assert _durable.read(f"{root}/file") == data
    assert stat.S_IMODE(os.stat(f"{root}/file").st_mode) == 0o600
    assert os.listdir(root) == ["file"]


def test_an_open_reader_keeps_the_old_content(root: str, directory: int) -> None:
    _durable.replace(directory, "file", b"old")
    with open(f"{root}/file", "rb") as reader:
        _durable.replace(directory, "file", b"new")
        assert reader.read() == b"old"


def test_a_write_that_stops_short_is_gone_on_with(
    root: str, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    _durable.replace(directory, "file", b"0123456789")
    assert _durable.read(f"{root}/file") == b"0123456789"


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_on_an_error_the_old_file_stands_and_no_temporary_one_is_left(
    root: str, directory: int, step: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _durable.replace(directory, "file", b"old")
    fail(step, number, monkeypatch)
    with pytest.raises(OSError) as caught:
        _durable.replace(directory, "file", b"new")
    assert caught.value.errno == number
    assert _durable.read(f"{root}/file") == b"old"
    assert os.listdir(root) == ["file"]


def test_two_writers_at_once_never_share_a_temporary_file(
    root: str, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def other() -> None:
        seen.extend(os.listdir(root))
        _durable.replace(directory, "file", b"other's")
        assert _durable.read(f"{root}/file") == b"other's"

    before("rename", other, monkeypatch)
    _durable.replace(directory, "file", b"mine")
    assert len(seen) == 1
    assert seen[0].endswith("~")
    assert _durable.read(f"{root}/file") == b"mine"
    assert os.listdir(root) == ["file"]


def test_a_temporary_name_that_is_taken_is_refused_and_left_alone(
    root: str, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_paths, "temporary", lambda name: f"file.{name}~")
    os.symlink("/nowhere", f"{root}/file.file~")
    with pytest.raises(FileExistsError):
        _durable.replace(directory, "file", b"new")
    assert os.listdir(root) == ["file.file~"]


def test_what_a_killed_writer_left_under_a_given_name_is_taken_away(
    root: str, directory: int
) -> None:
    for left in ("/nowhere", f"{root}/file"):
        os.symlink(left, f"{root}/.file~")
        _durable.replace(directory, "file", b"new", temporary=".file~")
        assert _durable.read(f"{root}/file") == b"new"
        assert os.listdir(root) == ["file"]


def test_a_link_is_replaced_and_never_followed(root: str, directory: int) -> None:
    with open(f"{root}/file-target", "w") as file:
        file.write("untouched")
    os.symlink("file-target", f"{root}/file")
    _durable.replace(directory, "file", b"new")
    assert not os.path.islink(f"{root}/file")
    with open(f"{root}/file-target") as file:
        assert file.read() == "untouched"


def test_a_link_isnt_read_and_a_fifo_doesnt_block(root: str) -> None:
    os.symlink("/etc/passwd", f"{root}/file-link")
    with pytest.raises(OSError) as caught:
        _durable.read(f"{root}/file-link")
    assert caught.value.errno == errno.ELOOP
    os.mkfifo(f"{root}/file-fifo")
    assert _durable.read(f"{root}/file-fifo") == b""


def test_reading_stops_past_the_limit(root: str, directory: int) -> None:
    _durable.replace(directory, "file", b"x" * 5_000_000, durable=False)
    assert 200_000 < len(_durable.read(f"{root}/file", limit=200_000)) < 2_000_000


def test_nothing_is_synced_unless_durable(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fail("fsync", errno.EIO, monkeypatch)
    _durable.replace(directory, "file", b"new", durable=False)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 9000, 65536])
def test_what_is_in_the_page_cache_is_read_whole(disk_root: str, size: int) -> None:
    directory = os.open(disk_root, os.O_RDONLY | os.O_DIRECTORY)
    _durable.replace(directory, "file", os.urandom(size), durable=False)
    os.close(directory)
    path = f"{disk_root}/file"
    if _durable.read_cached(path) is None:  # a file system that can't say
        capabilities.skip_lacking("RWF_NOWAIT on the disk's file system")
    assert _durable.read_cached(path) == _durable.read(path)


@pytest.mark.parametrize("answer", [errno.EAGAIN, errno.EOPNOTSUPP, 10])
def test_what_is_not_whole_in_the_page_cache_is_not_read(
    root: str, directory: int, answer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _durable.replace(directory, "file", b"x" * 5000)

    def preadv(*_: object) -> int:
        if answer == 10:
            return 10
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(os, "preadv", preadv)
    assert _durable.read_cached(f"{root}/file") is None


def test_a_file_too_large_to_read_on_the_loop_is_not_read(root: str, directory: int) -> None:
    _durable.replace(directory, "file", bytes(65537))
    assert _durable.read_cached(f"{root}/file") is None
