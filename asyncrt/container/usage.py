"""What a container's cgroups count, under the same names for both versions. Blocking.

Each figure is read from the file that has it, in whichever of the container's cgroups that is: on a
hybrid machine version 2 may count processor time and version 1 memory. What nobody counts is None.
Sources: cgroup-v2.rst, cgroup-v1/{memory,cpuacct,blkio-controller,hugetlb,pids}.rst, psi.rst.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import msgspec

from asyncrt import _cgroups

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNLIMITED = 1 << 62  # version 1 has the largest number of pages there can be
_TICKS = os.sysconf("SC_CLK_TCK")
_HUGETLB = re.compile(r"hugetlb\.([0-9]+[KMG]B)\.(?:current|usage_in_bytes)")


class CpuUse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Processor time, of ended processes too.

    With a quota there are `periods`; in `throttled_periods` of these it was used up and the container
    stood still, for `throttled_seconds` in all.
    """

    user_seconds: float | None
    system_seconds: float | None
    periods: int | None
    throttled_periods: int | None
    throttled_seconds: float | None


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Memory: all that is charged to the container, of which `anonymous_bytes` and `cache_bytes`.

    A limit is None where there is none. `swap_bytes` and its limit are of swap alone.
    `limit_hits` is how often it was at its limit, `oom_kills` how many processes were killed for it.
    """

    usage_bytes: int
    limit_bytes: int | None
    peak_bytes: int | None
    anonymous_bytes: int | None
    cache_bytes: int | None
    swap_bytes: int | None
    swap_limit_bytes: int | None
    limit_hits: int | None
    oom_kills: int | None


class PidsUse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Processes and threads together, and how many there may be."""

    current: int
    limit: int | None


class IoUse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What went from and to one block device, named by major:minor."""

    device: str
    read_bytes: int
    write_bytes: int
    read_operations: int
    write_operations: int


class HugepageUse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Huge pages of one size. `limit_hits` is how often there were no more to be had."""

    page_size: str
    usage_bytes: int
    limit_bytes: int | None
    limit_hits: int | None


