"""Children of the test process: its own, and orphans that come to it as their sub-reaper.

A child born here (subprocess, posix_spawn, fork) must be waited for by whoever started it. An
orphan (a supervisor outlives what started it, on purpose) is nobody else's: it is reaped here.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Collection
from typing import Any

from asyncrt import _libc, _procid

# Pid and start time: where a pid may be reused (32768 are all there are on many machines), an orphan
# that has one of an earlier child's is nobody's all the same.
_born: set[tuple[int, int]] = set()


def become_subreaper() -> None:
    """Have every orphan of the tests come to this process; note which children are born here."""
    _libc.become_subreaper()
    for owner, name in ((subprocess, "_fork_exec"), (os, "posix_spawn"), (os, "fork")):
        setattr(owner, name, _noting(getattr(owner, name)))


def _noting(start: Callable[..., int]) -> Callable[..., int]:
    if hasattr(start, "__wrapped__"):
        return start

    def noting(*args: Any, **kwargs: Any) -> int:
        pid = start(*args, **kwargs)
        if pid and (key := _key(pid)):
            _born.add(key)
        return pid

    noting.__wrapped__ = start  # type: ignore[attr-defined]  # what functools.wraps would set
    return noting


def _key(pid: int) -> tuple[int, int] | None:
    stat = _procid.stat(pid)
    return None if stat is None else (pid, stat.start)


def is_born_here(pid: int) -> bool:
    """Whether a child was started by this process, who is to wait for it."""
    return _key(pid) in _born


def orphans() -> set[int]:
    """Pids of the children that nobody here waits for."""
    return {pid for pid in children() if not is_born_here(pid)}


def children() -> set[int]:
    """Pids of the living and the unreaped children of this process."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    try:
        return _listed_children()
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN, or a thread just ended
        return _searched_children()


def _listed_children() -> set[int]:
    while True:
        found: set[int] = set()
        threads = os.listdir("/proc/self/task")
        for thread in threads:
            with open(f"/proc/self/task/{thread}/children", "rb") as file:
                found.update(map(int, file.read().split()))
        # One that ended has left its children to another, which may have been read before.
        if os.listdir("/proc/self/task") == threads:
            return found


def _searched_children() -> set[int]:
    ours = os.getpid()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return {pid for pid in pids if (stat := _procid.stat(pid)) and stat.ppid == ours}


def forget_all() -> None:
    """In a forked child: what was born before are its parent's children."""
    _born.clear()


def describe(pid: int) -> str:
    """One line for a report: pid, state, command line."""
    stat = _procid.stat(pid)
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    state = stat.state if stat else "?"
    origin = "born here" if is_born_here(pid) else "orphan"
    comm = stat.comm if stat else ""
    below = ", ".join(
        f"{each.comm} {each.state}" for each in map(_procid.stat, _below(pid)) if each
    )
    return f"pid {pid}, {origin}, {comm}, state {state}, above [{below}]: {command[:200]}"


def _below(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return list(map(int, file.read().split()))
    except OSError:
        return []


def reap_orphans() -> None:
    """Reap the orphans that ended; for long tests that would else collect thousands of zombies."""
    for pid in orphans():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def settle(*, keep: Collection[int] = (), seconds: float) -> set[int]:
    """Reap orphans until no child is left but those to keep; what is left after the time.

    Waits by pidfd. What was born here is left to its owner, and counts as left while it is there.
    """
    deadline = time.monotonic() + seconds
    while True:
        reap_orphans()
        left = children() - set(keep)
        if not left:
            _born.intersection_update(map(_key, keep))
            return set()
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return left
        # That somebody else reaps a zombie is told by no event: look again soon.
        zombies = any((stat := _procid.stat(pid)) is None or stat.state == "Z" for pid in left)
        _wait_for_any(left, min(remaining, 0.005) if zombies else remaining)


def kill_all(pids: Collection[int]) -> None:
    """SIGKILL these children and whatever descends from them, and reap it all."""
    keep = children() - set(pids)
    while left := children() - keep:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Never for one alone: a pid namespace's init ends when all in it are reaped, and what was
        # executed in one is a child of its supervisor's, and then of ours.
        ended = 0
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                ended += bool(os.waitpid(pid, os.WNOHANG)[0])
        if not ended:
            _wait_for_any(left, 1.0)
    _born.intersection_update(map(_key, keep))


def _wait_for_any(pids: Collection[int], seconds: float) -> None:
    pidfds = []
    poller = select.poll()
    try:
        for pid in pids:
            with contextlib.suppress(OSError):  # reaped meanwhile by its owner
                pidfds.append(os.pidfd_open(pid))
        alive = [pidfd for pidfd in pidfds if not _procid.ended(pidfd)]
        for pidfd in alive:
            poller.register(pidfd, select.POLLIN)
        if alive:  # else they have ended meanwhile, and nothing would end the wait
            poller.poll(seconds * 1000)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
