"""Acting on a container's processes from the engine's side, where no supervisor can be asked.

Blocking reads of /proc: callers run these in a worker thread. What is in the container's cgroup
belongs to it, and everything that descends from a living supervisor; without one, what descends from
init.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from asyncrt import _procid
from asyncrt.container import cgroup
from asyncrt.launch import tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncrt.state import Identity, Record

_ENDING_SECONDS = 5.0  # how long what was killed may take to end


def top(record: Record) -> tuple[int, bool]:
    """The pid above the container's processes, and whether it is one of them itself."""
    if record.supervisor is not None and _procid.alive(record.supervisor):
        return record.supervisor.pid, False
    return (record.init.pid if record.init is not None else 0), True


def members(record: Record) -> list[int]:
    """The pids of the container's processes, init first."""
    pid, itself = top(record)
    inside = cgroup.members(record)
    if record.init is None or not _procid.alive(record.init):
        below = [] if itself else tree.descendants(pid)
    else:
        below = [record.init.pid, *tree.descendants(pid)]
    return list(dict.fromkeys([*below, *inside]))


def belongs(record: Record, pid: int) -> bool:
    """Whether a process is the container's."""
    root, itself = top(record)
    if root > 0 and ((itself and pid == root) or tree.is_below(pid, root)):
        return True
    return pid in cgroup.members(record)


def signal_process(record: Record, pid: int, number: int) -> bool:
    """Signal one process if it is the container's; False when it isn't or has gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, OverflowError):
        return False
    try:
        if not belongs(record, pid):
            return False
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def signal_group(record: Record, pgid: int, number: int) -> bool:
    """Signal the container's members of a process group; False when it has none there."""
    found = False
    for pid in members(record):
        each = _procid.stat(pid)
        if each is not None and each.pgid == pgid:
            found = signal_process(record, pid, number) or found
    return found


def signal_all(record: Record, number: int) -> None:
    """Signal all of the container's processes. One that may not be signalled shields no other."""
    refused: PermissionError | None = None
    for pid in members(record):
        try:
            signal_process(record, pid, number)
        except PermissionError as error:
            refused = error
    if refused is not None:
        raise refused


def freeze(init: Identity) -> None:
    """Stop init and all below it, and see them stand still."""
    _procid.send(init, signal.SIGSTOP)
    tree.until_still({init.pid, *tree.stop(init.pid)})


def thaw(init: Identity) -> None:
    """Let init and all below it go on."""
    tree.resume(init.pid)
    _procid.send(init, signal.SIGCONT)


def kill_tree(record: Record, init: Identity, supervisor: Identity | None) -> None:
    """Kill init, all in its cgroup, and all that descends from it or from a living supervisor.

    The supervisor stays. Waits, bounded, until those below init have ended; init itself is left to
    the caller.
    """
    cgroup.kill(record, _ENDING_SECONDS)
    if supervisor is not None and _procid.alive(supervisor):
        tree.kill(supervisor.pid)
    if not _procid.alive(init):
        return
    _procid.send(init, signal.SIGSTOP)
    held = _hold(tree.stop(init.pid), init.pid)
    try:
        tree.kill(init.pid)
        _procid.send(init, signal.SIGKILL)
        _until_ended(held, time.monotonic() + _ENDING_SECONDS)
    finally:
        for pidfd in held:
            os.close(pidfd)


def _hold(pids: Iterable[int], root: int) -> list[int]:
    """Pidfds of those that descend from `root`, as many as there are descriptors for."""
    held: list[int] = []
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        except OSError:
            break
        if tree.is_below(pid, root):
            held.append(pidfd)
        else:
            os.close(pidfd)
    return held


def _until_ended(pidfds: Iterable[int], deadline: float) -> None:
    for pidfd in pidfds:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
