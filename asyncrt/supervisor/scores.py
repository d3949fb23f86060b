"""The supervisor's own OOM score: the lowest of its containers', as it ends with all of them.

It is the lowest among those that set one. The container that is only there to be the sandbox sets
none, whatever its config says, and what becomes of it when it is destroyed nobody needs to know.
"""

from __future__ import annotations

import os

from asyncrt import _paths
from asyncrt.launch.handover import NO_SCORE

_SCORE = "/proc/self/oom_score_adj"  # proc(5)


class Scores:
    """Made when one of the containers has a score, or the first is created beside the root."""

    __slots__ = ("_by_id", "_dir_fd", "_fd", "_now", "_own", "original")

    def __init__(self, dir_fd: int, own: int) -> None:
        """Of the root container: its directory, where the members of the sandbox are, and its score."""
        self._dir_fd = dir_fd
        self._own = own
        self._by_id: dict[str, int] = {}
        # Kept, as there may be no descriptor to be had by the time that it counts.
        self._fd = os.open(_SCORE, os.O_RDWR | os.O_CLOEXEC)
        self.original = self._now = int(os.pread(self._fd, 16, 0))

    def add(self, container_id: str, score: int) -> None:
        """One more, from its creation until it isn't a member any more."""
        self._by_id.pop(container_id, None)
        if score != NO_SCORE:
            self._by_id[container_id] = score

    def started(self) -> None:
        """A container has started: without any score all stays as it is."""
        self._become(self._now)

    def destroyed(self, container_id: str) -> None:
        """That one is gone, or is as soon as its files are: without any score we get back our own.

        It is a member for that long, and nobody may live to tell that it isn't any more.
        """
        self._by_id.pop(container_id, None)
        self._become(self.original)

    def _become(self, without: int) -> None:
        if self._by_id:
            members = self._members()
            self._by_id = {name: each for name, each in self._by_id.items() if name in members}
        scores = list(self._by_id.values())
        if self._own != NO_SCORE:
            scores.append(self._own)
        wanted = min(scores, default=without)
        if wanted == self._now:
            return
        try:
            os.pwrite(self._fd, str(wanted).encode(), 0)
            self._now = wanted
        except PermissionError:
            pass  # lower than this user may go: its container was made by one who may

    def _members(self) -> list[str]:
        try:
            fd = os.open(
                _paths.MEMBERS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._dir_fd
            )
        except FileNotFoundError:
            return []
        except OSError:
            return list(self._by_id)  # for want of descriptors: the next time
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)
