"""What resources come to: the exact files and values for each version, or the field refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncrt.errors import SpecInvalid
from asyncrt.oci import decode_config
from asyncrt.oci.config import Linux, Resources
from asyncrt.platforms.cgroups import Planned, plan_cgroup
from asyncrt.platforms.cgroups.limits import io_weight, weight_of_shares
from asyncrt.platforms.cgroups.machine import Machine
from tests.helpers.cgroups import make_machine

V1 = "memory cpu cpuset pids blkio hugetlb rdma net_cls net_prio devices freezer"
V2 = "memory cpu cpuset pids io hugetlb rdma"
ROOT_FILES = (
    "memory/memory.memsw.limit_in_bytes",
    "memory/memory.kmem.tcp.limit_in_bytes",
    "cpu/cpu.cfs_period_us",
    "cpu/cpu.cfs_quota_us",
    "cpu/cpu.cfs_burst_us",
    "cpu/cpu.rt_period_us",
    "cpu/cpu.rt_runtime_us",
    "cpu/cpu.idle",
)


def linux_of(linux: dict[str, Any]) -> Linux:
    process = {"cwd": "/", "args": ["true"]}
    config = {"ociVersion": "1.2.0", "process": process, "linux": linux}
    found = decode_config(json.dumps(config).encode()).linux
    assert found is not None
    return found


def planned(resources: dict[str, Any], machine: Machine) -> Planned:
    linux = linux_of({"resources": resources, "cgroupsPath": "/pod/web"})
    return plan_cgroup(linux, name="web", wanted=True, machine=machine)


def writes(found: Planned) -> list[tuple[str, ...]]:
    """File and value of each write, alternatives behind each other."""
    assert found.plan is not None
    return [
        tuple(part for path, value in choices for part in (path.rpartition("/")[2], value))
        for _, choices in found.plan["writes"]
    ]


@pytest.fixture
def old(tmp_path: Path) -> Machine:
    machine = make_machine(tmp_path, V1)
    for name in ROOT_FILES:
        (tmp_path / name).write_text("0\n")
    (tmp_path / "cpuset/cpuset.effective_cpus").write_text("0-3\n")
    (tmp_path / "cpuset/cpuset.effective_mems").write_text("0\n")
    return machine


@pytest.fixture
def new(tmp_path: Path) -> Machine:
    return make_machine(tmp_path, v2=V2)


M = "linux.resources"
MIB = 1 << 20

# What is asked for; the writes of version 1; those of version 2. A text: the field refused there.
CASES: list[tuple[dict[str, Any], list[tuple[str, ...]] | str, list[tuple[str, ...]] | str]] = [
    (
        {"memory": {"limit": MIB}},
        [("memory.limit_in_bytes", str(MIB))],
        [("memory.max", str(MIB))],
    ),
    (
        {"memory": {"limit": -1}},
        [("memory.limit_in_bytes", "-1")],
        [("memory.max", "max")],
    ),
    (
        # Memory and swap together there, swap alone here; the memory's limit is the first to be set.
        {"memory": {"swap": 3 * MIB, "limit": MIB, "reservation": 7}},
        [
            ("memory.limit_in_bytes", str(MIB)),
            ("memory.memsw.limit_in_bytes", str(3 * MIB)),
            ("memory.soft_limit_in_bytes", "7"),
        ],
        [
            ("memory.max", str(MIB)),
            ("memory.swap.max", str(2 * MIB)),
            ("memory.low", "7"),
        ],
    ),
    (
        {"memory": {"limit": MIB, "swap": MIB}},
        [("memory.limit_in_bytes", str(MIB)), ("memory.memsw.limit_in_bytes", str(MIB))],
        [("memory.max", str(MIB)), ("memory.swap.max", "0")],
    ),
    (
        {"memory": {"swap": -1}},
        [("memory.memsw.limit_in_bytes", "-1")],
        [("memory.swap.max", "max")],
    ),
    ({"memory": {"swappiness": 0}}, [("memory.swappiness", "0")], f"{M}.memory.swappiness"),
    (
        {"memory": {"disableOOMKiller": True}},
        [("memory.oom_control", "1")],
        f"{M}.memory.disableOOMKiller",
    ),
    (
        {"memory": {"kernelTCP": 5}},
        [("memory.kmem.tcp.limit_in_bytes", "5")],
        f"{M}.memory.kernelTCP",
    ),
    ({"memory": {"useHierarchy": False}}, f"{M}.memory.useHierarchy", f"{M}.memory.useHierarchy"),
    # Unset, or asked to be ignored.
    (
        {"memory": {"limit": 0, "swap": 0, "kernel": 9, "checkBeforeUpdate": True}},
        [],
        [],
    ),
    ({"cpu": {"shares": 512}}, [("cpu.shares", "512")], [("cpu.weight", "59")]),
    (
        {"cpu": {"quota": 50000}},
        [("cpu.cfs_quota_us", "50000")],
        [("cpu.max", "50000 100000")],
    ),
    (
        {"cpu": {"quota": -1, "period": 5000}},
        [("cpu.cfs_period_us", "5000"), ("cpu.cfs_quota_us", "-1")],
        [("cpu.max", "max 5000")] * 2,
    ),
    (
        {"cpu": {"quota": 2000, "burst": 1000, "idle": 1, "shares": 2}},
        [
            ("cpu.shares", "2"),
            ("cpu.cfs_quota_us", "2000"),
            ("cpu.cfs_burst_us", "1000"),
            ("cpu.idle", "1"),
        ],
        [
            ("cpu.weight", "1"),
            ("cpu.max", "2000 100000"),
            ("cpu.max.burst", "1000"),
            ("cpu.idle", "1"),
        ],
    ),
    (
        {"cpu": {"realtimeRuntime": 5, "realtimePeriod": 10}},
        [("cpu.rt_period_us", "10"), ("cpu.rt_runtime_us", "5")],
        f"{M}.cpu.realtimePeriod {M}.cpu.realtimeRuntime",
    ),
    (
        {"cpu": {"cpus": "0-2,3", "mems": "0"}},
        [("cpuset.cpus", "0-2,3"), ("cpuset.mems", "0")],
        [("cpuset.cpus", "0-2,3"), ("cpuset.mems", "0")],
    ),
    ({"pids": {"limit": 7}}, [("pids.max", "7")], [("pids.max", "7")]),
    ({"pids": {"limit": -1}}, [("pids.max", "max")], [("pids.max", "max")]),
    ({"pids": {"limit": 0}}, [("pids.max", "max")], [("pids.max", "max")]),
    (
        {"blockIO": {"weight": 500}},
        [("blkio.weight", "500", "blkio.bfq.weight", "500")],
        [("io.bfq.weight", "500", "io.weight", "4950")],
    ),
    ({"blockIO": {"leafWeight": 10}}, [("blkio.leaf_weight", "10")], f"{M}.blockIO.leafWeight"),
    (
        {"blockIO": {"weightDevice": [{"major": 8, "minor": 1, "weight": 1000}]}},
        [("blkio.weight_device", "8:1 1000", "blkio.bfq.weight_device", "8:1 1000")],
        [("io.bfq.weight", "8:1 1000", "io.weight", "8:1 10000")],
    ),
    (
        {
            "blockIO": {
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 0}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 7}],
                "throttleWriteIOPSDevice": [{"major": 9, "minor": 0, "rate": 8}],
            }
        },
        [
            ("blkio.throttle.read_bps_device", "8:0 600"),
            ("blkio.throttle.write_bps_device", "8:0 0"),
            ("blkio.throttle.read_iops_device", "8:16 7"),
            ("blkio.throttle.write_iops_device", "9:0 8"),
        ],
        [
            ("io.max", "8:0 rbps=600"),
            ("io.max", "8:0 wbps=max"),
            ("io.max", "8:16 riops=7"),
            ("io.max", "9:0 wiops=8"),
        ],
    ),
    (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}, {"pageSize": "1GB", "limit": 9}]},
        [("hugetlb.2MB.limit_in_bytes", "0"), ("hugetlb.1GB.limit_in_bytes", "9")],
        [("hugetlb.2MB.max", "0"), ("hugetlb.1GB.max", "9")],
    ),
    ({"network": {"classID": 1048577}}, [("net_cls.classid", "1048577")], f"{M}.network.classID"),
    (
        {"network": {"priorities": [{"name": "eth0", "priority": 5}]}},
        [("net_prio.ifpriomap", "eth0 5")],
        f"{M}.network.priorities[0]",
    ),
    (
        {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}, "mlx4": {"hcaObjects": 0}}},
        [("rdma.max", "mlx5_1 hca_handle=3 hca_object=10"), ("rdma.max", "mlx4 hca_object=0")],
        [("rdma.max", "mlx5_1 hca_handle=3 hca_object=10"), ("rdma.max", "mlx4 hca_object=0")],
    ),
    (
        {
            "unified": {
                "memory.high": "100",
                "cgroup.max.depth": "3",
                "io.max": "8:0 rbps=1\n8:1 rbps=2",
            }
        },
        f'{M}.unified["memory.high"] {M}.unified["cgroup.max.depth"] {M}.unified["io.max"]',
        [
            ("memory.high", "100"),
            ("cgroup.max.depth", "3"),
            ("io.max", "8:0 rbps=1"),
            ("io.max", "8:1 rbps=2"),
        ],
    ),
]


def _expect(found: Planned, wanted: list[tuple[str, ...]] | str) -> None:
    if isinstance(wanted, str):
        assert list(found.refused) == wanted.split()
        assert all(found.refused.values())
    else:
        assert found.refused == {}
        assert writes(found) == wanted


@pytest.mark.parametrize(("resources", "v1", "v2"), CASES, ids=[str(c[0])[:60] for c in CASES])
def test_version_1_gets_these_writes(
    resources: dict[str, Any], v1: list[tuple[str, ...]] | str, v2: object, old: Machine
) -> None:
    _expect(planned(resources, old), v1)


@pytest.mark.parametrize(("resources", "v1", "v2"), CASES, ids=[str(c[0])[:60] for c in CASES])
def test_version_2_gets_these_writes(
    resources: dict[str, Any], v1: object, v2: list[tuple[str, ...]] | str, new: Machine
) -> None:
    _expect(planned(resources, new), v2)


def test_every_field_of_the_resources_has_a_case() -> None:
    """One that is decoded and then forgotten would be a limit that silently isn't there."""

    def names(part: type, prefix: str) -> set[str]:
        found = set()
        for name, kind in zip(part.__struct_encode_fields__, part.__struct_fields__, strict=True):  # type: ignore[attr-defined]  # a struct's
            del kind
            found.add(prefix + name)
        return found

    parts = {name: set[str]() for name in names(Resources, "")}
    for resources, *_ in CASES:
        for name, value in resources.items():
            parts[name] |= set(value) if isinstance(value, dict) else {""}
    assert {name for name, found in parts.items() if not found} == {
        "devices"
    }  # have their own tests
    from asyncrt.oci import config

    for name, kind in (
        ("memory", config.MemoryLimits),
        ("cpu", config.CpuLimits),
        ("pids", config.PidsLimit),
        ("blockIO", config.BlockIo),
        ("network", config.NetworkLimits),
    ):
        assert names(kind, "") == parts[name]


