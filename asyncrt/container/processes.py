"""ps: what runs in a container. The facts come from psutil."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from asyncrt.container import tree
from asyncrt.container.users import user_name

if TYPE_CHECKING:
    from asyncrt.state import Record


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One process at one moment. `cpu_seconds` is user and system time, `rss_bytes` memory held."""

    pid: int
    ppid: int
    uid: int
    user: str
    started_at: datetime
    cpu_seconds: float
    rss_bytes: int
    state: str
    command: list[str]


def list_processes(record: Record, root: str) -> list[ProcessInfo]:
    """The container's processes, init first; blocks for reads of /proc."""
    import psutil

    found = []
    for pid in tree.members(record, root):
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                cpu = process.cpu_times()
                found.append(
                    ProcessInfo(
                        pid=pid,
                        ppid=process.ppid(),
                        uid=process.uids().effective,
                        user=user_name(process.uids().effective),
                        started_at=datetime.fromtimestamp(process.create_time(), UTC),
                        cpu_seconds=cpu.user + cpu.system,
                        rss_bytes=process.memory_info().rss,
                        state=process.status(),
                        command=process.cmdline() or [f"[{process.name()}]"],
                    )
                )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended while we looked
    return found
