"""What a config's resources must be, whatever the machine: one function per part.

The ranges are the kernel's own, from cgroup-v1/*.rst and cgroup-v2.rst, so that a limit that no kernel
takes, or that it would quietly change to another, is refused by name before anything is made.
"""

from __future__ import annotations

import re

from asyncrt.errors import SpecInvalid
from asyncrt.oci._why import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncrt.oci.config import (
        BlockIo,
        CpuLimits,
        DeviceRule,
        HugepageLimit,
        Linux,
        MemoryLimits,
        NetworkLimits,
        Resources,
    )

AT = "linux.resources"

SHARES = (2, 262144)
PERIOD = (1000, 1_000_000)
LEAST_QUOTA = 1000
_LEAST_WEIGHT = 10
_LARGEST_NUMBER = 2**32 - 1  # of a device
_LONGEST_NAME = 255
_LIST = re.compile(
    r"[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*"
)  # cpuset(7), list format
_PAGE_SIZE = re.compile(r"[1-9][0-9]*[KMG]B")
_FILE = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)+")
_ACCESS = frozenset("rwm")
_TYPES = {None, "", "a", "b", "c", "u"}
# What else begins with "cgroup." isn't a limit: it moves, freezes or kills processes.
_CORE_LIMITS = {"cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"}


def check_cgroup(linux: Linux) -> None:
    """Raise SpecInvalid for the first fault in the cgroup's path or its resources."""
    if linux.cgroups_path:
        for name in linux.cgroups_path.split("/"):
            if name == ".." or "\n" in name or len(name.encode(errors="replace")) > _LONGEST_NAME:
                _fail("linux.cgroupsPath", f"{name!r} can't be the name of a cgroup")
    if linux.resources is not None:
        _check(linux.resources)


def _fail(at: str, why: str) -> None:
    raise SpecInvalid(json_path=at, why=why)


def _check(resources: Resources) -> None:
    for index, rule in enumerate(resources.devices or ()):
        _check_device(rule, f"{AT}.devices[{index}]")
    if resources.memory is not None:
        _check_memory(resources.memory)
    if resources.cpu is not None:
        _check_cpu(resources.cpu)
    if resources.block_io is not None:
        _check_block_io(resources.block_io)
    _check_hugepages(resources.hugepage_limits or ())
    if resources.network is not None:
        _check_network(resources.network)
    for name in resources.rdma or ():
        if not name or any(each.isspace() for each in name):
            _fail(f"{AT}.rdma", f"{name!r} can't be the name of a device")
    _check_unified(resources.unified or {})


def _check_device(rule: DeviceRule, at: str) -> None:
    if rule.type not in _TYPES:
        _fail(f"{at}.type", f"{rule.type!r} is none of a, b, c, u")
    if not _ACCESS.issuperset(rule.access or ""):
        _fail(f"{at}.access", f"{rule.access!r} has more than r, w and m")
    for name, value in (("major", rule.major), ("minor", rule.minor)):
        if value is not None and not -1 <= value <= _LARGEST_NUMBER:
            _fail(f"{at}.{name}", f"{value} is no number of a device; -1 stands for any")


def _check_memory(memory: MemoryLimits) -> None:
    if memory.swap is None or memory.swap <= 0:
        return
    at = f"{AT}.memory.swap"
    if memory.limit is None or memory.limit <= 0:
        _fail(at, "is for memory and swap together, and so needs a limit of the memory")
    elif memory.swap < memory.limit:
        _fail(
            at, f"{memory.swap} is below the limit of the memory, {memory.limit}; it includes that"
        )


def _check_cpu(cpu: CpuLimits) -> None:
    at = f"{AT}.cpu"
    if cpu.shares and not SHARES[0] <= cpu.shares <= SHARES[1]:
        _fail(f"{at}.shares", f"{cpu.shares} isn't between {SHARES[0]} and {SHARES[1]}")
    if cpu.period and not PERIOD[0] <= cpu.period <= PERIOD[1]:
        _fail(
            f"{at}.period", f"{cpu.period} isn't between {PERIOD[0]} and {PERIOD[1]} microseconds"
        )
    if cpu.quota is not None and 0 < cpu.quota < LEAST_QUOTA:
        _fail(f"{at}.quota", f"{cpu.quota} is below {LEAST_QUOTA} microseconds; -1 is no limit")
    if cpu.burst and cpu.burst > max(cpu.quota or 0, 0):
        _fail(f"{at}.burst", f"{cpu.burst} is above the quota")
    if cpu.realtime_runtime and cpu.realtime_period and cpu.realtime_runtime > cpu.realtime_period:
        _fail(f"{at}.realtimeRuntime", f"{cpu.realtime_runtime} is above the period")
    for name, value in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if value:
            parse_list(value, f"{at}.{name}")


def parse_list(text: str, at: str) -> frozenset[int]:
    """The numbers of a list like 0-3,5. Raises SpecInvalid."""
    if not _LIST.fullmatch(text):
        _fail(at, f"{text!r} is no list like 0-3,5")
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            _fail(at, f"{part!r} goes down")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _check_block_io(block_io: BlockIo) -> None:
    at = f"{AT}.blockIO"
    weights = [("weight", block_io.weight), ("leafWeight", block_io.leaf_weight)]
    for index, each in enumerate(block_io.weight_device or ()):
        place = f"weightDevice[{index}]"
        weights += [(f"{place}.weight", each.weight), (f"{place}.leafWeight", each.leaf_weight)]
    for name, weight in weights:
        if weight and weight < _LEAST_WEIGHT:
            _fail(f"{at}.{name}", f"{weight} isn't between {_LEAST_WEIGHT} and 1000")


def _check_hugepages(limits: Sequence[HugepageLimit]) -> None:
    seen: set[str] = set()
    for index, each in enumerate(limits):
        at = f"{AT}.hugepageLimits[{index}]"
        if not _PAGE_SIZE.fullmatch(each.page_size):
            _fail(f"{at}.pageSize", f"{each.page_size!r} is no size like 2MB")
        if each.page_size in seen:
            _fail(f"{at}.pageSize", f"{each.page_size} is given twice")
        seen.add(each.page_size)
        if each.limit >= 2**64:
            _fail(f"{at}.limit", f"expected an integer of at most {2**64 - 1}")


def _check_network(network: NetworkLimits) -> None:
    seen: set[str] = set()
    for index, each in enumerate(network.priorities or ()):
        at = f"{AT}.network.priorities[{index}].name"
        if not each.name or any(letter.isspace() for letter in each.name):
            _fail(at, f"{each.name!r} can't be the name of an interface")
        if each.name in seen:
            _fail(at, f"{each.name} is given twice")
        seen.add(each.name)


def _check_unified(unified: Mapping[str, str]) -> None:
    for name in unified:
        at = child(f"{AT}.unified", name)
        if not _FILE.fullmatch(name):
            _fail(at, "is no name of a file like memory.high")
        if name.startswith("cgroup.") and name not in _CORE_LIMITS:
            _fail(at, "is no limit: it acts on processes")
