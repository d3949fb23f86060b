"""What all parts of one recovery share: locks for a short time, findings, going on after a failure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, TypeVar

from asyncrt import _paths
from asyncrt.engine.recovery import report
from asyncrt.engine.recovery.report import Finding
from asyncrt.errors import AsyncrtError, ContainerExists, LockTimeout
from asyncrt.locking import FileLock
from asyncrt.state import StateFile, exists
from asyncrt.state.removal import remove_tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from typing import Any

    from asyncrt.container import Context
    from asyncrt.engine.recovery.report import Outcome
    from asyncrt.ids import ContainerId

_log = logging.getLogger("asyncrt.engine")

T = TypeVar("T")

LOCK_SECONDS = 0.5  # how long one lock is waited for
EACH_SECONDS = 60.0  # how long one thing may take, a container's hooks included
_AT_ONCE = 16


class Work:
    """One recovery under way."""

    def __init__(self, context: Context, *, dry_run: bool) -> None:
        self.context = context
        self.root = context.root
        self.dry_run = dry_run
        self.findings: list[Finding] = []

    async def each(self, items: Iterable[T], act: Callable[[Work, T], Awaitable[None]]) -> None:
        """Do it to each, several at once. If cancelled, so is what is under way."""
        left = iter(list(items))

        async def work() -> None:
            for each in left:
                await self.guarded(act(self, each))

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())

    async def guarded(self, act: Awaitable[None]) -> None:
        """Do it; what goes wrong is told and stops nothing else. If cancelled, so is it."""
        try:
            await act
        except Exception as error:  # noqa: BLE001 - told, whatever it is
            self.add(report.UNKNOWN, "failed", why=_words(error))

    def add(self, kind: str, outcome: Outcome, **fields: Any) -> None:
        """Put it into the report; on a dry run "mended" means that it would be."""
        if outcome == "mended" and self.dry_run:
            outcome = "would mend"
        finding = Finding(kind=kind, outcome=outcome, **fields)
        self.findings.append(finding)
        what = finding.id or finding.path or finding.pid or ""
        done = finding.why or finding.action
        _log.info("%s: %s %s: %s: %s", self.root, kind, what, outcome, done)

    @contextlib.asynccontextmanager
    async def mending(self, kind: str, **fields: Any) -> AsyncIterator[None]:
        """Tells of a lock that somebody holds, and of whatever else goes wrong inside.

        If cancelled, so is what is inside.
        """
        try:
            async with asyncio.timeout(EACH_SECONDS):
                yield
        except LockTimeout as error:
            holder = f" by pid {error.holder}" if error.holder else ""
            self.add(kind, "busy", why=f"its lock is held{holder}", **fields)
        except (AsyncrtError, OSError) as error:
            took = isinstance(error, TimeoutError) and not isinstance(error, AsyncrtError)
            why = f"it took longer than {EACH_SECONDS:g} s" if took else _words(error)
            self.add(kind, "failed", why=why, **fields)

    @contextlib.asynccontextmanager
    async def locked(self, container_id: ContainerId) -> AsyncIterator[StateFile | None]:
        """The container's files with its lock held; None on a dry run, if nobody holds that.

        Raises LockTimeout, ContainerNotFound. If cancelled, the lock isn't held.
        """
        if self.dry_run:
            await self._try_lock(container_id)
            yield None
            return
        state = self._state_of(container_id)
        try:
            await state.lock(timeout=LOCK_SECONDS)
            yield state
        finally:
            state.close()

    def _state_of(self, container_id: ContainerId) -> StateFile:
        state = StateFile(self.root, container_id, durable=self.context.durable)
        state.operation = "gc"
        return state

    async def _try_lock(self, container_id: ContainerId) -> None:
        """Raise LockTimeout if somebody holds the container's lock; makes no file."""
        path = f"{self.root}/{container_id}"
        lock = FileLock(path + _paths.LOCK, create=False, gate=path + _paths.QUEUE)
        try:
            await lock.acquire(timeout=0)
        except FileNotFoundError:
            pass
        finally:
            lock.close()

    @contextlib.asynccontextmanager
    async def vacant(self, container_id: ContainerId) -> AsyncIterator[bool]:
        """Whether the id has no container; it gets none meanwhile, but on a dry run.

        Takes away what is left of one: first its directory, at the end the lock's files. Raises
        LockTimeout. If cancelled, the lock isn't held.
        """
        if self.dry_run:
            await self._try_lock(container_id)
            yield not await self.context.run(exists, self.root, container_id)
            return
        state = self._state_of(container_id)
        try:
            await state.lock_for_new(timeout=LOCK_SECONDS)
        except ContainerExists:
            yield False
        else:
            yield True
        finally:
            state.close()

    async def unlink(self, paths: Iterable[str]) -> bool:
        """Remove what is below the root, or only look on a dry run; whether any was there.

        If cancelled, some may be removed.
        """
        return await self.context.run(_unlink, self.root, tuple(paths), self.dry_run)


def any_there(paths: Iterable[str]) -> bool:
    """Whether there is any of these names. Blocks for a look each."""
    return any(map(os.path.lexists, paths))


def _unlink(root: str, paths: Iterable[str], dry_run: bool) -> bool:  # noqa: FBT001 - a worker thread's argument
    found = any_there(paths)
    if not dry_run:
        for path in paths:
            remove_tree(root, os.path.relpath(path, root))
    return found


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, AsyncrtError | OSError) else repr(error)
