from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from asyncrt import _threads
from asyncrt.errors import (
    StorageFailed,
)
from asyncrt.state import StateFile, state_file
from asyncrt.status import Status
from tests.helpers.records import (
    make_record,
    names,
    raw_record,
    some_id,
)
from tests.helpers.state_files import made, remove

CREATED, STOPPED = Status.CREATED, Status.STOPPED


@pytest.mark.parametrize("step", ["open", "write", "fsync", "rename"])
async def test_a_failed_save_keeps_the_old_record_and_can_be_repeated(
    anywhere: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await made(anywhere)
    await state.lock()
    record = await state.load_locked()
    record.status = STOPPED
    real = getattr(os, step)

    def full(*args: Any, **kwargs: Any) -> Any:
        if step != "open" or str(args[0]).endswith("~"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(StorageFailed) as caught:
            await state.save_locked(record)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.path == f"{anywhere}/web.state"
    assert isinstance(caught.value, OSError)
    assert record.revision == raw_record(anywhere)["revision"] == 1
    assert raw_record(anywhere)["status"] == "running"
    await state.save_locked(record)
    assert raw_record(anywhere)["status"] == "stopped"
    assert raw_record(anywhere)["revision"] == record.revision == 2
    await remove(state)


async def test_a_save_is_written_synced_renamed_and_the_directory_synced_in_this_order(
    anywhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await made(anywhere)
    await state.lock()
    record = await state.load_locked()
    calls: list[str] = []

    def note(name: str, tell: Callable[..., str]) -> None:
        real = getattr(os, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            calls.append(f"{name} {tell(*args)}")
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, wrapped)

    def descriptor(fd: int, *_args: Any) -> str:
        target = os.readlink(f"/proc/self/fd/{fd}")
        if target == anywhere:
            return "root"
        return "temporary" if target.endswith("~") else target

    flags = os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    safely = 0

    def opened(path: str, how: int, *_args: Any) -> str:
        nonlocal safely
        if path.endswith("~"):
            safely += (how & flags) == flags
            return "temporary"
        return "root" if path == anywhere else path

    note("open", opened)
    note("write", descriptor)
    note("fsync", descriptor)
    note("rename", lambda old, new: f"{'temporary' if old.endswith('~') else old} {new}")
    if not state._inline:
        # The loop's own pipe is written to when the worker thread is done.
        monkeypatch.setattr(state, "_inline", True)
    await state.save_locked(record)
    monkeypatch.undo()
    assert calls == [
        "open root",
        "open temporary",
        "write temporary",
        "fsync temporary",
        "rename temporary web.state",
        "fsync root",
    ]
    assert safely == 1
    await remove(state)


async def test_nothing_is_synced_without_durable(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_fd: int) -> None:
        raise AssertionError

    monkeypatch.setattr(os, "fsync", never)
    state = StateFile(root, some_id(), durable=False)
    await state.lock_for_new()
    await state.save_locked(make_record())
    await remove(state)


async def test_files_are_worked_on_inline_in_memory_and_in_one_hop_elsewhere(
    root: str, disk_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = 0
    real = _threads.run_blocking

    async def counted(func: Callable[..., Any], *args: Any) -> Any:
        nonlocal hops
        hops += 1
        return await real(func, *args)

    monkeypatch.setattr(state_file, "run_blocking", counted)
    for path, each in ((root, 0), (disk_root, 1)):
        state = await made(path)
        hops = 0
        await state.load()
        assert hops == each
        await state.lock()
        record = await state.load_locked()
        assert hops == each  # read with the lock, out of the page cache
        await state.save_locked(record)
        assert hops == 2 * each
        state.unlock()
        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", _would_wait)
            await state.lock()
            assert await state.load_locked() == record
            assert hops == 3 * each
        await state.destroy()
        assert hops == 4 * each
        state.close()


def _would_wait(*_: object) -> int:
    raise BlockingIOError(errno.EAGAIN, "not in the page cache")


async def test_a_cancelled_save_is_finished_and_the_record_says_so(disk_root: str) -> None:
    state = await made(disk_root)
    await state.lock()
    record = await state.load_locked()
    for ticks in range(8):
        before = record.revision
        record.status = STOPPED if ticks % 2 else CREATED
        task = asyncio.create_task(state.save_locked(record))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        saved = raw_record(disk_root)
        assert saved["revision"] == record.revision
        assert record.revision in {before, before + 1}
        assert record.revision == before or saved["status"] == record.status
    await remove(state)
    assert names(disk_root) == []
