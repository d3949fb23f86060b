"""Each field of a config's resources as the file and the value that the kernel knows it by.

The files are those of cgroup-v1/*.rst and cgroup-v2.rst. Where the two versions count differently the
value is converted as runc does, so that a limit means the same wherever a container runs.
"""

from __future__ import annotations

import math

from asyncrt.oci._why import child
from asyncrt.oci.check_resources import AT, parse_list
from asyncrt.platforms.cgroups.machine import words
from asyncrt.platforms.cgroups.settings import (
    BLOCK_IO,
    CPU,
    CPUSET,
    HUGETLB,
    MEMORY,
    NET_CLASS,
    NET_PRIORITY,
    PIDS,
    RDMA,
    Controller,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncrt.oci.config import (
        BlockIo,
        CpuLimits,
        HugepageLimit,
        MemoryLimits,
        NetworkLimits,
        PidsLimit,
        RdmaLimit,
        Resources,
        WeightDevice,
    )
    from asyncrt.platforms.cgroups.settings import Settings

_PERIOD = 100_000  # microseconds, the kernel's own


def put_limits(resources: Resources, settings: Settings) -> None:
    """Put all but the devices into the settings."""
    if resources.memory is not None:
        _memory(resources.memory, settings)
    if resources.cpu is not None:
        _cpu(resources.cpu, settings)
    if resources.pids is not None:
        _pids(resources.pids, settings)
    if resources.block_io is not None:
        _block_io(resources.block_io, settings)
    _hugepages(resources.hugepage_limits or (), settings)
    if resources.network is not None:
        _network(resources.network, settings)
    _rdma(resources.rdma or {}, settings)
    _unified(resources.unified or {}, settings)


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _memory(memory: MemoryLimits, settings: Settings) -> None:
    at = f"{AT}.memory"
    # The limit of memory and swap together can't be below that of the memory: in this order.
    if memory.limit:
        settings.put(
            f"{at}.limit",
            MEMORY,
            [("memory.limit_in_bytes", str(memory.limit))],
            [("memory.max", _or_max(memory.limit))],
        )
    if memory.swap:
        alone = memory.swap if memory.swap < 0 else memory.swap - (memory.limit or 0)
        settings.put(
            f"{at}.swap",
            MEMORY,
            [("memory.memsw.limit_in_bytes", str(memory.swap))],
            [("memory.swap.max", _or_max(alone))],
            everywhere=True,
        )
    if memory.reservation:
        settings.put(
            f"{at}.reservation",
            MEMORY,
            [("memory.soft_limit_in_bytes", str(memory.reservation))],
            [("memory.low", _or_max(memory.reservation))],
        )
    if memory.kernel_tcp:
        value = str(memory.kernel_tcp)
        v1 = [("memory.kmem.tcp.limit_in_bytes", value)]
        settings.put(f"{at}.kernelTCP", MEMORY, v1, None, everywhere=True)
    if memory.swappiness is not None:
        v1 = [("memory.swappiness", str(memory.swappiness))]
        settings.put(f"{at}.swappiness", MEMORY, v1, None)
    if memory.disable_oom_killer:
        settings.put(f"{at}.disableOOMKiller", MEMORY, [("memory.oom_control", "1")], None)
    if memory.use_hierarchy is False:
        settings.refused[f"{at}.useHierarchy"] = (
            "the kernel always counts a cgroup with its children"
        )
    # `kernel` asks for what no kernel has any more, and the specification for its being ignored.
    # `checkBeforeUpdate` is for limits that are changed: a new cgroup uses nothing yet.


def weight_of_shares(shares: int) -> int:
    """Version 1's shares (2 to 262144, usually 1024) as version 2's weight (1 to 10000, usually 100).

    A curve through the least, the usual and the greatest of both: runc 1.3.2 and crun 1.23
    (opencontainers/cgroups, ConvertCPUSharesToCgroupV2Value); before, usual shares became a weight
    of 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def _cpu(cpu: CpuLimits, settings: Settings) -> None:
    at = f"{AT}.cpu"
    if cpu.realtime_period:
        v1 = [("cpu.rt_period_us", str(cpu.realtime_period))]
        settings.put(f"{at}.realtimePeriod", CPU, v1, None, everywhere=True)
    if cpu.realtime_runtime:
        v1 = [("cpu.rt_runtime_us", str(cpu.realtime_runtime))]
        settings.put(f"{at}.realtimeRuntime", CPU, v1, None, everywhere=True)
    if cpu.shares:
        settings.put(
            f"{at}.shares",
            CPU,
            [("cpu.shares", str(cpu.shares))],
            [("cpu.weight", str(weight_of_shares(cpu.shares)))],
        )
    quota = "max" if not cpu.quota or cpu.quota < 0 else str(cpu.quota)
    both = [("cpu.max", f"{quota} {cpu.period or _PERIOD}")]
    if cpu.period:
        v1 = [("cpu.cfs_period_us", str(cpu.period))]
        settings.put(f"{at}.period", CPU, v1, both, everywhere=True)
    if cpu.quota:
        v1 = [("cpu.cfs_quota_us", str(max(cpu.quota, -1)))]
        settings.put(f"{at}.quota", CPU, v1, both, everywhere=True)
    if cpu.burst is not None:
        v1 = [("cpu.cfs_burst_us", str(cpu.burst))]
        v2 = [("cpu.max.burst", str(cpu.burst))]
        settings.put(f"{at}.burst", CPU, v1, v2, everywhere=True)
    if cpu.idle is not None:
        # After the shares: an idle cgroup takes none.
        idle = [("cpu.idle", str(cpu.idle))]
        settings.put(f"{at}.idle", CPU, idle, idle, everywhere=True)
    for name, value in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if value:
            _cpuset(f"{at}.{name}", name, value, settings)


def _cpuset(at: str, name: str, value: str, settings: Settings) -> None:
    held = settings.find(at, CPUSET)
    if held is None:
        return
    effective = f"cpuset.{name}.effective" if held.v2 else f"cpuset.effective_{name}"
    there = "".join(words(f"{held.own}/{effective}"))
    absent = sorted(parse_list(value, at) - parse_list(there, at)) if there else []
    if absent:
        settings.refused[at] = f"there is no {absent[0]} in {there}"
        return
    file = [(f"cpuset.{name}", value)]
    settings.put(at, CPUSET, file, file)


def _pids(pids: PidsLimit, settings: Settings) -> None:
    if pids.limit is not None:
        # "No limit" is what 0 says too (config-linux.md before 1.3).
        value = [("pids.max", _or_max(pids.limit or -1))]
        settings.put(f"{AT}.pids.limit", PIDS, value, value)


def io_weight(weight: int) -> int:
    """Version 1's weight of block devices (10 to 1000) as that of io.weight (1 to 10000), as runc's."""
    return 1 + (weight - 10) * 9999 // 990


def _block_io(block_io: BlockIo, settings: Settings) -> None:
    at = f"{AT}.blockIO"
    if block_io.weight:
        weight = str(block_io.weight)
        v1 = [("blkio.weight", weight), ("blkio.bfq.weight", weight)]
        v2 = [("io.bfq.weight", weight), ("io.weight", str(io_weight(block_io.weight)))]
        settings.put(f"{at}.weight", BLOCK_IO, v1, v2)
    if block_io.leaf_weight:
        v1 = [("blkio.leaf_weight", str(block_io.leaf_weight))]
        settings.put(f"{at}.leafWeight", BLOCK_IO, v1, None)
    for index, each in enumerate(block_io.weight_device or ()):
        _weight_device(f"{at}.weightDevice[{index}]", each, settings)
    for name, file, key, found in (
        ("throttleReadBpsDevice", "read_bps", "rbps", block_io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "write_bps", "wbps", block_io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "read_iops", "riops", block_io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "write_iops", "wiops", block_io.throttle_write_iops_device),
    ):
        for index, throttle in enumerate(found or ()):
            device = f"{throttle.major}:{throttle.minor}"
            v1 = [(f"blkio.throttle.{file}_device", f"{device} {throttle.rate}")]
            v2 = [("io.max", f"{device} {key}={throttle.rate or 'max'}")]
            settings.put(f"{at}.{name}[{index}]", BLOCK_IO, v1, v2)


def _weight_device(at: str, each: WeightDevice, settings: Settings) -> None:
    device = f"{each.major}:{each.minor}"
    if each.weight:
        value = f"{device} {each.weight}"
        v1 = [("blkio.weight_device", value), ("blkio.bfq.weight_device", value)]
        v2 = [("io.bfq.weight", value), ("io.weight", f"{device} {io_weight(each.weight)}")]
        settings.put(f"{at}.weight", BLOCK_IO, v1, v2)
    if each.leaf_weight:
        v1 = [("blkio.leaf_weight_device", f"{device} {each.leaf_weight}")]
        settings.put(f"{at}.leafWeight", BLOCK_IO, v1, None)


def _hugepages(limits: Sequence[HugepageLimit], settings: Settings) -> None:
    for index, each in enumerate(limits):
        name, value = f"hugetlb.{each.page_size}", str(each.limit)
        settings.put(
            f"{AT}.hugepageLimits[{index}]",
            HUGETLB,
            [(f"{name}.limit_in_bytes", value)],
            [(f"{name}.max", value)],
        )


def _network(network: NetworkLimits, settings: Settings) -> None:
    at = f"{AT}.network"
    if network.class_id is not None:
        v1 = [("net_cls.classid", str(network.class_id))]
        settings.put(f"{at}.classID", NET_CLASS, v1, None)
    for index, each in enumerate(network.priorities or ()):
        v1 = [("net_prio.ifpriomap", f"{each.name} {each.priority}")]
        settings.put(f"{at}.priorities[{index}]", NET_PRIORITY, v1, None)


def _rdma(limits: Mapping[str, RdmaLimit], settings: Settings) -> None:
    for name, each in limits.items():
        parts = [name]
        if each.hca_handles is not None:
            parts.append(f"hca_handle={each.hca_handles}")
        if each.hca_objects is not None:
            parts.append(f"hca_object={each.hca_objects}")
        if parts[1:]:
            value = [("rdma.max", " ".join(parts))]
            settings.put(child(f"{AT}.rdma", name), RDMA, value, value)


def _unified(unified: Mapping[str, str], settings: Settings) -> None:
    for name, value in unified.items():
        at = child(f"{AT}.unified", name)
        controller = name.partition(".")[0]
        if settings.machine.v2 is None:
            settings.refused[at] = "there is no cgroup v2 here"
        elif controller in settings.machine.v1:
            settings.refused[at] = f"cgroup v1 holds the {controller} controller here"
        else:
            # Files such as io.max take one line at a time.
            known = Controller(None, "" if controller == "cgroup" else controller)
            for line in value.splitlines() or [""]:
                settings.put(at, known, None, [(name, line)])
