"""Directories that containers have filled, taken away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncrt.launch import clearing


def test_all_is_gone_whatever_it_is_and_nothing_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "stays").touch()
    top = tmp_path / "top"
    below = top / "a" / "b"
    below.mkdir(parents=True)
    os.symlink(outside, below / "link")
    os.symlink(outside, top / "link")
    os.mkfifo(below / "fifo")
    (below / "file").touch()
    (top / "empty").mkdir()
    for number in range(3):  # names that a directory on its way up would take
        (top / f"{number}~" / "full").mkdir(parents=True)
    (top / "4~").touch()
    (top / "a" / "1~").mkdir()
    clearing.clear(str(top))
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(outside) == ["stays"]


def test_one_that_isnt_there_is_fine_and_a_link_isnt_followed(tmp_path: Path) -> None:
    clearing.clear(str(tmp_path / "nowhere"))
    (tmp_path / "directory").mkdir()
    os.symlink(tmp_path / "directory", tmp_path / "link")
    with pytest.raises(NotADirectoryError):
        clearing.clear(str(tmp_path / "link"))
    assert (tmp_path / "directory").is_dir()


def test_where_nothing_can_be_there_is_nothing_to_remove(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.symlink("loop", tmp_path / "loop")
    for name in ("file/below", "n" * 256, "loop/below"):
        clearing.clear(str(tmp_path / name))
    with pytest.raises(NotADirectoryError):
        clearing.clear(str(tmp_path / "file"))


def test_more_names_than_are_read_at_a_time(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    for number in range(1500):
        (top / "d" / str(number)).touch()
    clearing.clear(str(top))
    assert not top.exists()


@pytest.mark.needs_root
def test_modes_that_keep_their_owner_out_are_changed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    below = top / "a" / "b"
    below.mkdir(parents=True)
    (below / "f").touch()
    for each in (top, tmp_path):
        os.chmod(each, 0o777)
    user = 65534
    for each in (top, top / "a", below, below / "f"):
        os.chown(each, user, user)
    for each in (below, top / "a", top):
        os.chmod(each, 0)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chdir(tmp_path)
            os.setresuid(user, user, user)
            clearing.clear("top")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert not top.exists()
