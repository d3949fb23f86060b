"""One container's files: its lock, its record, its directory.

Whoever changes a container locks, then loads, then acts, then saves, then unlocks. The object makes
the wrong orders impossible: a save needs the lock and a record loaded under it, so a stale status is
never written over a newer one and nothing comes back after somebody's destroy.

ID.lock exists as long as its container: `lock` never makes it, `lock_for_new` does, and takes it
away again when nothing comes of it. File work runs inline on memory-backed file systems, where it
is cheaper than a hop, and otherwise in one worker thread's hop. A disk's page cache is memory too:
a record that it has is read inline with the lock.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack

from asyncrt import _durable, _fskind, _paths
from asyncrt._threads import finish, run_blocking
from asyncrt.errors import (
    AsyncrtError,
    ContainerExists,
    ContainerNotFound,
    SchemaTooNew,
    StateCorrupted,
    StorageFailed,
)
from asyncrt.ids import ContainerId, check_id
from asyncrt.locking import FileLock
from asyncrt.state import listing
from asyncrt.state.announcing import Saved, tell_destroyed, tell_saved
from asyncrt.state.members import remove_member
from asyncrt.state.record import (
    Original,
    Record,
    decode,
    encode,
    exists,
    read_cached_data,
    read_data,
    read_record,
)
from asyncrt.state.removal import (
    clear_for_new,
    remove_container,
    remove_lock_files,
    remove_tree,
)

if TYPE_CHECKING:
    from collections.abc import Callable


_Ts = TypeVarTuple("_Ts")
_T = TypeVar("_T")

_MODE = 0o640
_SWEEP_SECONDS = 0.1


class StateFile:
    """The files of one container under `root`, which must be a root that `open_root` returned.

    Holds no descriptor unless locked, except that the lock file of a container that stays may be left
    open for the next `lock`, until `close`. One task at a time holds the lock; the object isn't shared
    between tasks that lock. Without `durable` saves aren't synced: whole after any kill, but not
    after a power loss.

    Each save that changes the status, and each removal, is told to whoever watches the root's
    events, with `operation` as the verb it belongs to.
    """

    def __init__(self, root: str, id: ContainerId, *, durable: bool = True) -> None:
        """Touch no file of the container. Raises InvalidId, StorageFailed without a root."""
        self.root = root
        self.id = check_id(id)
        self.operation = "save"
        self._durable = durable
        try:
            kind = _fskind.kind_of(root)
        except OSError as error:
            raise _storage_failed(root, error) from error
        self._inline = kind == "memory"
        self._cached = kind == "disk"  # what the page cache has can be read inline there too
        self._locks: dict[bool, FileLock] = {}
        self._lock: FileLock | None = None
        self._locking = False
        self._new = False  # locked for new, and nothing is saved yet
        self._destroyed = False
        self._data: bytes | None = None  # read by `lock`, not decoded yet
        self._original: Original | None = None
        self._expected: tuple[str, int] | None = None  # instance and revision that are on disk
        self._saved: Saved | None = None

    @property
    def locked(self) -> bool:
        """Whether this object holds the container's lock."""
        return self._lock is not None and self._lock.locked

    async def lock(self, *, timeout: float | None = None) -> None:
        """Take the lock of a container that is there, within `timeout` seconds (None: no limit).

        Raises ContainerNotFound, also when the container goes while this waits, and makes no file;
        LockTimeout; StorageFailed. Nothing is held then. If cancelled, the lock isn't held.
        """
        self._require_free()
        try:
            await self._acquire(create=False, timeout=timeout)
        except FileNotFoundError as error:
            raise ContainerNotFound(container_id=self.id, root=self.root) from error
        try:
            there = self._read_cached() or await self._run(self._read_ahead)
        except BaseException:
            self.unlock()
            raise
        if not there:
            # A creator was killed before its first save. Its lock file is of no use to anybody.
            await self._give_back()
            raise ContainerNotFound(container_id=self.id, root=self.root)

    async def lock_for_new(
        self,
        *,
        timeout: float | None = None,
        allow: Callable[[Record], bool] | None = None,
    ) -> Record | None:
        """Take the lock of an id that is free, within `timeout` seconds (None: no limit).

        With `allow`, also of one whose record it says True to, e.g. one whose deletion was
        interrupted: that record is returned, and `save_locked`, then `clear_locked` finish it. A
        broken record is never allowed. `allow` may be called in a worker thread.

        Raises ContainerExists, LockTimeout or StorageFailed; nothing is held then. If cancelled,
        the lock isn't held. In both cases no lock file is left unless a container is there.
        """
        self._require_free()
        try:
            await self._acquire(create=True, timeout=timeout)
            record = await self._run(self._enter_new, allow)
        except BaseException as error:
            try:
                await self._give_back(patience=timeout)
            finally:
                self.close()  # not only when whoever keeps the error lets it go
            if isinstance(error, FileNotFoundError):
                raise _storage_failed(self.root, error) from error
            raise
        return record

    async def load(self) -> Record:
        """The record as of now, without the lock; for reading only.

        Raises ContainerNotFound, StateCorrupted, SchemaTooNew or StorageFailed. If cancelled,
        nothing has changed.
        """
        return await self._run(read_record, self.root, self.id)

    async def load_locked(self) -> Record:
        """The record, to be changed and saved under the lock that is held.

        Raises RuntimeError without the lock, ContainerNotFound, StateCorrupted, SchemaTooNew or
        StorageFailed. If cancelled, nothing has changed.
        """
        self._require_lock("load_locked")
        if self._data is not None:
            return self._decode_locked(self._data)
        return await self._run(self._load_locked)

    async def save_locked(self, record: Record) -> None:
        """Replace the record on disk; `record.revision` is one higher afterwards.

        The record must come from `load_locked` under this very lock, or be the first of a container
        locked for new; RuntimeError otherwise, and without the lock. On StorageFailed the old record
        stands and `record` is as it was. If cancelled, the save is finished first, and
        `record.revision` says whether it succeeded.
        """
        self._require_lock("save_locked")
        await self._run(self._save, record)

    async def clear_locked(self) -> None:
        """Remove the directory and the record, and keep the lock as after `lock_for_new`.

        Raises RuntimeError without the lock; StorageFailed with the record still there.
        If cancelled, the removal is finished first.
        """
        self._require_lock("clear_locked")
        await self._run(self._clear)

    async def destroy(self) -> None:
        """Remove every file of the container, the lock file last. The lock stays held.

        Idempotent. Raises RuntimeError without the lock; StorageFailed with what comes later in the
        order ID.d, ID.state, ID.queue, ID.lock still there, so that it can be repeated.
        If cancelled, the removal is finished first.
        """
        self._require_lock("destroy")
        if not self._destroyed:
            await self._run(self._destroy)

    def unlock(self) -> None:
        """Release the lock if it is held. Never blocks, and may be called at any time.

        A lock for new of which nothing was saved takes its lock files along.
        """
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            if self._new and not self._destroyed and lock.locked:
                with contextlib.suppress(OSError):
                    remove_lock_files(self.root, self.id)
        finally:
            gone = self._new or self._destroyed
            self._forget()
            if gone:
                lock.close()
            else:
                lock.release()

    def close(self) -> None:
        """Release the lock if it is held; the object holds nothing afterwards."""
        self.unlock()
        self._locks.clear()

    @classmethod
    def list_ids(cls, root: str) -> list[ContainerId]:
        """The ids of all containers under the root, sorted. Blocks for one scan of the root."""
        return listing.list_ids(root)

    # The lock

    async def _acquire(self, *, create: bool, timeout: float | None) -> None:
        lock = self._file_lock(create=create)
        self._locking = True
        try:
            await lock.acquire(timeout=timeout)
        except OSError as error:
            if isinstance(error, (AsyncrtError, FileNotFoundError)):
                raise
            at_gate = str(error.filename).endswith(_paths.QUEUE)
            raise _storage_failed(error.filename if at_gate else lock.path, error) from error
        finally:
            self._locking = False
        self._lock = lock
        self._forget()

    def _file_lock(self, *, create: bool) -> FileLock:
        # Kept, because making one costs more than locking with it.
        lock = self._locks.get(create)
        if lock is None:
            path = f"{self.root}/{self.id}"
            lock = FileLock(path + _paths.LOCK, create=create, gate=path + _paths.QUEUE)
            self._locks[create] = lock
        return lock

    async def _give_back(self, *, patience: float | None = 0) -> None:
        """Release the lock, if held; leave no lock file of an id that has no container."""
        try:
            await finish(self._sweep(patience))
        finally:
            self.unlock()

    async def _sweep(self, patience: float | None) -> None:
        if self._lock is None:
            # A waiter that gave up may have made the lock files anew, in its thread, after a holder
            # took them away; that thread ends in an instant. Whoever else holds the lock for longer
            # answers for the files.
            seconds = _SWEEP_SECONDS if patience is None else min(patience, _SWEEP_SECONDS)
            if await self._run(exists, self.root, self.id):
                return
            try:
                await self._acquire(create=True, timeout=seconds)
            except OSError:
                return
        with contextlib.suppress(OSError):
            await self._run(self._remove_if_vacant)

    def _remove_if_vacant(self) -> None:
        if not self._destroyed and not exists(self.root, self.id):
            remove_container(self.root, self.id)  # a directory without a record is nobody's

    def _forget(self) -> None:
        self._new = self._destroyed = False
        self._data = self._original = self._expected = self._saved = None

    def _require_free(self) -> None:
        if self._lock is not None or self._locking:
            raise RuntimeError(
                f"this object holds the lock of {self.id!r} already, or waits for it"
            )

    def _require_lock(self, operation: str) -> None:
        if not self.locked:
            raise RuntimeError(f"{operation} of container {self.id!r} needs its lock")

    # What runs inline or in a worker thread

    async def _run(self, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts) -> _T:
        if self._inline:
            return func(*args)
        return await run_blocking(func, *args)

    def _read_cached(self) -> bool:
        """Whether there is a record, and it is read, without waiting for a disk."""
        if self._cached:
            with contextlib.suppress(StateCorrupted, StorageFailed):
                self._data = read_cached_data(self.root, self.id)
        return self._data is not None

    def _read_ahead(self) -> bool:
        try:
            self._data = read_data(self.root, self.id)
        except (StateCorrupted, StorageFailed):
            return True  # something is there: loading it will say what, and destroy can remove it
        return self._data is not None

    def _enter_new(self, allow: Callable[[Record], bool] | None) -> Record | None:
        try:
            data = read_data(self.root, self.id)
        except StateCorrupted:
            data = b""
        if data is None:
            self._new = True
            remove_tree(self.root, self.id + _paths.DIRECTORY)  # of nobody: there is no record
            return None
        record = self._decode_allowed(data) if allow is not None else None
        if allow is None or record is None or not allow(record):
            raise ContainerExists(container_id=self.id, root=self.root)
        return record

    def _decode_allowed(self, data: bytes) -> Record | None:
        try:
            return self._decode_locked(data)
        except (StateCorrupted, SchemaTooNew):
            return None

    def _load_locked(self) -> Record:
        data = read_data(self.root, self.id)
        if data is None:
            raise ContainerNotFound(container_id=self.id, root=self.root)
        return self._decode_locked(data)

    def _decode_locked(self, data: bytes) -> Record:
        record = decode(data, self.root, self.id)
        self._original = Original.of(data, record)
        self._expected = record.instance, record.revision
        self._saved = Saved.of(record)
        return record

    def _save(self, record: Record) -> None:
        if record.id != self.id:
            raise RuntimeError(f"a record of {record.id!r} isn't saved as {self.id!r}")
        if not self._new and self._expected != (record.instance, record.revision):
            raise RuntimeError(
                f"the record of container {self.id!r} wasn't loaded under this lock: stale"
            )
        record.revision += 1
        try:
            data = encode(record) if self._original is None else self._original.encode(record)
            directory = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _durable.replace(
                    directory,
                    self.id + _paths.STATE,
                    data,
                    mode=_MODE,
                    durable=self._durable,
                    temporary=_paths.being_saved(self.id),
                )
                before, self._saved = self._saved, Saved.of(record)
                tell_saved(self.root, directory, record, before, self.operation)
            finally:
                os.close(directory)
        except BaseException as error:
            record.revision -= 1
            if isinstance(error, OSError):
                raise _storage_failed(f"{self.root}/{self.id}{_paths.STATE}", error) from error
            raise
        self._new = False
        self._data = None
        self._expected = record.instance, record.revision
        if self._original is not None:
            self._original = Original.of(data, record)

    def _clear(self) -> None:
        self._data = self._original = self._expected = None
        clear_for_new(self.root, self.id, tell=self._tell_destroyed)
        self._forget_membership()
        self._saved = None
        self._new = True

    def _destroy(self) -> None:
        self._data = self._original = self._expected = None
        there = self._saved is not None or exists(self.root, self.id)
        remove_container(
            self.root,
            self.id,
            tell=self._tell_destroyed if there else None,
            forget=self._forget_membership,
        )
        self._saved = None
        self._destroyed = True
        self._new = False

    def _forget_membership(self) -> None:
        if self._saved is not None and self._saved.sandbox != self.id:
            remove_member(self.root, self._saved.sandbox, self.id)

    def _tell_destroyed(self) -> None:
        tell_destroyed(self.root, self.id, self._saved, self.operation)


def _storage_failed(path: str, error: OSError) -> StorageFailed:
    return StorageFailed(path=path, errno=error.errno or 0)
