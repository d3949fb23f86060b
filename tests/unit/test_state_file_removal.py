from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from asyncrt import _paths
from asyncrt.errors import (
    ContainerExists,
    ContainerNotFound,
    StorageFailed,
)
from asyncrt.state import Deletion, Record, StateFile, list_views
from asyncrt.status import Status
from tests.helpers.records import (
    dead_identity,
    make_record,
    names,
    put_exit,
    some_id,
)
from tests.helpers.state_files import made, remove

CREATED, STOPPED = Status.CREATED, Status.STOPPED


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


async def test_nothing_of_the_one_before_is_left_beside_the_new_one(root: str) -> None:
    """The end of a container, kept while it is removed, is no business of the next with its id."""
    state = await made(root)
    await state.lock()
    record = await state.load_locked()
    put_exit(root, state.id, record.instance)
    await state.clear_locked()
    assert names(root) == [f"{state.id}.lock", f"{state.id}.queue"]
    await state.destroy()
    state.close()
    assert names(root) == []


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
