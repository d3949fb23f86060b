from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from asyncrt import _paths, _threads
from asyncrt.errors import (
    ContainerExists,
    ContainerNotFound,
    InvalidId,
    LockTimeout,
    SchemaTooNew,
    StateCorrupted,
    StorageFailed,
)
from asyncrt.locking import FileLock
from asyncrt.state import Deletion, Record, StateFile, list_views, state_file
from asyncrt.state.record import encode
from asyncrt.status import Status
from tests.helpers.lock_elsewhere import lock_descriptors
from tests.helpers.records import (
    dead_identity,
    make_record,
    names,
    put_exit,
    put_record,
    raw_record,
    some_id,
)

CREATED, STOPPED = Status.CREATED, Status.STOPPED


@pytest.fixture(params=["memory", "disk"])
def anywhere(request: pytest.FixtureRequest) -> str:
    """A root where files are worked on inline, and one where that hops to a thread."""
    name = "root" if request.param == "memory" else "disk_root"
    path: str = request.getfixturevalue(name)
    return path


async def made(root: str, id: str = "web", **changes: Any) -> StateFile:
    """A saved container; not locked."""
    state = StateFile(root, some_id(id))
    await state.lock_for_new()
    await state.save_locked(make_record(id, **changes))
    state.unlock()
    return state


async def remove(state: StateFile) -> None:
    if not state.locked:
        await state.lock()
    await state.destroy()
    state.close()


async def test_a_container_is_made_changed_and_destroyed(anywhere: str) -> None:
    state = StateFile(anywhere, some_id())
    assert await state.lock_for_new() is None
    record = make_record(status=CREATED)
    await state.save_locked(record)
    assert record.revision == 1
    state.unlock()
    assert names(anywhere) == ["web.lock", "web.queue", "web.state"]
    assert await state.load() == record
    assert StateFile.list_ids(anywhere) == ["web"]

    await state.lock()
    loaded = await state.load_locked()
    loaded.status = STOPPED
    await state.save_locked(loaded)
    await state.save_locked(loaded)
    state.unlock()
    assert (await state.load()).revision == 3
    assert os.stat(f"{anywhere}/web.state").st_mode & 0o777 == 0o640

    await remove(state)
    assert names(anywhere) == []


async def test_an_unknown_id_leaves_no_lock_file(anywhere: str) -> None:
    state = StateFile(anywhere, some_id("nobody"))
    for operation in (state.lock, state.load):
        with pytest.raises(ContainerNotFound) as caught:
            await operation()
        assert (caught.value.container_id, caught.value.root) == ("nobody", anywhere)
        assert not state.locked
    assert names(anywhere) == []


async def test_a_lock_file_left_by_a_killed_creator_is_no_container_and_goes(anywhere: str) -> None:
    for name in ("web.lock", "web.queue"):
        with open(f"{anywhere}/{name}", "w"):
            pass
    state = StateFile(anywhere, some_id())
    with pytest.raises(ContainerNotFound):
        await state.lock()
    assert names(anywhere) == []


@pytest.mark.parametrize("text", ["", "..", "a/b", "../../etc/x", "a\n"])
def test_an_invalid_id_is_refused_at_the_edge(root: str, text: str) -> None:
    with pytest.raises(InvalidId):
        StateFile(root, some_id(text))


def test_a_missing_root_is_told(root: str) -> None:
    with pytest.raises(StorageFailed, match="No such file"):
        StateFile(f"{root}/missing", some_id())


async def test_a_root_that_went_away_is_told(root: str) -> None:
    os.mkdir(f"{root}/inner")
    state = StateFile(f"{root}/inner", some_id())
    os.rmdir(f"{root}/inner")
    with pytest.raises(StorageFailed) as caught:
        await state.lock_for_new()
    assert caught.value.errno == errno.ENOENT


