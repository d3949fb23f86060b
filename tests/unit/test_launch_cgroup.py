"""How a new process comes into its cgroups: born there, or by its own first step."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from asyncrt import _libc
from asyncrt.launch import beside, cgroup
from asyncrt.launch.failure import Failure
from tests.unit.test_supervisor_execs import PLAN


def made_up(path: Path, *files: str) -> str:
    """A directory that looks like a cgroup; what is written to its files can be read again."""
    path.mkdir()
    for name in files:
        (path / name).touch()
    return str(path)


def cloned(doors: cgroup.Doors) -> int:
    """What a child's exit status says: 0, or the errno of its failure."""
    try:
        pid = doors.clone(0)
    except Failure as failure:
        os._exit(failure.errno if failure.what == cgroup.PATH else 255)
    if pid == 0:
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_thread_moves_itself_where_moving_a_process_would_wait_for_every_fork(
    tmp_path: Path,
) -> None:
    paths = [made_up(tmp_path / name, "tasks", "cgroup.procs") for name in ("a", "b")]
    before = open_files()
    for enter in (cloned, cgroup.Doors.enter):
        doors = cgroup.Doors(paths)
        assert not doors.need_a_birth
        assert not enter(doors)
        for each in paths:
            assert Path(each, "tasks").read_text() == "0"
            assert Path(each, "cgroup.procs").read_text() == ""
            Path(each, "tasks").write_text("")
    assert open_files() == before


def test_in_version_2_it_is_born_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made_up(tmp_path / "unified", "cgroup.procs")
    into: list[str] = []

    def clone(flags: int, fd: int = -1) -> int:
        assert flags == 0
        into.append(os.readlink(f"/proc/self/fd/{fd}"))
        return 4711

    monkeypatch.setattr(_libc, "clone", clone)
    before = open_files()
    doors = cgroup.Doors([path])
    assert doors.need_a_birth
    assert doors.clone(0) == 4711
    assert into == [path]
    assert open_files() == before


def test_where_nobody_may_be_born_it_comes_in_from_outside(tmp_path: Path) -> None:
    path = made_up(tmp_path / "unified", "cgroup.procs")  # EBADF: it is no cgroup
    before = open_files()
    assert cloned(cgroup.Doors([path])) == 0
    assert Path(path, "cgroup.procs").read_text() == "0"
    assert open_files() == before


def test_a_process_that_may_not_join_says_so_itself(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "tasks").symlink_to("/dev/full")
    before = open_files()
    assert cloned(cgroup.Doors([str(full)])) == errno.ENOSPC
    assert open_files() == before


def test_a_cgroup_that_is_gone_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    there, gone = made_up(tmp_path / "there", "tasks"), str(tmp_path / "gone")
    before = open_files()
    with pytest.raises(Failure) as caught:
        cgroup.Doors([there, gone])
    assert (caught.value.path, caught.value.errno) == (gone, errno.ENOENT)
    with pytest.raises(Failure):
        beside.spawn({**PLAN, "cgroups": [there, gone]}, [0, 1, 2], 0o077, 0)
    with pytest.raises(TypeError):
        beside.spawn({**PLAN, "cgroups": [there, 7]}, [0, 1, 2], 0o077, 0)  # type: ignore[list-item]  # no plan
    assert open_files() == before
