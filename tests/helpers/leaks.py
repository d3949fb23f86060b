"""What a test left behind: children, descriptors, threads, pending tasks, files in its roots.

A passing test's leftovers get a bounded time to go by themselves (a fork server ends after its
engine, a supervisor after its last process); a failed test's are removed at once and not reported.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import contextlib
import fnmatch
import gc
import os
import shutil
import threading
import time

from tests.helpers import reaping
from tests.helpers.records import ROOT_WIDE

SETTLE_SECONDS = 20.0  # a net: what ends by itself ends in milliseconds

_pending: list[str] = []


def note_pending_tasks() -> None:
    """Take note of tasks that still run when a loop's runner ends; it cancels them silently."""
    cancel_all = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]  # no public hook

    def noting(loop: asyncio.AbstractEventLoop) -> None:
        _pending.extend(repr(task) for task in asyncio.all_tasks(loop))
        cancel_all(loop)

    if not hasattr(cancel_all, "__wrapped__"):
        noting.__wrapped__ = cancel_all  # type: ignore[attr-defined]  # what functools.wraps would set
        asyncio.runners._cancel_all_tasks = noting  # type: ignore[attr-defined]  # as above


class LeakCheck:
    """The state before a test, compared with the state after it."""

    def __init__(self) -> None:
        self._children = reaping.children()
        self._threads = set(threading.enumerate())
        self._roots: list[str] = []
        self._expected: set[tuple[str, str]] = set()
        self._fds = _descriptors()
        _pending.clear()

    def watch_root(self, root: str) -> None:
        """Have `root` looked at and removed at the end."""
        self._roots.append(root)

    def expect(self, root: str, name: str) -> None:
        """Don't report this one name below a watched root."""
        self._expected.add((root, name))

    def finish(self, *, failed: bool, may_leave: tuple[str, ...]) -> list[str]:
        """Remove what is left; the lines of the report, none if nothing leaked."""
        deadline = time.monotonic() + (0.0 if failed else SETTLE_SECONDS)
        found = self._check_children(deadline)
        if not failed:
            found += [f"task left: {task}" for task in _pending]
            found += self._check_threads(deadline)
            found += self._check_descriptors()
            found += self._check_roots(may_leave)
        for root in self._roots:
            _remove(root)
        if found:
            gc.collect()  # what else Python has to say of it is said in this test, not a later one
        return [] if failed else found

    def _check_children(self, deadline: float) -> list[str]:
        left = reaping.settle(keep=self._children, seconds=deadline - time.monotonic())
        if not left:
            return []
        lines = [f"child process left: {reaping.describe(pid)}" for pid in sorted(left)]
        reaping.kill_all(left)
        return lines

    def _check_threads(self, deadline: float) -> list[str]:
        lines = []
        for thread in threading.enumerate():
            if thread in self._threads or thread is threading.current_thread():
                continue
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                lines.append(f"thread left: {thread.name} (daemon: {thread.daemon})")
        return lines

    def _check_descriptors(self) -> list[str]:
        if _grown(self._fds):
            gc.collect()  # a cycle may hold the owner; that it wasn't closed is a ResourceWarning
        return [f"descriptor left: {fd} -> {to}" for fd, to in sorted(_grown(self._fds).items())]

    def _check_roots(self, may_leave: tuple[str, ...]) -> list[str]:
        lines = []
        for root in self._roots:
            for name in sorted(_names_below(root) - ROOT_WIDE):
                if (root, name) in self._expected:
                    continue
                if not any(fnmatch.fnmatchcase(name, glob) for glob in may_leave):
                    lines.append(f"file left in the root: {name}")
        return lines


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor
            # An open file that is unlinked or renamed over stays the same descriptor.
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}").removesuffix(" (deleted)")
    return found


def _grown(before: dict[int, str]) -> dict[int, str]:
    # 0, 1 and 2 are switched by pytest's capture, also between a test and its teardown.
    now = _descriptors().items()
    return {fd: target for fd, target in now if fd > 2 and before.get(fd) != target}


def _names_below(root: str) -> set[str]:
    try:
        return set(os.listdir(root))
    except FileNotFoundError:
        return set()


def _remove(root: str) -> None:
    with contextlib.suppress(OSError):
        os.chmod(root, 0o700)
    shutil.rmtree(root, ignore_errors=True)
