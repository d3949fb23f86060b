"""Processes of a root that its records don't name: how they are found, proven and ended.

All processes that a fork server starts share its command line until they execute a program, and that
ends with the root: its device and inode, and a path that must still lead there. So they are told from
those of another root, from those of a root that was removed and made anew, and from whatever else
is called like them. A process in another pid namespace is let be: the records that name it hold
other numbers than we see.

Most need no looking after. What waits for a request, a hook's runner, and an init whose creation
was never acknowledged end by themselves once nobody is at the other end of their sockets. What may
be left over are a supervisor with its sandbox, and an init of supervision "caller" at its gate, whose
record somebody has taken away.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Container
from typing import TYPE_CHECKING, NamedTuple

from asyncrt import _paths, _procid
from asyncrt.launch import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUPERVISOR = "asyncrt:super"
_OURS = "asyncrt:"
_HELD = (_paths.GATE_COMM, _paths.GOFER_COMM)  # what a supervisor may have below it

_ENDING_MILLISECONDS = 5000


Known = Container[tuple[int, int]]  # processes by pid and start


class Stray(NamedTuple):
    """One that no record names: what it is, and who; and its children, by pid and start."""

    what: str
    pid: int
    start: int
    boot: str
    pidns: int
    children: tuple[tuple[int, int], ...]

    def is_in(self, known: Known) -> bool:
        """Whether it, or a child of it, is among those."""
        return (self.pid, self.start) in known or any(each in known for each in self.children)


def mark(root: str) -> list[str]:
    """What a fork server's command line ends with. Raises OSError without a root."""
    return [_identity(root), root]


def _identity(path: str | bytes) -> str:
    found = os.stat(path)
    return f"{found.st_dev}:{found.st_ino}"


def find(root: str, known: Known) -> list[Stray]:
    """Processes of the root that have taken a container on, and none of which is `known`.

    Which of these truly are strays shows when records are read after this: whatever has taken a
    container on is in one from before it was asked to. What launches for supervision "caller" is in
    none, but its child is. Raises OSError. Blocks for a look at every process.
    """
    identity = _identity(root)
    table = dict(_table())
    below: dict[int, list[int]] = {}
    for pid, each in table.items():
        below.setdefault(each.ppid, []).append(pid)
    found = []
    for pid, each in table.items():
        if not each.comm.startswith(_OURS) or (pid, each.start) in known:
            continue
        children = {child: table[child] for child in below.get(pid, ())}
        what = _what(each, [child.comm for child in children.values()], table.get(each.ppid))
        if not what:
            continue
        boot, pidns = _procid.boot_id(), _procid.pid_namespace()
        starts = tuple((child, stat.start) for child, stat in children.items())
        stray = Stray(what, pid, each.start, boot, pidns, starts)
        if not stray.is_in(known) and _is_of(pid, identity):
            found.append(stray)
    return found


def _table() -> Iterator[tuple[int, _procid.Stat]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = _procid.stat(int(name))
            if found is not None and found.state not in "ZX":
                yield int(name), found


def _what(process: _procid.Stat, below: list[str], above: _procid.Stat | None) -> str:
    if process.comm == _paths.GATE_COMM:
        supervised = above is not None and above.comm == _SUPERVISOR
        return "" if supervised else "init at its gate"
    if process.comm != _SUPERVISOR:
        return ""
    if not below:
        # One that is stopped somebody was ending, and was killed before its last step, see `end`.
        return "supervisor" if process.state == "T" else ""
    # A fork server, and what keeps a spare or a hook's runner, have none but such below them.
    others = [each for each in below if not each.startswith(_OURS) or each in _HELD]
    return "supervisor" if others else ""


def _is_of(pid: int, identity: str) -> bool:
    try:
        if os.stat(f"/proc/{pid}/ns/pid").st_ino != _procid.pid_namespace():
            return False
        fd = os.open(f"/proc/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
        try:
            words = os.read(fd, 1 << 16).split(b"\0")
        finally:
            os.close(fd)
        # The last is what follows the final NUL.
        return words[-3] == identity.encode() and _identity(words[-2]) == identity
    except (OSError, IndexError, ValueError):
        return False  # it ended, or isn't ours to look at


def end(stray: Stray) -> bool:
    """Kill it and all below it; whether it has ended. Raises PermissionError.

    Blocks until it has, within bounds.
    """
    pidfd = _procid.open_pidfd(stray)
    if pidfd is None:
        return True
    try:
        # While it is stopped it can't end by itself, so that its pid stays its own.
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        if not _procid.ended(pidfd):
            tree.kill(stray.pid)
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        return bool(poller.poll(_ENDING_MILLISECONDS))
    except ProcessLookupError:
        return True
    finally:
        os.close(pidfd)