async def test_a_duplicate_create_is_refused_and_harms_nothing(anywhere: str) -> None:
    state = await made(anywhere)
    before = raw_record(anywhere)
    second = StateFile(anywhere, some_id())
    with pytest.raises(ContainerExists):
        await second.lock_for_new()
    assert not second.locked
    second.close()
    assert raw_record(anywhere) == before
    assert names(anywhere) == ["web.lock", "web.queue", "web.state"]
    await remove(state)


async def test_a_create_rolled_back_before_its_first_save_leaves_nothing(anywhere: str) -> None:
    state = StateFile(anywhere, some_id())
    await state.lock_for_new()
    assert "web.lock" in names(anywhere)
    state.unlock()
    assert names(anywhere) == []


async def test_a_create_rolled_back_after_its_first_save_leaves_nothing(anywhere: str) -> None:
    state = StateFile(anywhere, some_id())
    await state.lock_for_new()
    await state.save_locked(make_record(status=Status.CREATING))
    os.mkdir(f"{anywhere}/web.d")
    await state.destroy()
    state.unlock()
    assert names(anywhere) == []


async def test_saving_loading_and_destroying_need_the_lock(root: str) -> None:
    state = await made(root)
    record = await state.load()
    for operation in (
        state.load_locked(),
        state.save_locked(record),
        state.clear_locked(),
        state.destroy(),
    ):
        with pytest.raises(RuntimeError, match="needs its lock"):
            await operation
    assert raw_record(root)["revision"] == 1
    await remove(state)


async def test_a_record_read_before_the_lock_cant_be_saved(root: str) -> None:
    state = await made(root)
    stale = await state.load()
    await state.lock()
    with pytest.raises(RuntimeError, match="stale"):
        await state.save_locked(stale)  # nothing was loaded under this lock
    fresh = await state.load_locked()
    fresh.status = Status.PAUSED
    await state.save_locked(fresh)
    with pytest.raises(RuntimeError, match="stale"):
        await state.save_locked(stale)
    state.unlock()
    await state.lock()
    with pytest.raises(RuntimeError, match="stale"):
        await state.save_locked(fresh)  # of the last time it was held
    assert raw_record(root)["status"] == "paused"
    await remove(state)


async def test_a_save_after_a_destroy_resurrects_nothing(root: str) -> None:
    state = await made(root)
    other = StateFile(root, some_id())
    await state.lock()
    record = await state.load_locked()
    await state.destroy()
    with pytest.raises(RuntimeError, match="stale"):
        await state.save_locked(record)
    state.unlock()
    with pytest.raises(ContainerNotFound):
        await other.lock()
    assert names(root) == []


async def test_who_waited_for_the_lock_of_a_destroyed_container_is_told(anywhere: str) -> None:
    state = await made(anywhere)
    await state.lock()
    await state.load_locked()
    others = [StateFile(anywhere, some_id()) for _ in range(3)]
    waiting = [asyncio.create_task(other.lock()) for other in others]
    await asyncio.sleep(0)
    await state.destroy()
    state.unlock()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in results] == [ContainerNotFound] * 3
    assert not any(other.locked for other in others)
    assert names(anywhere) == []


async def test_who_waited_to_create_gets_the_id_of_a_destroyed_container(anywhere: str) -> None:
    state = await made(anywhere)
    await state.lock()
    other = StateFile(anywhere, some_id())
    waiting = asyncio.create_task(other.lock_for_new())
    await asyncio.sleep(0)
    await state.destroy()
    state.unlock()
    await waiting
    await other.save_locked(make_record(instance="ffff"))
    assert raw_record(anywhere)["instance"] == "ffff"
    await remove(other)
    assert names(anywhere) == []


async def test_the_record_of_another_instance_isnt_saved_over_this_one(root: str) -> None:
    state = await made(root)
    await state.lock()
    record = await state.load_locked()
    record.instance = "ffff"
    with pytest.raises(RuntimeError, match="stale"):
        await state.save_locked(record)
    with pytest.raises(RuntimeError, match="isn't saved as"):
        await state.save_locked(make_record("other"))
    await remove(state)


