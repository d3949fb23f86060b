"""To hear at once when a container is out of memory, and how many processes that has killed by now.

Version 2 tells of changes of memory.events, to whoever watches the directory by inotify: no descriptor
for each. Version 1 makes an eventfd readable when memory has run out (cgroup.event_control, in
cgroup-v1/memory.rst), milliseconds *before* it kills anybody, and has no event for that: so there one
looks again, a bounded number of times, ever longer apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from asyncrt import _cgroups
from asyncrt.container import cgroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt._inotify import Directories
    from asyncrt.state import Record

_FIRST_LOOK_SECONDS = 0.002
_LOOKS = 10  # over two seconds in all


class MemoryWatch:
    """Of one container, for the running event loop. Close it: it may hold a descriptor."""

    def __init__(
        self, record: Record, directories: Directories, on_change: Callable[[], None]
    ) -> None:
        """`on_change` is called when there may be more `kills`."""
        self._on_change = on_change
        self._undo = contextlib.ExitStack()
        self._again: asyncio.TimerHandle | None = None
        self._seen: int | None = None
        self._cgroup = cgroup.memory(record)
        self.kills = self.look()
        if self._cgroup is None:
            return
        try:
            if os.path.exists(f"{self._cgroup}/memory.events"):
                self._undo.callback(directories.watch(self._cgroup, on_change))
            else:
                self._listen(self._cgroup)
        except OSError:
            pass  # no watch left, or not for this user: it is told when one looks the next time

    def look(self) -> int | None:
        """How many processes were killed in it since it was made; None: nobody counts any more."""
        found = None if self._cgroup is None else _cgroups.oom_kills(self._cgroup)
        if found is not None:
            self._seen = found
        return self._seen

    @property
    def hangs(self) -> bool:
        """Whether it is out of memory now, and nobody is killed for it."""
        return self._cgroup is not None and _cgroups.hangs(self._cgroup)

    def close(self) -> None:
        """Let go of all of it; idempotent."""
        if self._again is not None:
            self._again.cancel()
        self._undo.close()

    def _listen(self, directory: str) -> None:
        event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _cgroups.write(f"{directory}/cgroup.event_control", f"{event} {control}")
            finally:
                os.close(control)
        except OSError:
            os.close(event)
            raise
        loop = asyncio.get_running_loop()
        loop.add_reader(event, self._signalled, event)
        self._undo.callback(os.close, event)
        self._undo.callback(loop.remove_reader, event)

    def _signalled(self, event: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(event)
        self._look_again(self._seen, 0)

    def _look_again(self, before: int | None, looks: int) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self.look() == before and looks < _LOOKS:
            loop = asyncio.get_running_loop()
            self._again = loop.call_later(
                _FIRST_LOOK_SECONDS * 2**looks, self._look_again, before, looks + 1
            )
        else:
            self._on_change()
