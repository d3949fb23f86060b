"""Ways to put a record's new content on disk, asyncrt's and others', each under a lock or without.

`save` replaces the content; `cycle` locks, loads, changes, saves and unlocks. Peers decode and encode
the same record with the same msgspec, so that what differs is the way to the disk.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from typing import Protocol

import aiofiles
import aiofiles.os
import msgspec
import portalocker

from asyncrt.ids import ContainerId
from asyncrt.state import Record, StateFile

NAME = "record"  # of the container: its files are record.state and record.lock
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class Saver(Protocol):
    """One way, working in a directory of its own in which a first record has been saved."""

    async def save(self, record: Record) -> None: ...

    async def cycle(self) -> None: ...

    async def close(self) -> None: ...


async def first(directory: str, record: Record) -> None:
    """Save the first record of the directory's container, as asyncrt does."""
    state = StateFile(directory, ContainerId(record.id), durable=False)
    await state.lock_for_new()
    await state.save_locked(record)
    state.close()


class Ours:
    """StateFile."""

    def __init__(self, directory: str, *, durable: bool) -> None:
        self._state = StateFile(directory, ContainerId(NAME), durable=durable)
        self._record: Record | None = None

    async def save(self, record: Record) -> None:  # noqa: ARG002 - it saves what it has loaded
        if self._record is None:
            await self._state.lock()
            self._record = await self._state.load_locked()
        await self._state.save_locked(self._record)

    async def cycle(self) -> None:
        state = self._state
        await state.lock()
        await state.save_locked(await state.load_locked())
        state.unlock()

    async def close(self) -> None:
        self._state.close()


class Truncating:
    """Truncate and write, inline. A reader, or a crash, in between finds half of it, or nothing."""

    def __init__(self, directory: str) -> None:
        self._state, self._lock = _paths(directory)

    async def save(self, record: Record) -> None:
        record.revision += 1
        fd = os.open(self._state, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        os.write(fd, _encoder.encode(record))
        os.close(fd)

    async def cycle(self) -> None:
        lock = _lock(self._lock)
        await self.save(_load(self._state))
        _unlock(lock)

    async def close(self) -> None:
        pass


class Renaming:
    """Temporary file and rename, inline; `durable` syncs both. asyncrt's own calls, in plain Python."""

    def __init__(self, directory: str, *, durable: bool) -> None:
        self._directory, self._durable = directory, durable
        self._state, self._lock = _paths(directory)

    async def save(self, record: Record) -> None:
        record.revision += 1
        data = _encoder.encode(record)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open("temporary", flags, 0o640, dir_fd=directory)
        os.write(fd, data)
        if self._durable:
            os.fsync(fd)
        os.close(fd)
        name = f"{NAME}.state"
        os.rename("temporary", name, src_dir_fd=directory, dst_dir_fd=directory)
        if self._durable:
            os.fsync(directory)
        os.close(directory)

    async def cycle(self) -> None:
        lock = _lock(self._lock)
        mine, there = os.fstat(lock), os.lstat(self._lock)
        assert (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
        await self.save(_load(self._state))
        _unlock(lock)

    async def close(self) -> None:
        pass


class HopByHop:
    """aiofiles and portalocker as their documentation shows them: a hop to a thread for each call."""

    def __init__(self, directory: str, *, durable: bool) -> None:
        self._directory, self._durable = directory, durable
        self._state, self._lock = _paths(directory)

    async def save(self, record: Record) -> None:
        record.revision += 1
        temporary = self._state + "~"
        async with aiofiles.open(temporary, "wb") as file:
            await file.write(_encoder.encode(record))
            if self._durable:
                await file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
        await aiofiles.os.replace(temporary, self._state)
        if self._durable:
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            await asyncio.to_thread(os.fsync, directory)
            os.close(directory)

    async def cycle(self) -> None:
        async with aiofiles.open(self._lock, "a+b") as lock:
            await asyncio.to_thread(portalocker.lock, lock.fileno(), portalocker.LOCK_EX)
            async with aiofiles.open(self._state, "rb") as file:
                record = _decoder.decode(await file.read())
            await self.save(record)
            await asyncio.to_thread(portalocker.unlock, lock.fileno())

    async def close(self) -> None:
        pass


class Sqlite:
    """A row in a database with a write-ahead log; `synchronous` is FULL or NORMAL."""

    def __init__(self, directory: str, synchronous: str) -> None:
        path = os.path.join(directory, "records.db")
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(f"PRAGMA synchronous={synchronous}")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS records (id TEXT PRIMARY KEY, data BLOB)"
        )
        with open(_paths(directory)[0], "rb") as file:
            row = (NAME, file.read())
        self._database.execute("INSERT OR REPLACE INTO records VALUES (?, ?)", row)

    async def save(self, record: Record) -> None:
        record.revision += 1
        row = (_encoder.encode(record), NAME)
        self._database.execute("UPDATE records SET data = ? WHERE id = ?", row)

    async def cycle(self) -> None:
        execute = self._database.execute
        execute("BEGIN IMMEDIATE")
        (data,) = execute("SELECT data FROM records WHERE id = ?", (NAME,)).fetchone()
        await self.save(_decoder.decode(data))
        execute("COMMIT")

    async def close(self) -> None:
        self._database.close()


def _paths(directory: str) -> tuple[str, str]:
    return f"{directory}/{NAME}.state", f"{directory}/{NAME}.lock"


def _lock(path: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _unlock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _load(path: str) -> Record:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    data = os.read(fd, 65536)
    os.close(fd)
    return _decoder.decode(data)


OURS, OURS_DURABLE = "asyncrt.StateFile, durable=False", "asyncrt.StateFile"
TRUNCATE = "truncate, write; sync"
RENAME, RENAME_DURABLE = "write, rename; sync", "write, fsync, rename, fsync; sync"
HOPS, HOPS_DURABLE = "portalocker + aiofiles", "portalocker + aiofiles, both fsyncs"
SQLITE_FULL, SQLITE_NORMAL = "sqlite3, WAL, FULL", "sqlite3, WAL, NORMAL"


def make(kind: str, directory: str) -> Saver:
    """The saver of that kind."""
    if kind in {OURS, OURS_DURABLE}:
        return Ours(directory, durable=kind == OURS_DURABLE)
    if kind == TRUNCATE:
        return Truncating(directory)
    if kind in {RENAME, RENAME_DURABLE}:
        return Renaming(directory, durable=kind == RENAME_DURABLE)
    if kind in {HOPS, HOPS_DURABLE}:
        return HopByHop(directory, durable=kind == HOPS_DURABLE)
    return Sqlite(directory, "FULL" if kind == SQLITE_FULL else "NORMAL")
