"""Acting on a container's processes from the engine's side, where no supervisor can be asked.

Blocking reads of /proc: callers run these in a worker thread. What is in the container's cgroup
belongs to it, and everything that descends from a living supervisor; without one, what descends from
init. In a sandbox with several containers it is the cgroup alone, else the pid namespace, that says
whose a process is: `shared` says that it is one.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from asyncrt import _procid
from asyncrt.container import cgroup
from asyncrt.launch import tree
from asyncrt.state import has_members

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncrt.state import Identity, Record

_ENDING_SECONDS = 5.0  # how long what was killed may take to end


def top(record: Record) -> tuple[int, bool]:
    """The pid above the container's processes, and whether it is one of them itself."""
    if record.supervisor is not None and _procid.alive(record.supervisor):
        return record.supervisor.pid, False
    return (record.init.pid if record.init is not None else 0), True


def spared(record: Record) -> list[int]:
    """Who is below the supervisor and none of the container's processes: its gofer."""
    gofer = record.gofer
    return [gofer.pid] if gofer is not None and _procid.alive(gofer) else []


def is_shared(record: Record, root: str) -> bool:
    """Whether there are, or may be, other containers in its sandbox. Blocks for a look."""
    if record.supervision != "own":
        return False  # no supervisor has it beside another, whatever its annotations say
    return record.sandbox != record.id or has_members(root, record.id)


def members(record: Record, root: str) -> list[int]:
    """The pids of the container's processes, init first."""
    pid, itself = top(record)
    if not itself and is_shared(record, root):
        return _members_beside(record, pid)
    inside = cgroup.members(record)
    if record.init is None or not _procid.alive(record.init):
        below = [] if itself else tree.descendants(pid, spared(record))
    else:
        below = [record.init.pid, *tree.descendants(pid, spared(record))]
    return list(dict.fromkeys([*below, *inside]))


def _members_beside(record: Record, supervisor: int) -> list[int]:
    init = record.init
    if init is None:
        return []
    if cgroup.holder(record) is not None:
        inside = cgroup.members(record)
        first = [init.pid] if init.pid in inside else []
        return list(dict.fromkeys([*first, *inside]))
    namespace = _pid_namespace(init.pid)
    if not _procid.alive(init):
        return []
    # Whoever in there loses its parent goes to the namespace's init; who is exec'd is ours.
    found = [init.pid, *tree.descendants(init.pid)]
    if namespace is None:
        return found  # an init that has executed nothing shows its namespace to root alone
    for pid in tree.children(supervisor):
        if pid != init.pid and _pid_namespace(pid) == namespace:
            found += [pid, *tree.descendants(pid)]
    return found


def _pid_namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def belongs(record: Record, pid: int, root: str) -> bool:
    """Whether a process is the container's."""
    above, itself = top(record)
    if not itself and is_shared(record, root):
        return pid in _members_beside(record, above)
    if any(pid == each or tree.is_below(pid, each) for each in spared(record)):
        return False
    if above > 0 and ((itself and pid == above) or tree.is_below(pid, above)):
        return True
    return pid in cgroup.members(record)


def signal_process(record: Record, pid: int, number: int, root: str) -> bool:
    """Signal one process if it is the container's; False when it isn't or has gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, OverflowError):
        return False
    try:
        if not belongs(record, pid, root):
            return False
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def signal_group(record: Record, pgid: int, number: int, root: str) -> bool:
    """Signal the container's members of a process group; False when it has none there."""
    found = [(pid, _procid.stat(pid)) for pid in members(record, root)]
    return _signal_each(
        record, [pid for pid, each in found if each and each.pgid == pgid], number, root
    )


def signal_all(record: Record, number: int, root: str) -> None:
    """Signal all of the container's processes."""
    _signal_each(record, members(record, root), number, root)


def _signal_each(record: Record, pids: Iterable[int], number: int, root: str) -> bool:
    """Whether there was any. One that may not be signalled shields no other."""
    found = False
    refused: PermissionError | None = None
    for pid in pids:
        try:
            found = signal_process(record, pid, number, root) or found
        except PermissionError as error:
            refused = error
    if refused is not None:
        raise refused
    return found


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

    The supervisor stays, and with it what is below it if the container isn't the root of its sandbox. Waits, bounded, until those below init have ended; init itself is left to
    the caller. Raises PermissionError, when all others have been killed, if init may not be.
    """
    cgroup.kill(record, _ENDING_SECONDS)
    if record.sandbox == record.id and supervisor is not None and _procid.alive(supervisor):
        tree.kill(supervisor.pid, spared(record))
    if not _procid.alive(init):
        return
    with contextlib.suppress(PermissionError):
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
