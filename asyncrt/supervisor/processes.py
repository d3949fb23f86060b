"""All processes of one container: by its cgroup where it has one, else by their descent from us."""

from __future__ import annotations

import os

from asyncrt import _cgroups
from asyncrt.launch import tree

_FREEZING_SECONDS = 5.0  # a process in the middle of a slow system call may hold up the rest


class Processes:
    """What is done to all of them at once.

    A cgroup knows those that a fork hides from a walk through the tree; the tree knows those that
    have left the cgroup, which on the host a privileged one can.
    """

    __slots__ = ("_cgroups",)

    def __init__(self, cgroups: list[int]) -> None:
        """Take over the directories: first where all is frozen and killed, last where OOM is told."""
        self._cgroups = cgroups

    def pause(self) -> None:
        """Have them stand still, as far as that can be waited for."""
        for fd in self._cgroups[:1]:
            try:
                if _cgroups.can_freeze(_cgroups.through(fd)):
                    _cgroups.freeze(_cgroups.through(fd), _FREEZING_SECONDS)
                    return
            except OSError:
                pass  # somebody removed it, or took it from us
        tree.pause(os.getpid())

    def resume(self) -> None:
        """Let them go on."""
        for fd in self._cgroups[:1]:
            try:
                if _cgroups.can_freeze(_cgroups.through(fd)):
                    _cgroups.thaw(_cgroups.through(fd))
                    return
            except OSError:
                pass  # as above
        tree.resume(os.getpid())

    def kill(self) -> bool:
        """SIGKILL to all; whether there was anybody."""
        for fd in self._cgroups[:1]:
            if _cgroups.kill(_cgroups.through(fd), _FREEZING_SECONDS):
                return True
        return tree.kill(os.getpid())

    def oom_kills(self) -> int | None:
        """How many the kernel has killed for want of memory; None: nobody counts."""
        for fd in self._cgroups[-1:]:
            return _cgroups.oom_kills(_cgroups.through(fd))
        return None