async def test_an_object_locks_once(root: str) -> None:
    state = await made(root)
    await state.lock()
    for operation in (state.lock(), state.lock_for_new()):
        with pytest.raises(RuntimeError, match="already"):
            await operation
        assert state.locked
    assert names(root) == ["web.lock", "web.queue", "web.state"]
    await remove(state)


async def test_a_lock_not_had_in_time_names_its_file_and_holder(anywhere: str) -> None:
    state = await made(anywhere)
    await state.lock()
    other = StateFile(anywhere, some_id())
    for operation in (other.lock, other.lock_for_new):
        for timeout in (0, 0.01):
            with pytest.raises(LockTimeout) as caught:
                await operation(timeout=timeout)
            assert caught.value.path == f"{anywhere}/web.lock"
            assert caught.value.holder == os.getpid()
            assert not other.locked
    await remove(state)
    assert names(anywhere) == []


async def test_a_broken_record_can_be_locked_and_destroyed_but_not_loaded(anywhere: str) -> None:
    state = await made(anywhere)
    with open(f"{anywhere}/web.state", "w"):
        pass
    await state.lock()
    with pytest.raises(StateCorrupted):
        await state.load_locked()
    await remove(state)
    os.mkdir(f"{anywhere}/web.state")  # not even a file
    with open(f"{anywhere}/web.lock", "w"):
        pass
    await state.lock()
    with pytest.raises(StateCorrupted):
        await state.load_locked()
    await remove(state)
    assert names(anywhere) == []


async def test_the_id_of_a_broken_or_newer_record_is_taken(root: str) -> None:
    state = StateFile(root, some_id())
    for data in (b"", encode(make_record(schema=9)), b""):
        with open(f"{root}/web.state", "wb") as file:
            file.write(data)
        for allow in (None, lambda _record: True):
            with pytest.raises(ContainerExists):
                await state.lock_for_new(allow=allow)
    with pytest.raises(StateCorrupted):
        await state.load()
    await remove(state)


async def test_a_newer_record_is_refused_by_name(root: str) -> None:
    put_record(root, make_record(schema=2))
    state = StateFile(root, some_id())
    with pytest.raises(SchemaTooNew):
        await state.load()
    await state.lock()
    with pytest.raises(SchemaTooNew):
        await state.load_locked()
    await remove(state)


async def test_unknown_fields_survive_every_save_of_an_older_version(anywhere: str) -> None:
    state = await made(anywhere)
    newer = raw_record(anywhere)
    newer["mood"] = {"deep": [1, {"x": None}]}
    with open(f"{anywhere}/web.state", "w") as file:
        json.dump(newer, file)
    for status in (CREATED, STOPPED):
        await state.lock()
        record = await state.load_locked()
        record.status = status
        await state.save_locked(record)
        record.started_at = record.created_at
        await state.save_locked(record)
        state.unlock()
    found = raw_record(anywhere)
    assert found["mood"] == newer["mood"]
    assert (found["status"], found["revision"]) == ("stopped", 5)
    assert found["started_at"] == found["created_at"]
    await remove(state)


async def test_an_interrupted_deletion_is_taken_over_by_a_create(anywhere: str) -> None:
    def deleting(record: Record) -> bool:
        return record.deletion is not None

    state = await made(anywhere)
    with pytest.raises(ContainerExists):
        await state.lock_for_new(allow=deleting)
    await state.lock()
    record = await state.load_locked()
    record.deletion = Deletion(poststop=("begun",))
    await state.save_locked(record)
    state.unlock()
    os.mkdir(f"{anywhere}/web.d")

    old = await state.lock_for_new(allow=deleting)
    assert old == record
    assert old is not None
    old.deletion = old.deletion.with_hook(0, "done") if old.deletion else None
    await state.save_locked(old)
    with pytest.raises(RuntimeError, match="stale"):
        await state.save_locked(make_record(instance="ffff"))
    await state.clear_locked()
    assert names(anywhere) == ["web.lock", "web.queue"]
    await state.save_locked(make_record(instance="ffff"))
    assert (await state.load()).deletion is None
    await remove(state)


