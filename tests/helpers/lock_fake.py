"""A kernel in memory for the lock: every thread stands still until the test lets it go on."""

from __future__ import annotations

import errno
import itertools
import threading
from typing import TYPE_CHECKING

from asyncrt.locking._idle import Idle

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt.locking._idle import Inode


class Job:
    """A thread of `submit`'s. `step` lets it run until it would block in flock, or ends."""

    def __init__(
        self, func: Callable[[], None], callback: Callable[[None, BaseException | None], object]
    ) -> None:
        self.done = False
        self.wants: tuple[int, bool] | None = None  # the descriptor it stands at, and how
        self._call: tuple[Callable[[], None], Callable[..., object]] | None = (func, callback)
        self._go = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self._go.acquire()
        assert self._call is not None
        func, callback = self._call
        self._call = None
        try:
            func()
        except BaseException as error:
            callback(None, error)
        else:
            callback(None, None)
        del func, callback
        self.done = True
        self._paused.release()

    def pause(self) -> None:
        self._paused.release()
        self._go.acquire()

    def step(self) -> None:
        self._go.release()
        assert self._paused.acquire(timeout=10)


class FakeSystem:
    def __init__(self) -> None:
        self.files: dict[str, Inode] = {}
        self.fds: dict[int, Inode] = {}
        self.locks: dict[Inode, dict[int, bool]] = {}
        self.jobs: list[Job] = []
        self.idle = Idle(self.close)
        self._numbers = itertools.count(3)

    def open(self, path: str) -> int:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        fd = next(self._numbers)
        self.fds[fd] = self.files[path]
        return fd

    def create(self, path: str, mode: int) -> int:
        if path in self.files:
            raise FileExistsError(errno.EEXIST, "there is one", path)
        self.files[path] = (1, next(self._numbers))
        return self.open(path)

    def unlink(self, path: str) -> None:
        del self.files[path]

    def close(self, fd: int) -> None:
        self.locks.get(self.fds.pop(fd), {}).pop(fd, None)

    def try_lock(self, fd: int, *, shared: bool) -> bool:
        held = self.locks.setdefault(self.fds[fd], {})
        if any(not (shared and other) for number, other in held.items() if number != fd):
            return False
        held[fd] = shared
        return True

    def lock(self, fd: int, *, shared: bool) -> None:
        while not self.try_lock(fd, shared=shared):
            job = next(job for job in self.jobs if job.thread is threading.current_thread())
            job.pause()

    def unlock(self, fd: int) -> bool:
        self.locks.get(self.fds[fd], {}).pop(fd, None)
        return True

    def inode_of(self, fd: int) -> Inode:
        return self.fds[fd]

    def is_at(self, inode: Inode, path: str) -> bool:
        return self.files.get(path) == inode

    def submit(
        self, func: Callable[[], None], callback: Callable[[None, BaseException | None], object]
    ) -> None:
        self.jobs = [job for job in self.jobs if not job.done]
        self.jobs.append(Job(func, callback))

    def step(self, job: Job) -> None:
        job.step()
        self.jobs = [job for job in self.jobs if not job.done]