def test_usual_shares_are_a_usual_weight() -> None:
    """The line that runc drew before made 39 of them, and 1 of a tenth of a processor."""
    known = {1: 1, 2: 1, 102: 17, 256: 35, 1024: 100, 2048: 174, 262143: 10000, 262144: 10000}
    assert {shares: weight_of_shares(shares) for shares in known} == known
    weights = [weight_of_shares(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights)
    assert (io_weight(10), io_weight(1000)) == (1, 10000)


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"memory": {"limit": -2}}, "memory.limit"),
    ({"memory": {"limit": 2**63}}, "memory.limit"),
    ({"memory": {"limit": "1G"}}, "memory.limit"),
    ({"memory": {"swappiness": 101}}, "memory.swappiness"),
    ({"memory": {"swap": 5}}, "memory.swap"),
    ({"memory": {"limit": 6, "swap": 5}}, "memory.swap"),
    ({"memory": {"limit": -1, "swap": 5}}, "memory.swap"),
    ({"cpu": {"shares": 1}}, "cpu.shares"),
    ({"cpu": {"shares": 262145}}, "cpu.shares"),
    ({"cpu": {"quota": 999}}, "cpu.quota"),
    ({"cpu": {"period": 999}}, "cpu.period"),
    ({"cpu": {"period": 1000001}}, "cpu.period"),
    ({"cpu": {"burst": 5}}, "cpu.burst"),
    ({"cpu": {"quota": 2000, "burst": 2001}}, "cpu.burst"),
    ({"cpu": {"realtimeRuntime": 6, "realtimePeriod": 5}}, "cpu.realtimeRuntime"),
    ({"cpu": {"idle": 2}}, "cpu.idle"),
    ({"cpu": {"cpus": "0-"}}, "cpu.cpus"),
    ({"cpu": {"cpus": "3-1"}}, "cpu.cpus"),
    ({"cpu": {"cpus": "0\n"}}, "cpu.cpus"),
    ({"cpu": {"mems": "x"}}, "cpu.mems"),
    ({"pids": {"limit": -2}}, "pids.limit"),
    ({"blockIO": {"weight": 9}}, "blockIO.weight"),
    ({"blockIO": {"weight": 1001}}, "blockIO.weight"),
    (
        {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 1}]}},
        "blockIO.weightDevice[0].weight",
    ),
    (
        {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": -1}]}},
        "blockIO.throttleReadBpsDevice[0].rate",
    ),
    ({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}, "hugepageLimits[0].pageSize"),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}] * 2}, "hugepageLimits[1].pageSize"),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 2**64}]}, "hugepageLimits[0].limit"),
    ({"network": {"classID": 2**32}}, "network.classID"),
    ({"network": {"priorities": [{"name": "a b", "priority": 1}]}}, "network.priorities[0].name"),
    ({"rdma": {"a b": {"hcaHandles": 1}}}, "rdma"),
    ({"unified": {"../memory.max": "1"}}, 'unified["../memory.max"]'),
    # These act on processes: the last would move any of the machine's into the container.
    ({"unified": {"cgroup.kill": "1"}}, 'unified["cgroup.kill"]'),
    ({"unified": {"cgroup.freeze": "1"}}, 'unified["cgroup.freeze"]'),
    ({"unified": {"cgroup.procs": "1"}}, 'unified["cgroup.procs"]'),
    ({"devices": [{"allow": True, "type": "p"}]}, "devices[0].type"),
    ({"devices": [{"allow": True, "access": "rx"}]}, "devices[0].access"),
    ({"devices": [{"allow": True, "type": "c", "major": -2}]}, "devices[0].major"),
    ({"devices": [{"allow": True, "type": "c", "minor": 2**32}]}, "devices[0].minor"),
]


