"""The processes below one process, and signals to all of them, where no cgroup knows them.

A tree read from /proc is a moving target: a process may fork between the look and the signal. So
whoever needs all of it stops or kills what is there and looks again until nothing new appears.
"""

from __future__ import annotations

import contextlib
import os
import time

from asyncrt import _csignal, _procid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_MOVING = ("R", "S", "D")  # states in proc(5) of a thread that hasn't taken its SIGSTOP yet
_STILL_SECONDS = 0.1
_LOOK_SECONDS = 0.0005


def _table() -> dict[int, _procid.Stat]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            each = _procid.stat(int(name))
            if each is not None:
                found[int(name)] = each
    return found


def _listed_children(pid: int) -> list[int] | None:
    """Direct children by proc(5) task/TID/children; None where the kernel doesn't offer it."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for task in tasks:
        try:
            fd = os.open(f"/proc/{pid}/task/{task}/children", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if os.path.exists(f"/proc/{pid}/task/{task}/stat"):
                return None
            continue
        except OSError:
            continue
        try:
            raw = b""
            with contextlib.suppress(OSError):
                while part := os.read(fd, 65536):
                    raw += part
        finally:
            os.close(fd)
        found.extend(int(each) for each in raw.split())
    return found


def descendants(root: int, spared: Collection[int] = ()) -> list[int]:
    """Pids of all that descends from `root`, parents before children, `root` itself left out.

    So are those that are `spared`, and what is below them.
    """
    found: list[int] = []
    queue = [root]
    while queue:
        below = _listed_children(queue.pop())
        if below is None:
            return _descendants_by_table(root, spared)
        below = [each for each in below if each not in spared]
        found.extend(below)
        queue.extend(below)
    return found


def children(pid: int) -> list[int]:
    """Pids of its direct children."""
    found = _listed_children(pid)
    if found is None:
        found = [child for child, each in _table().items() if each.ppid == pid]
    return found


def _descendants_by_table(root: int, spared: Collection[int] = ()) -> list[int]:
    parents: dict[int, list[int]] = {}
    for pid, each in _table().items():
        if pid not in spared:
            parents.setdefault(each.ppid, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        children = parents.get(queue.pop(), [])
        found.extend(children)
        queue.extend(children)
    return found


def is_below(pid: int, root: int) -> bool:
    """Whether `pid` descends from `root`."""
    for _ in range(4096):
        found = _procid.stat(pid)
        if found is None or found.ppid == 0:
            return False
        if found.ppid == root:
            return True
        pid = found.ppid
    return False


def session_members(session: int, root: int) -> list[int]:
    """Descendants of `root` that belong to a session, reparented ones included."""
    found = []
    for pid in descendants(root):
        each = _procid.stat(pid)
        if each is not None and each.session == session:
            found.append(pid)
    return found


def signal_below(root: int, pids: list[int], number: int) -> None:
    """Signal each pid that still descends from `root`.

    A pid read from /proc may be reused before the signal: it is held by a pidfd while its descent
    is looked at again. One that has gone or isn't ours to signal is passed over.
    """
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if is_below(pid, root):
                _csignal.pidfd_send_signal(pidfd, number)
        except (ProcessLookupError, PermissionError):
            pass
        finally:
            os.close(pidfd)


def stop(root: int, spared: Collection[int] = ()) -> set[int]:
    """SIGSTOP all below `root` until a look finds nobody new; returns who was there."""
    seen: set[int] = set()
    while new := [pid for pid in descendants(root, spared) if pid not in seen]:
        signal_below(root, new, _csignal.SIGSTOP)
        seen.update(new)
    return seen


def pause(root: int, spared: Collection[int] = ()) -> None:
    """Stop all below `root` and wait until they stand still, as far as that can be waited for."""
    until_still(stop(root, spared))


def until_still(pids: Collection[int]) -> None:
    """Wait, bounded, until processes that were sent SIGSTOP have stopped.

    One that is in the middle of a system call ends it first, and with it a write. No event tells of
    that: it takes microseconds, or milliseconds where more processes run than there are processors.
    A parent waits in D for the exec of its vfork'd, stopped child: the bound is for these.
    """
    deadline = time.monotonic() + _STILL_SECONDS
    for pid in pids:
        while _moves(pid) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)


def _moves(pid: int) -> bool:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    found = [_procid.stat(int(each)) for each in threads]
    return any(each is not None and each.state in _MOVING for each in found)


def resume(root: int, spared: Collection[int] = ()) -> None:
    """SIGCONT all below `root`, children first so that no parent sees a stopped child."""
    signal_below(root, list(reversed(descendants(root, spared))), _csignal.SIGCONT)


def kill(root: int, spared: Collection[int] = ()) -> bool:
    """One pass of SIGKILL over all below `root`; whether there was anybody.

    The tree is stopped first, so that what forks can't outrun the pass.
    """
    stop(root, spared)
    found = descendants(root, spared)
    # Children first: those of a killed parent may go to a sub-reaper that isn't below `root`.
    signal_below(root, list(reversed(found)), _csignal.SIGKILL)
    return bool(found)