class Stalled(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Time spent waiting: in all, and in percent of the last 10, 60 and 300 seconds."""

    total_seconds: float
    avg10: float
    avg60: float
    avg300: float


class Pressure(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How long `some` processes waited for a resource, and how long all did at once (`full`)."""

    some: Stalled
    full: Stalled | None


class CgroupStats(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a container's cgroups count, at one moment. What nobody counts is None or empty.

    `pressure` is told by version 2 only, by resource: cpu, memory, io.
    """

    cpu: CpuUse | None
    memory: MemoryUse | None
    pids: PidsUse | None
    io: tuple[IoUse, ...]
    hugepages: tuple[HugepageUse, ...]
    pressure: dict[str, Pressure]


class _Files:
    """The files of some cgroups by name; the first that has one counts."""

    def __init__(self, places: Iterable[str]) -> None:
        self.places: list[str] = []
        self.names: dict[str, str] = {}
        for place in places:
            try:
                names = os.listdir(place)
            except OSError:
                continue  # it has gone
            self.places.append(place)
            for name in names:
                self.names.setdefault(name, place)

    def text(self, *names: str) -> str:
        """What is in the first of these files that there is; "" without any."""
        for name in names:
            if name in self.names:
                return _cgroups.read(f"{self.names[name]}/{name}").decode()
        return ""

    def number(self, *names: str) -> int | None:
        """The number in it; None also for one without limit."""
        text = self.text(*names).strip()
        if not text.isdecimal():
            return None
        return int(text) if int(text) < _UNLIMITED else None

    def table(self, *names: str) -> dict[str, int]:
        """Lines of a word and a number."""
        return _table(self.text(*names))


def _table(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {each[0]: int(each[1]) for each in pairs if len(each) == 2 and each[1].isdecimal()}


def read_usage(places: Iterable[str]) -> CgroupStats | None:
    """What these cgroups, all of one container, count; None without any."""
    files = _Files(places)
    if not files.places:
        return None
    return CgroupStats(
        cpu=_cpu(files),
        memory=_memory(files),
        pids=_pids(files),
        io=_io(files),
        hugepages=_hugepages(files),
        pressure=_pressure(files),
    )


def _cpu(files: _Files) -> CpuUse | None:
    found: dict[str, int] = {}
    for place in files.places:  # the time may be counted in one, the periods in another
        found |= _table(_cgroups.read(f"{place}/cpu.stat").decode())
    ticks = files.table("cpuacct.stat")
    if not found and not ticks:
        return None
    return CpuUse(
        user_seconds=_seconds(found.get("user_usec"), 1e6, ticks.get("user")),
        system_seconds=_seconds(found.get("system_usec"), 1e6, ticks.get("system")),
        periods=found.get("nr_periods"),
        throttled_periods=found.get("nr_throttled"),
        throttled_seconds=_seconds(
            found.get("throttled_usec", found.get("throttled_time")),
            1e6 if "throttled_usec" in found else 1e9,
        ),
    )


def _seconds(count: int | None, per_second: float, ticks: int | None = None) -> float | None:
    if count is not None:
        return count / per_second
    return None if ticks is None else ticks / _TICKS


def _memory(files: _Files) -> MemoryUse | None:
    usage = files.number("memory.current", "memory.usage_in_bytes")
    if usage is None:
        return None
    parts = files.table("memory.stat")
    hits, kills = files.table("memory.events"), files.table("memory.oom_control")
    limit = files.number("memory.max", "memory.limit_in_bytes")
    swap_limit = files.number("memory.swap.max")
    both = files.number("memory.memsw.limit_in_bytes")
    if both is not None and limit is not None:
        swap_limit = both - limit
    return MemoryUse(
        usage_bytes=usage,
        limit_bytes=limit,
        peak_bytes=files.number("memory.peak", "memory.max_usage_in_bytes"),
        anonymous_bytes=parts.get("anon", parts.get("total_rss")),
        cache_bytes=parts.get("file", parts.get("total_cache")),
        swap_bytes=files.number("memory.swap.current")
        if "memory.swap.current" in files.names
        else parts.get("total_swap"),
        swap_limit_bytes=swap_limit,
        limit_hits=hits["max"] if "max" in hits else files.number("memory.failcnt"),
        oom_kills=hits.get("oom_kill", kills.get("oom_kill")),
    )


def _pids(files: _Files) -> PidsUse | None:
    current = files.number("pids.current")
    return None if current is None else PidsUse(current=current, limit=files.number("pids.max"))


def _io(files: _Files) -> tuple[IoUse, ...]:
    found: dict[str, dict[str, int]] = {}
    for line in files.text("io.stat").splitlines():
        device, *rest = line.split()
        counts = (each.partition("=") for each in rest)
        found[device] = {key: int(value) for key, _, value in counts if value.isdecimal()}
    for name, kind in (("service_bytes", "bytes"), ("serviced", "ios")):
        # The one that counts cgroups below it too is newer.
        file = f"blkio.throttle.io_{name}"
        for line in files.text(f"{file}_recursive", file).splitlines():
            device, *rest = line.split()
            if len(rest) == 2 and rest[0] in {"Read", "Write"}:
                found.setdefault(device, {})[f"{rest[0][0].lower()}{kind}"] = int(rest[1])
    return tuple(
        IoUse(
            device=device,
            read_bytes=counts.get("rbytes", 0),
            write_bytes=counts.get("wbytes", 0),
            read_operations=counts.get("rios", 0),
            write_operations=counts.get("wios", 0),
        )
        for device, counts in sorted(found.items())
        if any(counts.values())
    )


def _hugepages(files: _Files) -> tuple[HugepageUse, ...]:
    sizes = {match[1] for match in map(_HUGETLB.fullmatch, files.names) if match is not None}
    found = []
    for size in sorted(sizes):
        usage = files.number(f"hugetlb.{size}.current", f"hugetlb.{size}.usage_in_bytes")
        hits = files.table(f"hugetlb.{size}.events").get("max")
        if usage is not None:
            found.append(
                HugepageUse(
                    page_size=size,
                    usage_bytes=usage,
                    limit_bytes=files.number(
                        f"hugetlb.{size}.max", f"hugetlb.{size}.limit_in_bytes"
                    ),
                    limit_hits=files.number(f"hugetlb.{size}.failcnt") if hits is None else hits,
                )
            )
    return tuple(found)


def _pressure(files: _Files) -> dict[str, Pressure]:
    found = {}
    for resource in ("cpu", "memory", "io"):
        told: dict[str, Stalled] = {}
        for line in files.text(f"{resource}.pressure").splitlines():
            kind, *rest = line.split()
            values = dict(each.split("=", 1) for each in rest)
            told[kind] = Stalled(
                total_seconds=int(values["total"]) / 1e6,
                avg10=float(values["avg10"]),
                avg60=float(values["avg60"]),
                avg300=float(values["avg300"]),
            )
        if "some" in told:
            found[resource] = Pressure(some=told["some"], full=told.get("full"))
    return found
