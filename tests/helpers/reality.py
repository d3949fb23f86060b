"""What the kernel says of a root's containers: a second witness that reads no record of ours.

Workloads carry a mark in their environment, and every stray process of a test descends from the
test, which is a sub-reaper. Nothing here uses the product's own way of looking at processes.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from tests.helpers import reaping
from tests.helpers.processes import wait_until
from tests.helpers.records import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MARK = "ASYNCRT_TEST_MARK"
ROLE = "ASYNCRT_TEST_ROLE"

# Names of our own processes. Of those that wait for a request only the lowest has one of its own.
_SPARE = "asyncrt:spare"
_SUPERVISOR = "asyncrt:super"


class Seen(NamedTuple):
    """One living process."""

    pid: int
    ppid: int
    comm: str
    state: str
    mark: str
    role: str


def marking(mark: str, role: str = "init") -> dict[str, str]:
    """The environment that lets a workload be found again."""
    return {MARK: mark, ROLE: role}


def look(pid: int) -> Seen | None:
    """That process now; None when it has ended (a zombie has)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        return None  # another user's, so none of ours
    comm, _, rest = stat.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    state = fields[0].decode()
    if state in "ZX":
        return None
    values = dict(each.partition(b"=")[::2] for each in environ.split(b"\0") if b"=" in each)
    return Seen(
        pid,
        int(fields[1]),
        comm.decode(errors="replace"),
        state,
        values.get(MARK.encode(), b"").decode(),
        values.get(ROLE.encode(), b"").decode(),
    )


def everything() -> list[Seen]:
    """All living processes that can be seen."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [seen for pid in pids if (seen := look(pid)) is not None]


def below(top: int | None = None) -> list[Seen]:
    """All living processes that descend from `top`, by default from this one."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            children.setdefault(_parent(name), []).append(int(name))
    found: list[Seen] = []
    queue = [os.getpid() if top is None else top]
    while queue:
        for pid in children.get(queue.pop(), []):
            seen = look(pid)
            if seen is not None:
                found.append(seen)
                queue.append(pid)
    return found


def _parent(name: str) -> int:
    """Of the process with that name in /proc; 0 of one that has gone. Much cheaper than a look."""
    try:
        fd = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 4096).rpartition(b")")[2].split(None, 2)[1])
    except ProcessLookupError:
        return 0
    finally:
        os.close(fd)


def spares(seen: Iterable[Seen]) -> set[int]:
    """Those that belong to an engine and not to a container: what waits for the next request.

    That is an init to be, the supervisor to be above it, and the fork server above that.
    """
    by_pid = {each.pid: each for each in seen}
    found = set()
    for each in by_pid.values():
        if each.comm == _SPARE:
            found.add(each.pid)
            above = by_pid.get(each.ppid)
            while above is not None and above.comm == _SUPERVISOR:
                found.add(above.pid)
                above = by_pid.get(above.ppid)
    return found


def containers_processes() -> list[Seen]:
    """What certainly belongs to a container or a hook: inits at their gates, workloads."""
    names = {"asyncrt:gate", "asyncrt:hook", "asyncrt:oneshot"}
    return [each for each in below() if each.comm in names or each.mark]


def strays() -> list[Seen]:
    """All that descends from here and isn't kept ready by an engine."""
    seen = below()
    ready = spares(seen)
    return [each for each in seen if each.pid not in ready]


def marked(marks: Iterable[str]) -> list[Seen]:
    """Living workload processes of these marks; of this test run, not of another one beside it."""
    return [each for each in below() if each.mark in marks]


def locked_files(root: str) -> list[str]:
    """Names below the root that somebody holds a flock on, from /proc/locks."""
    inodes = {}
    for name in os.listdir(root):
        with contextlib.suppress(FileNotFoundError):
            found = os.lstat(os.path.join(root, name))
            device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
            inodes[f"{device}:{found.st_ino}"] = name
    with open("/proc/locks") as file:
        lines = [line.split() for line in file]
    held = {line[5] for line in lines if len(line) > 5 and line[1] == "FLOCK"}
    return sorted(name for inode, name in inodes.items() if inode in held)


def files(root: str) -> set[str]:
    """Every name below the root that belongs to a container; inside of directories DIRECTORY/NAME."""
    found = set()
    for name in names(root):
        found.add(name)
        with contextlib.suppress(NotADirectoryError, FileNotFoundError):
            found |= {f"{name}/{each}" for each in os.listdir(os.path.join(root, name))}
    return found


def settles(wrong: Callable[[], object], *, seconds: float = 10.0) -> object:
    """What is `wrong`, as soon as it is nothing, or when the time is up.

    For what the kernel or a dying process does by itself and announces to nobody here.
    """

    def fine() -> bool:
        reaping.reap_orphans()
        return not wrong()

    with contextlib.suppress(TimeoutError):
        wait_until(fine, "reality agrees", timeout=seconds)
        return None
    return wrong()
