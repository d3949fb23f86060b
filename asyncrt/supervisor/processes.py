"""All processes of one container: by its cgroup where it has one, else by their descent from us."""

from __future__ import annotations

import os

from asyncrt import _cgroups, _csignal
from asyncrt.launch import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FREEZING_SECONDS = 5.0  # a process in the middle of a slow system call may hold up the rest


class Processes:
    """What is done to all of them at once.

    A cgroup knows those that a fork hides from a walk through the tree; the tree knows those that
    have left the cgroup, which on the host a privileged one can.
    """

    __slots__ = ("_cgroups", "_spared", "_tops")

    def __init__(
        self,
        cgroups: list[int],
        tops: Callable[[], list[int] | None],
        spared: Callable[[], list[int]] = list,
    ) -> None:
        """Take over the directories: first where all is frozen and killed, last where OOM is told.

        `tops` says which children of ours are above all of it; None: every one, and whom they leave,
        but those that are `spared`.
        """
        self._cgroups = cgroups
        self._tops = tops
        self._spared = spared

    def pause(self) -> None:
        """Have them stand still, as far as that can be waited for."""
        for fd in self._cgroups[:1]:
            try:
                if _cgroups.can_freeze(_cgroups.through(fd)):
                    _cgroups.freeze(_cgroups.through(fd), _FREEZING_SECONDS)
                    return
            except OSError:
                pass  # somebody removed it, or took it from us
        tops = self._tops()
        if tops is None:
            tree.pause(os.getpid(), self._spared())
            return
        seen = set(tops)
        for pid in tops:
            _signal(pid, _csignal.SIGSTOP)
            seen |= tree.stop(pid)
        tree.until_still(seen)

    def resume(self) -> None:
        """Let them go on."""
        for fd in self._cgroups[:1]:
            try:
                if _cgroups.can_freeze(_cgroups.through(fd)):
                    _cgroups.thaw(_cgroups.through(fd))
                    return
            except OSError:
                pass  # as above
        tops = self._tops()
        if tops is None:
            tree.resume(os.getpid(), self._spared())
            return
        for pid in tops:
            tree.resume(pid)
            _signal(pid, _csignal.SIGCONT)

    def kill(self, init: int = 0) -> bool:
        """SIGKILL to all, first to `init` if it isn't reaped yet; whether there was anybody.

        With init it is for another time to see to those who have left the cgroup: when that has ended.
        """
        if init:
            _signal(init, _csignal.SIGKILL)
        for fd in self._cgroups[:1]:
            if _cgroups.kill(_cgroups.through(fd), _FREEZING_SECONDS, populated=init != 0):
                return True
        tops = self._tops()
        if tops is None:
            return tree.kill(os.getpid(), self._spared())
        for pid in tops:
            _signal(pid, _csignal.SIGSTOP)
            tree.kill(pid)
            _signal(pid, _csignal.SIGKILL)
        return bool(tops)

    def oom_kills(self) -> int | None:
        """How many the kernel has killed for want of memory; None: nobody counts."""
        for fd in self._cgroups[-1:]:
            return _cgroups.oom_kills(_cgroups.through(fd))
        return None

    def close(self) -> None:
        """Let go of the directories; nobody is in them any more."""
        for fd in self._cgroups:
            os.close(fd)
        self._cgroups = []


def _signal(child: int, number: int) -> None:
    """Signal our child, which isn't reaped yet: the pid is its own."""
    try:  # noqa: SIM105 - a context manager costs pages
        os.kill(child, number)
    except PermissionError:
        pass  # another user's by now, by sudo say
