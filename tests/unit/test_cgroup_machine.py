"""Hierarchies told from /proc's own words: version 1, 2 and both; nested, bound, and out of sight."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncrt.platforms.cgroups.machine import Hierarchy, discover, may_make, read_machine
from tests.helpers.cgroups import make_machine

OLD = [
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n",
    "33 31 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n",
    "34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n",
    "35 24 0:32 / /proc rw - proc proc rw\n",
]
NEW = ["40 24 0:40 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"]


def test_controllers_of_version_1_may_share_a_hierarchy() -> None:
    own = ["5:cpu,cpuacct:/user\n", "4:memory:/pods/x\n", "1:name=systemd:/\n"]
    found = read_machine(OLD, own)
    assert found.v2 is None
    assert set(found.v1) == {"cpu", "cpuacct", "memory"}
    assert found.v1["cpu"] == Hierarchy(
        "/sys/fs/cgroup/cpu,cpuacct",
        "/sys/fs/cgroup/cpu,cpuacct/user",
        v2=False,
        controllers=frozenset({"cpu", "cpuacct"}),
    )
    assert found.v1["memory"].own == "/sys/fs/cgroup/memory/pods/x"


def test_version_2_alone_and_beside_version_1() -> None:
    found = read_machine(NEW, ["0::/user.slice/a b\n"])
    assert found.v1 == {}
    assert found.v2 == Hierarchy("/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/a b", v2=True)
    beside = ["41 31 0:41 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"]
    found = read_machine([*OLD, *beside], ["4:memory:/\n", "0::/\n"])
    assert set(found.v1) == {"memory"}
    assert found.v2 is not None
    assert found.v2.own == "/sys/fs/cgroup/unified"


def test_a_mount_of_a_part_shows_only_what_is_below_it() -> None:
    bound = ["33 31 0:30 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"]
    own = ["4:memory:/docker/abc/inner\n"]
    assert read_machine(bound, own).v1["memory"].own == "/sys/fs/cgroup/memory/inner"
    assert read_machine(bound, ["4:memory:/docker/abc\n"]).v1["memory"].own == (
        "/sys/fs/cgroup/memory"
    )
    for elsewhere in ("/docker/abcd", "/", "/../x"):
        assert read_machine(bound, [f"4:memory:{elsewhere}\n"]).v1 == {}


def test_a_mount_point_may_have_spaces() -> None:
    mount = [r"40 24 0:40 / /mnt/my\040cgroups\134x rw - cgroup2 none rw" + "\n"]
    found = read_machine(mount, ["0::/\n"]).v2
    assert found is not None
    assert found.top == "/mnt/my cgroups\\x"


def test_this_machine_has_what_the_kernel_lists() -> None:
    found = discover()
    for each in (*found.v1.values(), *([found.v2] if found.v2 else [])):
        assert os.path.isdir(each.own)
        assert each.holds(each.own)
        assert not each.holds(each.top + "x")
        assert os.path.exists(f"{each.own}/cgroup.procs")


@pytest.mark.needs_root
def test_who_may_write_nowhere_may_make_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cgroup-v2.rst, "Delegation Containment": also what is above both has to be theirs."""
    machine = make_machine(tmp_path, v2="pids", own="/session")
    held = machine.v2
    assert held is not None
    assert may_make(f"{held.top}/web", held)
    allowed = os.access

    def access(path: str, mode: int) -> bool:
        return path != f"{held.top}/cgroup.procs" and allowed(path, mode)

    monkeypatch.setattr(os, "access", access)
    assert not may_make(f"{held.top}/web", held)
    assert may_make(f"{held.own}/web", held)


def test_a_cgroup_that_is_removed_meanwhile_forbids_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation in a sandbox that is being destroyed isn't told that this user may make no cgroup."""
    held = make_machine(tmp_path, v2="pids", own="/session").v2
    assert held is not None
    sandbox = Path(held.top) / "sandbox"
    allowed = os.access

    def access(path: str, mode: int) -> bool:
        if sandbox.is_dir() and Path(path) == sandbox:
            sandbox.rmdir()
        return allowed(path, mode)

    monkeypatch.setattr(os, "access", access)
    for directory in (sandbox / "web", sandbox):
        sandbox.mkdir()
        assert may_make(str(directory), held)
        assert not sandbox.exists()
