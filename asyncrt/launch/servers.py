"""What serves a gofer's overlay where the kernel doesn't: its child, see asyncrt.launch.fuse.

Found by a look at /proc, as it is seldom asked for.
"""

from __future__ import annotations

from asyncrt import _csignal, _paths, _procid
from asyncrt.launch import tree


def find(gofer: int) -> list[int]:
    """Their pids. What it forks for an export is called as it is itself."""
    found = [(pid, _procid.stat(pid)) for pid in tree.children(gofer)]
    return [pid for pid, each in found if each is not None and each.comm != _paths.GOFER_COMM]


def end(gofer: int) -> None:
    """Kill them; the gofer ends then.

    Whoever waits for an answer of theirs gets an error, and can be killed: until then nobody can.
    """
    tree.signal_below(gofer, find(gofer), _csignal.SIGKILL)


def is_ending(pid: int) -> bool:
    """Whether a process has begun to end, or has ended.

    Its files are closed before its pidfd tells of it: who uses what it serves may hear of it first.
    """
    found = _procid.stat(pid)
    return found is None or bool(found.flags & _procid.PF_EXITING)
