"""A lock's file: unlinked, replaced, planted, missing, and what else may become of it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from asyncrt.locking import FileLock
from tests.helpers.lock_elsewhere import (
    Elsewhere,
    held_elsewhere,
    is_free,
    is_waited_for,
    lock_descriptors,
    lock_threads,
    settled,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.lock"


async def test_hazard_5_a_waiter_on_an_unlinked_file_starts_over_on_the_new_one(
    path: Path,
) -> None:
    lock = FileLock(path)
    holder = Elsewhere(path)
    waiting = asyncio.create_task(lock.acquire())
    await settled(lambda: len(lock_threads()) > 0 and len(lock_descriptors(path.parent)) >= 3)
    path.unlink()
    newcomer = Elsewhere(path)
    holder.release()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.1)
    newcomer.release()
    await waiting
    assert not is_free(path)
    lock.release()


async def test_hazard_5_a_hand_over_never_gives_a_dead_file(path: Path) -> None:
    holder, waiter = FileLock(path), FileLock(path)
    await holder.acquire()
    waiting = asyncio.create_task(waiter.acquire())
    await asyncio.sleep(0)
    path.unlink()
    holder.release()
    await waiting
    assert path.exists()
    assert not is_free(path)
    waiter.release()


async def test_hazard_5_a_reader_does_not_join_on_a_dead_file(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)
    await first.acquire(shared=True)
    path.unlink()
    assert not second.try_acquire(shared=True)
    first.release()
    assert second.try_acquire(shared=True)
    second.release()


async def test_hazard_44_a_reused_inode_number_is_told_apart_by_the_open_descriptor(
    path: Path,
) -> None:
    # While a descriptor is open its inode number can't be given to another file.
    lock = FileLock(path)
    await lock.acquire()
    inode = path.stat().st_ino
    path.unlink()
    path.touch()
    assert path.stat().st_ino != inode
    assert lock_descriptors(path.parent) != []
    lock.release()


async def test_without_create_a_missing_file_is_an_error_and_nothing_is_made(
    path: Path,
) -> None:
    with pytest.raises(FileNotFoundError):
        await FileLock(path, create=False).acquire()
    with pytest.raises(FileNotFoundError):
        FileLock(path, create=False).try_acquire()
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_without_create_a_file_that_vanishes_while_waiting_is_an_error(
    path: Path, where: str
) -> None:
    here = FileLock(path)
    await here.acquire()  # makes file and gate
    holder: Elsewhere | FileLock = here
    if where == "elsewhere":
        here.release()
        holder = Elsewhere(path)
    lock = FileLock(path, create=False)
    waiting = asyncio.create_task(lock.acquire())
    if where == "elsewhere":
        await settled(lambda: is_waited_for(path))
    else:
        await asyncio.sleep(0)
    os.unlink(f"{path}.queue")
    path.unlink()
    holder.release()
    with pytest.raises(FileNotFoundError):
        await waiting
    assert os.listdir(path.parent) == []


async def test_one_waiter_may_create_while_another_may_not(path: Path) -> None:
    here = FileLock(path)
    await here.acquire()
    picky, easy = FileLock(path, create=False), FileLock(path)
    picking = asyncio.create_task(picky.acquire())
    await asyncio.sleep(0)
    taking = asyncio.create_task(easy.acquire())
    await asyncio.sleep(0)
    path.unlink()
    here.release()
    with pytest.raises(FileNotFoundError):
        await picking
    await taking
    easy.release()


async def test_hazard_44_a_planted_link_is_refused(path: Path) -> None:
    target = path.parent / "precious"
    target.write_text("x")
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        await FileLock(path).acquire()
    path.unlink()
    (path.parent / "a.lock.queue").unlink(missing_ok=True)
    (path.parent / "a.lock.queue").symlink_to(path.parent / "made-through-the-link")
    with pytest.raises(OSError, match="symbolic link"):
        await FileLock(path).acquire(shared=True)
    assert not (path.parent / "made-through-the-link").exists()
    assert lock_descriptors(path.parent) == []


async def test_hazard_9_a_failed_acquire_leaks_no_descriptor(path: Path) -> None:
    with held_elsewhere(path):
        before = len(lock_descriptors(path.parent))
        for _ in range(20):
            assert not FileLock(path).try_acquire()
            assert not FileLock(path).try_acquire(shared=True)
        assert len(lock_descriptors(path.parent)) == before
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        await FileLock(path).acquire()
    assert lock_descriptors(path.parent) == []
