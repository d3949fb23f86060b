"""What one process of a soak has itself: locks, descriptors and threads, which no operation may leave it.

A lock that is never released is a refusal to all others, as any that is busy is; and who is killed
lets go of all it had. So each process looks at itself.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from typing import TYPE_CHECKING

from asyncrt import _paths, _threads

if TYPE_CHECKING:
    from collections.abc import Collection

# A lock is left when it was there in so many looks while nothing was done to its container here, over
# so many seconds: a waiter that was cancelled gets it late, and releases it then.
_LOOKS = 10
_SECONDS = 5.0
_ENDING_SECONDS = 60.0
# An engine keeps 64 connections for the next call, and what it has under way: some more.
_MOST_DESCRIPTORS = 110

Locked = tuple[str, tuple[int, int]]  # a lock file's name, and which file that is


class Own:
    """This process's, from when it is made."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._before = _descriptors()
        self._seen: dict[Locked, tuple[float, int]] = {}

    def leaked_locks(self, busy: Collection[str]) -> list[str]:
        """Locks that nothing here holds any more; `busy`: ids to which something is being done."""
        now, before = time.monotonic(), self._seen
        self._seen = {}
        left = []
        for each in own_locks(self._root):
            since, looks = before.get(each, (now, 0))
            if each[0].rpartition(".")[0] not in busy:
                looks += 1
            self._seen[each] = since, looks
            if looks >= _LOOKS and now - since >= _SECONDS:
                left.append(f"{each[0]}, for {now - since:.0f} s")
        return left

    def grown(self) -> list[str]:
        """What there is more of than an engine needs that has worked for long."""
        more = len(_descriptors()) - len(self._before)
        return [f"{more} descriptors more than at first"] if more > _MOST_DESCRIPTORS else []

    def left(self) -> list[str]:
        """What is open that wasn't before the engine was."""
        gc.collect()  # an error's frames are let go of late where a task is among them
        now = _descriptors()
        return [f"{fd}: {to}" for fd, to in now.items() if self._before.get(fd) != to]


def threads_left() -> list[str]:
    """What still runs when the loop is closed, after the time that idle ones wait for more to do.

    One whose waiter was cancelled ends when another process lets it have the lock, which may take long.
    """
    deadline = time.monotonic() + _ENDING_SECONDS + _threads.IDLE_SECONDS
    while len(os.listdir("/proc/self/task")) > 1:
        if time.monotonic() > deadline:
            return [f"threads left: {[each.name for each in threading.enumerate()]}"]
        time.sleep(0.02)  # no event tells of the end of a daemon thread
    return []


def own_locks(root: str) -> list[Locked]:
    """The lock files of the root that this process has flock'ed.

    Their gates don't count: a waiter that was cancelled stands there until another lets it have the lock.
    """
    return [
        (name, inode)
        for name, inode, pid in lock_holders(root)
        if pid == os.getpid() and name.endswith(_paths.LOCK)
    ]


def lock_holders(root: str) -> list[tuple[str, tuple[int, int], int]]:
    """Names of files of the root that are flock'ed, which files these are, and by whom (0: hidden)."""
    inodes = {}
    for name in os.listdir(root):
        if name.endswith((_paths.LOCK, _paths.QUEUE)):
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(f"{root}/{name}")
                inodes[os.major(found.st_dev), os.minor(found.st_dev), found.st_ino] = name
    held = []
    with open("/proc/locks") as file:
        for line in file:
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK":
                major, minor, inode = words[5].split(":")
                key = int(major, 16), int(minor, 16), int(inode)
                if key in inodes:
                    held.append((inodes[key], key[1:], max(0, int(words[4]))))
    return held


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found
