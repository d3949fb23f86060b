"""Facts about processes, read where the kernel counts them."""

from __future__ import annotations

import resource

from asyncrt.state import list_ids, read_record


def allow_many_descriptors() -> None:
    """Raise our soft limit of open files to the hard one: hundreds of processes need that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def unique_kilobytes(pid: int) -> float:
    """Memory that would be free again if this process ended (proc(5), smaps_rollup)."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line.split(" ", 1)[0])
    return sum(float(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))


def resident_kilobytes(pid: int) -> int:
    """Memory this process has in use, shared or not."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


def cpu_seconds(pid: int) -> float:
    """Cpu used so far by a process's main thread, by the scheduler's own clock.

    /proc/PID/stat counts in ticks of 10 ms, too coarse for processes that hardly run.
    """
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e9


def supervisors(root: str) -> list[int]:
    """Pids of the supervisors of all containers under a root."""
    found = (read_record(root, each).supervisor for each in list_ids(root))
    return [each.pid for each in found if each is not None]


def helpers(pid: int, root: str) -> list[int]:
    """The fork servers of the engines in a process, and what they keep ready for the next create.

    The supervisors of the containers under `root`, and what is below those, are not among them.
    """
    servers = [each for each in _children(pid) if b"fork_server" in _command(each)]
    known = set(supervisors(root))
    ready = [each for server in servers for each in _children(server) if each not in known]
    return servers + ready + [each for spare in ready for each in _children(spare)]


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(each) for each in file.read().split()]


def _command(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()
