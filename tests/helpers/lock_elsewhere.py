"""A holder outside of any FileLock: a plain flock on a descriptor of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING

import portalocker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Elsewhere:
    def __init__(self, path: Path | str, *, shared: bool = False) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        flag = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
        try:
            portalocker.lock(self._fd, flag | portalocker.LockFlags.NON_BLOCKING)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


@contextlib.contextmanager
def held_elsewhere(path: Path | str, *, shared: bool = False) -> Iterator[Elsewhere]:
    holder = Elsewhere(path, shared=shared)
    try:
        yield holder
    finally:
        holder.release()


def is_free(path: Path | str) -> bool:
    try:
        Elsewhere(path).release()
    except portalocker.AlreadyLocked:
        return False
    return True


def is_waited_for(path: Path | str) -> bool:
    """Whether somebody stands in flock for it. Source: proc(5), locks: "->" marks who waits."""
    with open("/proc/locks") as file:
        lines = file.read().splitlines()
    end = f":{os.stat(path).st_ino}"
    return any("->" in line and end in " ".join(line.split()[:7]) for line in lines)


def lock_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "asyncrt flock"]


def descriptors() -> set[str]:
    """What the open descriptors name."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return found


def lock_descriptors(directory: Path | str) -> list[str]:
    return [entry for entry in descriptors() if str(directory) in entry]


async def settled(condition: Callable[[], bool]) -> None:
    """Wait for what a thread brings about."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)