@pytest.mark.parametrize(("resources", "where"), INVALID, ids=[str(each[0]) for each in INVALID])
def test_a_limit_out_of_range_is_refused_by_its_path(resources: dict[str, Any], where: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        linux_of({"resources": resources})
    assert caught.value.json_path == f"linux.resources.{where}"
    assert "\n" not in str(caught.value)


def test_a_processor_that_is_not_there_is_refused(old: Machine) -> None:
    found = planned({"cpu": {"cpus": "0,4"}}, old)
    assert found.refused == {"linux.resources.cpu.cpus": "there is no 4 in 0-3"}


def test_what_a_kernel_was_built_without_is_refused(tmp_path: Path) -> None:
    bare = make_machine(tmp_path, V1)
    found = planned({"memory": {"limit": 9, "swap": 9}, "cpu": {"burst": 0, "idle": 1}}, bare)
    assert list(found.refused) == [
        "linux.resources.memory.swap",
        "linux.resources.cpu.burst",
        "linux.resources.cpu.idle",
    ]


def test_a_controller_that_no_hierarchy_has_is_named(tmp_path: Path) -> None:
    found = planned({"memory": {"limit": 9}, "pids": {"limit": 3}}, make_machine(tmp_path, "pids"))
    reason = "no cgroup hierarchy here has the memory controller"
    assert found.refused == {"linux.resources.memory.limit": reason}


def test_on_a_hybrid_machine_each_limit_goes_to_who_holds_its_controller(tmp_path: Path) -> None:
    hybrid = make_machine(tmp_path, "memory freezer", v2="pids")
    found = planned(
        {"memory": {"limit": 9}, "pids": {"limit": 3}, "unified": {"memory.high": "1"}}, hybrid
    )
    assert list(found.refused) == ['linux.resources.unified["memory.high"]']
    assert found.plan is not None
    assert [each["path"] for each in found.plan["places"]] == [
        f"{tmp_path}/unified/pod/web",  # where it is frozen and killed comes first
        f"{tmp_path}/memory/pod/web",
    ]
    assert [path for _, [(path, _)] in found.plan["writes"]] == [
        f"{tmp_path}/memory/pod/web/memory.limit_in_bytes",
        f"{tmp_path}/unified/pod/web/pids.max",
    ]
    assert found.plan["places"][0]["enable"] == {"pids": "linux.resources.pids.limit"}


def test_a_cgroup_with_processes_can_hand_no_controller_down(tmp_path: Path) -> None:
    """cgroup-v2.rst, "No Internal Process Constraint"; who is there is never moved away."""
    machine = make_machine(tmp_path, v2="pids", own="/session", held="")
    (tmp_path / "unified/cgroup.subtree_control").write_text("pids")
    linux = linux_of({"resources": {"pids": {"limit": 3}}, "cgroupsPath": "/session/web"})
    found = plan_cgroup(linux, name="web", wanted=True, machine=machine)
    assert found.refused == {
        "linux.resources.pids.limit": f"{tmp_path}/unified/session hands no pids controller down "
        "and can't while it has processes"
    }


def test_below_a_cgroup_with_processes_version_2_nests_beside_not_inside(tmp_path: Path) -> None:
    machine = make_machine(tmp_path, "memory", v2="pids", own="/session")
    found = plan_cgroup(None, name="asyncrt-web", wanted=True, machine=machine)
    assert found.plan is not None
    assert [each["path"] for each in found.plan["places"]] == [
        f"{tmp_path}/unified/asyncrt-web",
        f"{tmp_path}/memory/session/asyncrt-web",
    ]


@pytest.mark.parametrize(
    ("path", "version_1", "version_2"),
    [
        ("/pod/web", "/pod/web", "/pod/web"),
        ("//pod/./web/", "/pod/web", "/pod/web"),
        ("pod/web", "/session/pod/web", "/pod/web"),
        (None, "/session/name", "/name"),
        ("", "/session/name", "/name"),
    ],
)
def test_where_a_path_leads(
    path: str | None, version_1: str, version_2: str, tmp_path: Path
) -> None:
    machine = make_machine(tmp_path, "memory", v2="pids", own="/session")
    linux = linux_of({"cgroupsPath": path})
    found = plan_cgroup(linux, name="name", wanted=True, machine=machine)
    assert found.plan is not None
    assert [each["path"] for each in found.plan["places"]] == [
        f"{tmp_path}/unified{version_2}",
        f"{tmp_path}/memory{version_1}",
    ]


@pytest.mark.parametrize("path", ["/../x", "a/../../b", "/a\nb", "/" + "x" * 256])
def test_a_path_that_leads_elsewhere_is_invalid(path: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        linux_of({"cgroupsPath": path})
    assert caught.value.json_path == "linux.cgroupsPath"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("system.slice:runc:web", "asyncrt makes no systemd scopes; give a path like /pods/web"),
        ("::web", "asyncrt makes no systemd scopes; give a path like /pods/web"),
        ("/", "the root of all cgroups is nobody's own"),
        ("//./", "the root of all cgroups is nobody's own"),
    ],
)
def test_a_path_of_another_kind_is_refused_in_one_line(path: str, why: str, new: Machine) -> None:
    linux = linux_of({"cgroupsPath": path})
    found = plan_cgroup(linux, name="web", wanted=True, machine=new)
    assert found == Planned(None, {"linux.cgroupsPath": why})


def test_without_any_cgroups_what_needs_one_is_refused_and_the_rest_goes_without() -> None:
    nothing = Machine({}, None)
    assert plan_cgroup(None, name="web", wanted=False, machine=nothing) == Planned(None, {})
    found = plan_cgroup(linux_of({"cgroupsPath": "/x"}), name="web", wanted=True, machine=nothing)
    assert found.refused == {"linux.cgroupsPath": "there is no cgroup hierarchy here"}
    found = plan_cgroup(None, name="web", wanted=False, guard_devices=True, machine=nothing)
    assert found == Planned(None, {})