async def test_a_take_over_that_gives_up_leaves_the_old_record(root: str) -> None:
    state = await made(root)
    assert await state.lock_for_new(allow=lambda _record: True) is not None
    state.unlock()
    assert names(root) == ["web.lock", "web.queue", "web.state"]
    assert await state.lock_for_new(allow=lambda _record: True) is not None
    await state.clear_locked()
    state.unlock()
    assert names(root) == []


async def test_a_directory_without_a_record_isnt_inherited(root: str) -> None:
    os.mkdir(f"{root}/web.d")
    with open(f"{root}/web.d/exit.json", "w"):
        pass
    state = StateFile(root, some_id())
    await state.lock_for_new()
    assert not os.path.exists(f"{root}/web.d")
    state.close()


async def test_destroy_takes_the_files_in_order_and_the_lock_file_last(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await made(root)
    os.mkdir(f"{root}/web.d")
    gone: list[str] = []

    def noting(name: str) -> None:
        real: Callable[..., None] = getattr(os, name)

        def wrapped(path: str, **kwargs: Any) -> None:
            assert state.locked
            real(path, **kwargs)
            gone.append(os.path.basename(path))

        monkeypatch.setattr(os, name, wrapped)

    noting("unlink")
    noting("rmdir")
    await state.lock()
    await state.destroy()
    assert gone == [".web.d~", "web.state", "web.queue", "web.lock"]  # ID.d under another name
    await state.destroy()
    assert len(gone) == 4
    assert state.locked
    state.unlock()
    state.unlock()


async def test_destroy_goes_down_the_tree_and_follows_no_link(root: str, disk_root: str) -> None:
    with open(f"{disk_root}/precious", "w"):
        pass
    state = await made(root)
    os.makedirs(f"{root}/web.d/logs/old/er")
    for name in ("config.json", "logs/a", "logs/old/er/b"):
        with open(f"{root}/web.d/{name}", "w"):
            pass
    os.symlink(disk_root, f"{root}/web.d/link")
    os.symlink(disk_root, f"{root}/web.d/logs/old/link")
    os.mkfifo(f"{root}/web.d/logs/fifo")
    await remove(state)
    assert names(root) == []
    assert names(disk_root) == ["precious"]
    state = await made(root)
    os.symlink(disk_root, f"{root}/web.d")
    await remove(state)
    assert names(root) == []
    assert names(disk_root) == ["precious"]
    os.unlink(f"{disk_root}/precious")


async def test_a_destroy_that_fails_keeps_the_record_for_a_retry(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await made(root)
    os.mkdir(f"{root}/web.d")
    await state.lock()

    def busy(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", busy)
        with pytest.raises(StorageFailed) as caught:
            await state.destroy()
    assert (caught.value.path, caught.value.errno) == (f"{root}/.web.d~", errno.EBUSY)
    assert "web.state" in names(root)
    state.unlock()
    await remove(state)
    assert names(root) == []


@pytest.mark.parametrize("started_over", [False, True])
async def test_a_destroyer_killed_at_any_step_leaves_no_end_unknown(
    root: str, monkeypatch: pytest.MonkeyPatch, started_over: bool
) -> None:
    """The exit record is in ID.d, which goes before the container's own record does."""

    class KilledError(BaseException):
        pass

    told = []
    finished = False
    for step in range(30):
        state = await made(root, init=dead_identity(), supervisor=dead_identity())
        put_exit(root)
        if started_over:  # somebody was killed at it before
            os.rename(f"{root}/web.d", f"{root}/{_paths.being_removed('web')}")
        left = step

        def counting(real: Callable[..., None]) -> Callable[..., None]:
            def call(*args: Any, **kwargs: Any) -> None:
                nonlocal left
                if left == 0:
                    raise KilledError
                left -= 1
                real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch, contextlib.suppress(KilledError):
            for name in ("rename", "unlink", "rmdir"):
                patch.setattr(os, name, counting(getattr(os, name)))
            await remove(state)
            finished = True
        state.close()
        told += [view.exit.exit_code for view in list_views(root) if view.exit is not None]
        with contextlib.suppress(ContainerNotFound):
            await remove(StateFile(root, some_id()))
        assert names(root) == [], step
        if finished:
            break
    assert finished
    assert len(told) > 4
    assert set(told) == {3}


async def test_from_its_first_step_on_a_removal_shows_by_a_record_without_a_directory(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what a killed one left aside doesn't keep the next from removing all of it."""
    state = await made(root)
    for name in ("web.d", ".web.d~"):
        os.mkdir(f"{root}/{name}")
        with open(f"{root}/{name}/config.json", "w"):
            pass
    real = os.unlink
    seen: list[list[str]] = []

    def looking(path: str, **kwargs: Any) -> None:
        seen.append([name for name in names(root) if name.endswith((".d", ".state"))])
        real(path, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", looking)
        await remove(state)
    assert names(root) == []
    assert seen[0] == ["web.d", "web.state"]  # the name was taken: as ever

    state = await made(root)
    os.mkdir(f"{root}/web.d")
    seen.clear()
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", looking)
        await remove(state)
    assert seen[0] == ["web.state"]
    assert names(root) == []


async def test_a_directory_that_is_still_written_to_is_emptied_again(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await made(root)
    os.mkdir(f"{root}/web.d")
    real = os.rmdir
    late = ["a", "b"]

    def supervisor_writes(path: str, **kwargs: Any) -> None:
        if late:
            with open(f"{root}/.web.d~/{late.pop()}", "w"):
                pass
        real(path, **kwargs)

    monkeypatch.setattr(os, "rmdir", supervisor_writes)
    await remove(state)
    assert names(root) == []


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


async def test_an_unlocked_container_keeps_its_lock_file_open_at_most_until_it_is_closed(
    anywhere: str,
) -> None:
    state = await made(anywhere)
    await state.lock()
    state.unlock()
    assert len(lock_descriptors(anywhere)) == 1
    state.close()
    assert lock_descriptors(anywhere) == []
    await state.lock()
    await state.destroy()
    state.unlock()  # its file is gone: nobody will need it
    assert lock_descriptors(anywhere) == []


async def test_reading_never_waits_for_the_lock(anywhere: str) -> None:
    state = await made(anywhere)
    await state.lock()
    other = StateFile(anywhere, some_id())
    async with asyncio.timeout(5):
        assert (await other.load()).id == "web"
    assert len(list_views(anywhere)) == 1
    await remove(state)


async def test_other_implementations_of_the_lock_exclude_too(root: str) -> None:
    state = await made(root)
    async with FileLock(f"{root}/web{_paths.LOCK}", gate=f"{root}/web{_paths.QUEUE}"):
        with pytest.raises(LockTimeout):
            await state.lock(timeout=0)
    await remove(state)


async def test_cancelled_at_any_tick_while_it_waits_the_lock_is_free_and_nothing_is_left(
    anywhere: str,
) -> None:
    for ticks in range(40):
        state = StateFile(anywhere, some_id())
        task = asyncio.create_task(state.lock_for_new())
        for _ in range(ticks):
            await asyncio.sleep(0)
        ended = task.done()
        task.cancel()
        if ended:
            await task
            state.close()
        else:
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not state.locked
        assert names(anywhere) == [], ticks
        if ended:
            break


async def test_cancelled_behind_a_create_that_is_rolled_back_it_leaves_nothing(
    anywhere: str,
) -> None:
    for ticks in range(12):
        holder = StateFile(anywhere, some_id())
        await holder.lock_for_new()
        state = StateFile(anywhere, some_id())
        task = asyncio.create_task(state.lock_for_new())
        await asyncio.sleep(0)
        holder.unlock()
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        state.close()
        assert names(anywhere) == [], ticks


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
