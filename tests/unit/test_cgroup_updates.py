"""What a change of limits comes to in each version: the files, the values, what else is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncrt.errors import SpecInvalid
from asyncrt.oci import Spec
from asyncrt.oci.update import Change, lay_over, parse_change
from asyncrt.platforms.cgroups.machine import Machine
from asyncrt.platforms.cgroups.update import PlannedUpdate, plan_update
from tests.helpers.cgroups import make_machine

MIB = 1 << 20
V1 = "memory cpu pids freezer devices"
V2 = "memory cpu cpuset pids io hugetlb"


def _change(base: dict[str, Any], change: dict[str, Any]) -> Change:
    config = {
        "ociVersion": "1.2.0",
        "process": {"cwd": "/", "args": ["true"]},
        "linux": {"resources": base},
    }
    return lay_over(Spec.decode(json.dumps(config).encode()), parse_change(change))


def _planned(
    machine: Machine, base: dict[str, Any], change: dict[str, Any], *kept: str, **options: Any
) -> PlannedUpdate:
    given = {"made": (), "init": 0, "name": "asyncrt-web", **options}
    return plan_update(_change(base, change), None, kept=kept, machine=machine, **given)


def _writes(found: PlannedUpdate) -> list[tuple[str, str]]:
    assert found.refused == {}
    return [(path.rpartition("/")[2], value) for _, ((path, value), *_) in found.writes]


@pytest.fixture
def old(tmp_path: Path) -> tuple[Machine, str]:
    """Version 1, and a container limited in its memory hierarchy."""
    machine = make_machine(tmp_path, V1, own="/pod")
    for name in ("memory.memsw.limit_in_bytes", "memory.oom_control"):
        (tmp_path / "memory/pod" / name).touch()
    for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"):
        (tmp_path / "cpu/pod" / name).touch()
    web = tmp_path / "memory/pod/web"
    web.mkdir()
    return machine, str(web)


@pytest.fixture
def new(tmp_path: Path) -> tuple[Machine, str]:
    machine = make_machine(tmp_path, v2=V2)
    web = tmp_path / "unified/web"
    web.mkdir()
    return machine, str(web)


# What it has; the change; what version 1 is told; what version 2 is.
CASES: list[tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]], list[tuple[str, str]]]] = [
    (
        # Swap alone is what version 2 has: with another limit it is another, for the same of both.
        {"memory": {"limit": 4 * MIB, "swap": 9 * MIB}},
        {"memory": {"limit": 6 * MIB}},
        [("memory.limit_in_bytes", str(6 * MIB))],
        [("memory.max", str(6 * MIB)), ("memory.swap.max", str(3 * MIB))],
    ),
    (
        {"memory": {"limit": 4 * MIB}},
        {"memory": {"swap": 9 * MIB}},
        [("memory.memsw.limit_in_bytes", str(9 * MIB))],
        [("memory.max", str(4 * MIB)), ("memory.swap.max", str(5 * MIB))],
    ),
    (
        {"memory": {"limit": 4 * MIB, "swap": 4 * MIB}},
        {"memory": {"limit": -1}},
        [("memory.limit_in_bytes", "-1"), ("memory.memsw.limit_in_bytes", "-1")],
        [("memory.max", "max"), ("memory.swap.max", "max")],
    ),
    (
        {"memory": {"limit": 4 * MIB, "swap": -1}},
        {"memory": {"reservation": MIB}},
        [("memory.soft_limit_in_bytes", str(MIB))],
        [("memory.low", str(MIB))],
    ),
    (
        # One file has both.
        {"cpu": {"quota": 5000, "period": 20000}},
        {"cpu": {"quota": 9000}},
        [("cpu.cfs_quota_us", "9000")],
        [("cpu.max", "9000 20000"), ("cpu.max", "9000 20000")],
    ),
    (
        {"cpu": {"quota": 5000}},
        {"cpu": {"period": 20000}},
        [("cpu.cfs_period_us", "20000")],
        [("cpu.max", "5000 20000"), ("cpu.max", "5000 20000")],
    ),
    (
        {"cpu": {"quota": 5000, "period": 20000}},
        {"cpu": {"quota": -1}},
        [("cpu.cfs_quota_us", "-1")],
        [("cpu.max", "max 20000"), ("cpu.max", "max 20000")],
    ),
    (
        {"memory": {"disableOOMKiller": True}},
        {"memory": {"disableOOMKiller": False}},
        [("memory.oom_control", "0")],
        [],
    ),
    ({"pids": {"limit": 5}}, {"pids": {"limit": 0}}, [("pids.max", "max")], [("pids.max", "max")]),
]


@pytest.mark.parametrize(("base", "change", "v1", "v2"), CASES, ids=[str(c[1])[:50] for c in CASES])
def test_version_1_is_told_what_was_named(
    base: dict[str, Any],
    change: dict[str, Any],
    v1: list[tuple[str, str]],
    v2: object,
    old: tuple[Machine, str],
) -> None:
    machine, kept = old
    assert _writes(_planned(machine, base, change, kept)) == v1


@pytest.mark.parametrize(("base", "change", "v1", "v2"), CASES, ids=[str(c[1])[:50] for c in CASES])
def test_version_2_is_told_what_a_file_holds_beside_it_too(
    base: dict[str, Any],
    change: dict[str, Any],
    v1: object,
    v2: list[tuple[str, str]],
    new: tuple[Machine, str],
) -> None:
    machine, kept = new
    assert _writes(_planned(machine, base, change, kept)) == v2


@pytest.mark.parametrize(
    ("base", "change", "at"),
    [
        ({}, {"memory": {"swap": MIB}}, "memory.swap"),
        ({"memory": {"limit": 4, "swap": 6}}, {"memory": {"limit": 7}}, "memory.swap"),
        ({"cpu": {"quota": 5000, "burst": 4000}}, {"cpu": {"quota": 3000}}, "cpu.burst"),
        ({"cpu": {"quota": 5000}}, {"cpu": {"burst": 6000}}, "cpu.burst"),
        ({"devices": [{"allow": False}]}, {"devices": [{"allow": True}]}, "devices"),
    ],
)
def test_what_does_not_go_with_what_stays_is_invalid(
    base: dict[str, Any], change: dict[str, Any], at: str
) -> None:
    with pytest.raises(SpecInvalid) as caught:
        _change(base, change)
    assert caught.value.json_path == f"linux.resources.{at}"


def test_the_same_devices_are_no_change(new: tuple[Machine, str]) -> None:
    """As orchestrators say all that they know of a container."""
    machine, kept = new
    rules = [{"allow": False, "access": "rwm"}]
    base = {"devices": rules, "pids": {"limit": 5}}
    found = _planned(machine, base, {"devices": rules, "pids": {"limit": 6}}, kept)
    assert _writes(found) == [("pids.max", "6")]


def test_in_a_hierarchy_where_it_has_none_a_cgroup_is_planned_below_inits(
    old: tuple[Machine, str], tmp_path: Path
) -> None:
    machine, kept = old
    found = _planned(machine, {}, {"cpu": {"quota": 5000}, "memory": {"limit": MIB}}, kept)
    new = f"{tmp_path}/cpu/pod/asyncrt-web"
    assert [each["path"] for each in found.places] == [kept, new]
    assert found.origins == {new: f"{tmp_path}/cpu/pod"}
    assert [path for _, [(path, _)] in found.writes] == [
        f"{kept}/memory.limit_in_bytes",
        f"{new}/cpu.cfs_quota_us",
    ]


def test_one_that_a_killed_update_had_made_is_taken_on(
    old: tuple[Machine, str], tmp_path: Path
) -> None:
    machine, kept = old
    begun = f"{tmp_path}/cpu/pod/asyncrt-web"
    Path(begun).mkdir()
    v1 = {**machine.v1, "cpu": machine.v1["cpu"]._replace(own=begun)}
    (Path(begun).parent / "cpu.cfs_quota_us").touch()
    change = {"cpu": {"quota": 5000}}
    found = _planned(Machine(v1, None), {}, change, kept, made=(kept, begun))
    assert [each["path"] for each in found.places] == [begun]
    assert found.origins == {begun: ""}


def test_version_2_hands_a_controller_down_that_it_did_not_before(
    new: tuple[Machine, str], tmp_path: Path
) -> None:
    machine, kept = new
    (tmp_path / "unified/cgroup.subtree_control").write_text("memory")
    found = _planned(machine, {}, {"pids": {"limit": 5}}, kept)
    assert found.places[0]["enable"] == {"pids": "linux.resources.pids.limit"}
    assert found.origins == {}


def test_processors_that_a_container_has_no_more_can_be_had_again(tmp_path: Path) -> None:
    """What there is to be had is its parent's, not its own."""
    machine = make_machine(tmp_path, "cpuset freezer")
    web = tmp_path / "cpuset/web"
    web.mkdir()
    for directory, cpus in ((tmp_path / "cpuset", "0-3"), (web, "0")):
        (directory / "cpuset.effective_cpus").write_text(f"{cpus}\n")
    found = _planned(machine, {}, {"cpu": {"cpus": "1-2"}}, str(web))
    assert _writes(found) == [("cpuset.cpus", "1-2")]
    found = _planned(machine, {}, {"cpu": {"cpus": "4"}}, str(web))
    assert found.refused == {"linux.resources.cpu.cpus": "there is no 4 in 0-3"}
