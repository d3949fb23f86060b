"""What the processes of an engine are called in a sweep: told by birth, the same in each run."""

from __future__ import annotations

import contextlib
from pathlib import Path


def is_ours(pid: int) -> bool:
    """Whether a process executes our code, and no workload."""
    with contextlib.suppress(OSError):
        return b"asyncrt.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def name_program(pid: int, who: str) -> str:
    """What one that executed a program of ours is: told by that where an engine starts several."""
    with contextlib.suppress(OSError):
        if b"asyncrt.supervisor.pump" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return "pump"
    return who


def name_child(parent: str, place: int) -> str:
    """What the n-th child of a process of ours is, told by birth."""
    kind, _, number = parent.partition(" ")
    first = place == 1
    if kind == "engine":
        return "forkserver" if first else f"forkserver {place}"
    if kind == "forkserver":
        return f"supervisor {number and number + '.'}{place}"
    if kind == "pump":
        return f"pump {place}"
    if kind == "supervisor":
        return f"init {number}" if first else f"exec {number}.{place - 1}"
    if kind in {"init", "exec"}:  # inside, a hook, a gofer, or who owns an id map for a moment
        return f"{kind} {number}.{place}"
    return f"hook {number}.{place}"
