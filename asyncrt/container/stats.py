"""stats: what a container's processes use now; psutil and its cgroups have the facts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from asyncrt import _procid
from asyncrt import status as statuses
from asyncrt._threads import run_blocking
from asyncrt.container import cgroup, tree
from asyncrt.container.context import refuse_foreign
from asyncrt.container.usage import CgroupStats, read_usage

if TYPE_CHECKING:
    import psutil

    from asyncrt.container.context import Context
    from asyncrt.ids import ContainerId
    from asyncrt.state import Record

_LOOKS = 3


class Stats(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What all processes of a container use, at one moment.

    The cpu seconds and the bytes read from and written to storage count since the container began,
    those of ended processes included, as far as their parents waited for them (the cpu seconds of all,
    where a cgroup counts them). `rss_bytes` is memory held, in which what processes share counts for
    each. The bytes are None where the kernel doesn't tell this user. `cgroup` is what the container's
    cgroups count, its limits among it; None without one. `time` is aware and in UTC.
    """

    id: str
    instance: str
    time: datetime
    pids: int
    threads: int
    user_seconds: float
    system_seconds: float
    rss_bytes: int
    read_bytes: int | None
    write_bytes: int | None
    cgroup: CgroupStats | None

    @property
    def cpu_seconds(self) -> float:
        """User and system time together."""
        return self.user_seconds + self.system_seconds


async def stats(
    context: Context, container_id: ContainerId, instance: str, operation: str = "stats"
) -> Stats:
    """What its processes use now. Raises InvalidTransition when stopped.

    If cancelled, nothing has changed.
    """
    record, observed = await context.look(container_id, instance)
    statuses.require(container_id, operation, observed.status)
    refuse_foreign(record, operation)
    return await run_blocking(measure, record, context.root)


def measure(record: Record, root: str) -> Stats:
    """Add up what the container's processes use; blocks for reads of /proc and of its cgroups.

    A process that ends is counted by its parent from then on. So that it isn't missed in between, all
    are looked at again when one was gone by the time it was its turn.
    """
    for _ in range(_LOOKS - 1):
        found, complete = _measure(record, root)
        if complete:
            return found
    return _measure(record, root)[0]


class _Sum:
    """A sum over processes, with what they waited for."""

    def __init__(self) -> None:
        self.pids = self.threads = self.rss = 0
        self.user = self.system = 0.0
        self.read: int | None = 0
        self.write: int | None = 0

    def add(self, process: psutil.Process, *, above: bool) -> None:
        """Add one; of the one `above` them all, what it waited for only."""
        import psutil

        with process.oneshot():
            times = process.cpu_times()
            self.user += times.children_user
            self.system += times.children_system
            if not above:
                self.pids += 1
                self.threads += process.num_threads()
                self.user += times.user
                self.system += times.system
                self.rss += process.memory_info().rss
        try:
            # Of its own a supervisor reads and writes next to nothing.
            io = process.io_counters()
        except psutil.ZombieProcess:
            return
        except psutil.AccessDenied:
            self.read = self.write = None
        else:
            if self.read is not None and self.write is not None:
                self.read += io.read_bytes
                self.write += io.write_bytes


def _measure(record: Record, root: str) -> tuple[Stats, bool]:
    import psutil

    total = _Sum()
    complete = True
    supervisor = record.supervisor
    pids = tree.members(record, root)
    if tree.is_shared(record, root):
        supervisor = None  # what it has waited for may have been another's
    if supervisor is not None and _procid.alive(supervisor):
        pids.insert(0, supervisor.pid)
    for pid in pids:
        try:
            total.add(psutil.Process(pid), above=supervisor is not None and pid == supervisor.pid)
        except psutil.NoSuchProcess:
            complete = False
    usage = read_usage(cgroup.there(record))
    cpu = None if usage is None else usage.cpu
    if cpu is not None and cpu.user_seconds is not None and cpu.system_seconds is not None:
        total.user, total.system = cpu.user_seconds, cpu.system_seconds
    return (
        Stats(
            id=record.id,
            instance=record.instance,
            time=datetime.now(UTC),
            pids=total.pids,
            threads=total.threads,
            user_seconds=total.user,
            system_seconds=total.system,
            rss_bytes=total.rss,
            read_bytes=total.read,
            write_bytes=total.write,
            cgroup=usage,
        ),
        complete,
    )
