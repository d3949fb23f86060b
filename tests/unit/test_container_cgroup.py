"""What is done to a record's cgroups, and what is left alone because it is another's by now."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asyncrt import _cgroups
from asyncrt.container import cgroup
from asyncrt.launch import clearing
from asyncrt.state import CgroupPlace, ExitResult, Identity, Record
from asyncrt.status import Status
from tests.helpers.cgroups import make_machine
from tests.helpers.records import make_record

if TYPE_CHECKING:
    from asyncrt.launch.plan import CgroupPlan


def _record(directory: Path, *, boot: str = "") -> Record:
    """A record whose cgroup and the one above it were made for it; plain directories here."""
    leaf = directory / "pod/web"
    leaf.mkdir(parents=True)
    me = Identity.of(os.getpid())
    assert me is not None
    creator = Identity(pid=me.pid, start=me.start, boot=boot or me.boot, pidns=me.pidns)
    place = CgroupPlace(str(leaf), leaf.stat().st_ino)
    made = (str(directory / "pod"), str(leaf))
    return make_record(creator=creator, cgroups=made, cgroup=(place,))


def test_what_was_made_is_removed_and_removed_again(tmp_path: Path) -> None:
    record = _record(tmp_path)
    (tmp_path / "pod/web/inner/most").mkdir(parents=True)
    for _ in range(2):
        assert cgroup.end(record, 1) == []
        assert os.listdir(tmp_path) == []


def test_depth_beyond_any_path_and_any_stack_is_no_trap(tmp_path: Path) -> None:
    """A container that may write to its cgroups makes as many in each other as it likes."""
    record = _record(tmp_path)
    fd = os.open(tmp_path / "pod/web", os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("a", dir_fd=fd)
        os.mkdir("b", dir_fd=fd)
        below = os.open("a", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    try:
        assert _cgroups.pids(str(tmp_path / "pod")) == []
        assert cgroup.end(record, 1) == []
        assert os.listdir(tmp_path) == []
    finally:
        clearing.clear(str(tmp_path / "pod"))  # pytest can't


def test_a_parent_that_somebody_uses_stays(tmp_path: Path) -> None:
    record = _record(tmp_path)
    (tmp_path / "pod/other").mkdir()
    assert cgroup.end(record, 1) == []
    assert os.listdir(tmp_path / "pod") == ["other"]


def test_what_was_planned_before_a_kill_is_removed(tmp_path: Path) -> None:
    """Recorded as creating, no inode was known."""
    record = _record(tmp_path)
    record.cgroup = ()
    assert cgroup.end(record, 1) == []
    assert os.listdir(tmp_path) == []


def test_a_cgroup_of_the_same_name_is_not_the_same(tmp_path: Path) -> None:
    """HAZARDS 18, of directories: somebody removed ours and made one there."""
    record = _record(tmp_path)
    leaf = tmp_path / "pod/web"
    leaf.rename(tmp_path / "ours")  # so that its inode isn't free for the other
    leaf.mkdir()
    assert cgroup.holder(record) is None
    assert cgroup.members(record) == []
    assert cgroup.end(record, 1) == []
    assert leaf.exists()


def test_after_a_restart_of_the_machine_nothing_is_the_containers(tmp_path: Path) -> None:
    record = _record(tmp_path, boot="another")
    assert cgroup.holder(record) is None
    assert cgroup.end(record, 1) == []
    assert (tmp_path / "pod/web").exists()


def test_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    record = _record(tmp_path)
    (tmp_path / "pod/web/file").touch()
    assert cgroup.end(record, 1) == [f"cgroup {tmp_path}/pod/web"]


def _ended(directory: Path, name: str) -> Record:
    """One of a sandbox, whose end its supervisor has seen."""
    leaf = directory / "pod" / name
    leaf.mkdir(parents=True)
    me = Identity.of(os.getpid())
    place = CgroupPlace(str(leaf), leaf.stat().st_ino)
    record = make_record(creator=me, cgroups=(str(directory / "pod"), str(leaf)), cgroup=(place,))
    record.exit = ExitResult(signal=9, reason="sandbox ended", finished_at=datetime.now(UTC))
    return record


def test_what_several_made_goes_at_once_and_what_they_made_together_after_the_last(
    tmp_path: Path,
) -> None:
    records = [_ended(tmp_path, each) for each in ("one", "two", "three")]
    assert cgroup.end_at_once(records[:1]) == [True]
    assert sorted(os.listdir(tmp_path / "pod")) == ["three", "two"]
    assert cgroup.end_at_once(records) == [True] * 3
    assert os.listdir(tmp_path) == []


def test_what_has_not_ended_or_is_used_is_left_to_who_waits_and_holds_up_no_other(
    tmp_path: Path,
) -> None:
    lives, used, goes = (_ended(tmp_path, each) for each in ("lives", "used", "goes"))
    lives.exit = None
    (tmp_path / "pod/used/inner").mkdir()
    assert cgroup.end_at_once([lives, used, goes]) == [False, False, True]
    assert sorted(os.listdir(tmp_path / "pod")) == ["lives", "used"]


def test_at_once_too_a_cgroup_of_the_same_name_is_not_the_same(tmp_path: Path) -> None:
    """HAZARDS 18, of directories."""
    record = _ended(tmp_path, "one")
    leaf = tmp_path / "pod/one"
    leaf.rename(tmp_path / "ours")
    leaf.mkdir()
    assert cgroup.end_at_once([record]) == [True]
    assert leaf.exists()


@pytest.mark.parametrize("there", ["", "pod", "pod/web"])
def test_what_is_to_be_made_is_what_is_missing(there: str, tmp_path: Path) -> None:
    machine = make_machine(tmp_path, "memory pids")
    plan = cgroup_plan(machine.v1["memory"].top, machine.v1["pids"].top)
    (tmp_path / "memory" / there).mkdir(exist_ok=True, parents=True)
    paths = [
        f"{tmp_path}/{each}/{path}" for each in ("memory", "pids") for path in ("pod", "pod/web")
    ]
    assert cgroup.missing(plan) == tuple(each for each in paths if not os.path.exists(each))


def cgroup_plan(*tops: str) -> CgroupPlan:
    return {
        "places": [
            {"top": top, "path": f"{top}/pod/web", "enable": {}, "cpuset": False} for top in tops
        ],
        "writes": [],
        "devices": None,
    }


def test_one_that_others_use_is_theirs_although_the_kernel_had_no_memory_to_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = tmp_path / "above"
    (above / "theirs").mkdir(parents=True)
    rmdir, failures = os.rmdir, [errno.ENOMEM]

    def failing(path: str) -> None:
        if failures:
            raise OSError(failures.pop(), "no memory", path)
        rmdir(path)

    monkeypatch.setattr(os, "rmdir", failing)
    assert _cgroups.remove_parent(str(above))
    failures += [errno.EIO, errno.EIO]
    assert not _cgroups.remove_parent(str(above))
    (above / "theirs").rmdir()
    for _ in range(2):
        failures += [errno.ENOMEM]
        assert _cgroups.remove_parent(str(above))
        assert not above.exists()


@pytest.mark.parametrize("own", [True, False])
def test_a_supervisor_that_is_about_to_end_is_waited_for_where_nobody_else_can_be(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an interrupted creation its end is recorded, and its supervisor on no record."""
    ended = ExitResult(reason="creation interrupted", finished_at=datetime.now(UTC))
    record = make_record(status=Status.STOPPED, exit=ended)
    name = cgroup.name_of(record.id, record.instance) if own else "pods"
    top, supervisor = tmp_path / name, tmp_path / name / "_supervisor"
    supervisor.mkdir(parents=True)
    procs = supervisor / "cgroup.procs"
    procs.write_text(f"{os.getpid()}\n")

    def until_empty(path: str, _: float) -> bool:
        Path(path, procs.name).unlink()
        return True

    monkeypatch.setattr(_cgroups, "until_empty", until_empty)
    record.cgroups = (str(top), str(supervisor))
    assert cgroup.end(record, 1) == []
    assert os.listdir(tmp_path) == ([] if own else [name])
