from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os

import pytest

from asyncrt import _paths
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
from asyncrt.state import StateFile, list_views
from asyncrt.state.record import encode
from asyncrt.status import Status
from tests.helpers.lock_elsewhere import lock_descriptors
from tests.helpers.records import (
    make_record,
    names,
    put_record,
    raw_record,
    some_id,
)
from tests.helpers.state_files import made, remove

CREATED, STOPPED = Status.CREATED, Status.STOPPED


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


async def test_a_lock_for_new_that_fails_leaves_nothing_open(anywhere: str) -> None:
    """Not even for as long as somebody keeps the error, and by it the object."""
    state = await made(anywhere)
    state.close()
    before = lock_descriptors(anywhere)
    second = StateFile(anywhere, some_id())
    with pytest.raises(ContainerExists):
        await second.lock_for_new()
    waiting = StateFile(anywhere, some_id())
    await state.lock()
    with pytest.raises(LockTimeout):
        await waiting.lock_for_new(timeout=0.01)
    state.close()
    assert lock_descriptors(anywhere) == before
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


async def test_a_link_in_the_place_of_the_gate_is_told_by_its_own_name(anywhere: str) -> None:
    os.symlink("/nowhere", f"{anywhere}/web.queue")
    with pytest.raises(StorageFailed) as caught:
        await StateFile(anywhere, some_id()).lock_for_new(timeout=1)
    assert caught.value.path == f"{anywhere}/web.queue"
    os.unlink(f"{anywhere}/web.queue")
