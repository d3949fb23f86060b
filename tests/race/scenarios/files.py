"""Locks and state files, cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os

import asyncrt
from asyncrt.state import read_record
from tests.helpers import reality
from tests.helpers.cancel import Outcome
from tests.helpers.records import make_record, own_identity
from tests.race.scenarios.bench import Bench, flock, scenario


async def free_lock(bench: Bench) -> asyncrt.FileLock:
    lock = asyncrt.FileLock(f"{bench.root}/plain")
    bench.undo.callback(os.unlink, f"{bench.root}/plain")
    bench.undo.callback(_unlink_if_there, f"{bench.root}/plain.queue")
    assert lock.try_acquire()
    lock.release()
    return lock


def _unlink_if_there(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


async def queued_lock(bench: Bench) -> asyncrt.FileLock:
    """Another object of this loop holds it for a while."""
    lock = await free_lock(bench)
    holder = asyncrt.FileLock(lock.path)
    assert holder.try_acquire()
    loop = asyncio.get_running_loop()
    loop.call_later(0.001, holder.release)
    return lock


async def contended_lock(bench: Bench) -> asyncrt.FileLock:
    """Somebody else, as the kernel sees it, holds it for a while."""
    lock = await free_lock(bench)
    fd = os.open(lock.path, os.O_RDWR | os.O_CLOEXEC)
    flock(fd)
    asyncio.get_running_loop().call_later(0.003, os.close, fd)
    return lock


async def held_lock(bench: Bench) -> asyncrt.FileLock:
    lock = await free_lock(bench)
    assert lock.try_acquire()
    return lock


async def held_or_free(bench: Bench, lock: asyncrt.FileLock, outcome: Outcome) -> None:
    assert lock.locked != outcome.cancelled
    lock.close()
    other = asyncrt.FileLock(lock.path)
    await other.acquire(timeout=5)  # also proves that no late grant stays with nobody
    other.release()


async def free_afterwards(bench: Bench, lock: asyncrt.FileLock, outcome: Outcome) -> None:
    if not outcome.cancelled:
        assert not lock.locked
    lock.close()


for kind, preparation in (
    ("", free_lock),
    (" queued", queued_lock),
    (" contended", contended_lock),
):
    scenario(
        f"FileLock.acquire{kind}", lambda b, k: k.acquire(), prepare=preparation, check=held_or_free
    )
scenario(
    "FileLock.acquire in time",
    lambda b, k: k.acquire(timeout=5),
    prepare=contended_lock,
    check=held_or_free,
)
scenario(
    "FileLock.acquire shared",
    lambda b, k: k.acquire(shared=True),
    prepare=contended_lock,
    check=held_or_free,
)
scenario(
    "FileLock.__aenter__", lambda b, k: k.__aenter__(), prepare=contended_lock, check=held_or_free
)
scenario(
    "FileLock.__aexit__",
    lambda b, k: k.__aexit__(None, None, None),
    prepare=held_lock,
    check=free_afterwards,
)


def state_file(bench: Bench) -> asyncrt.StateFile:
    return asyncrt.StateFile(bench.root, asyncrt.ContainerId("web"), durable=False)


async def with_record(bench: Bench) -> asyncrt.StateFile:
    state = state_file(bench)
    await state.lock_for_new()
    await state.save_locked(make_record(status="stopped", creator=own_identity()))
    state.unlock()
    return state


async def locked_record(bench: Bench) -> asyncrt.StateFile:
    state = await with_record(bench)
    await state.lock()
    return state


async def lock_or_none(bench: Bench, state: asyncrt.StateFile, outcome: Outcome) -> None:
    assert state.locked != outcome.cancelled
    state.close()
    assert reality.files(bench.root) == {"web.lock", "web.queue", "web.state"}
    await state.lock(timeout=5)
    state.close()


async def id_or_nothing(bench: Bench, state: asyncrt.StateFile, outcome: Outcome) -> None:
    assert state.locked != outcome.cancelled
    if outcome.cancelled:
        assert reality.files(bench.root) == set()
    state.close()
    assert reality.files(bench.root) == set()


async def save(bench: Bench, state: asyncrt.StateFile) -> None:
    record = await state.load_locked()
    bench.mark = str(record.revision)
    record.owner = "somebody else"
    try:
        await state.save_locked(record)
    finally:
        bench.mark = str(record.revision)


async def saved_or_not(bench: Bench, state: asyncrt.StateFile, outcome: Outcome) -> None:
    record = read_record(bench.root, "web")
    assert record.revision in {1, 2}
    assert (record.owner == "somebody else") == (record.revision == 2)
    if bench.mark:
        assert int(bench.mark) == record.revision  # the caller knows which
    assert state.locked
    state.close()


async def removable(bench: Bench, state: asyncrt.StateFile, outcome: Outcome) -> None:
    assert state.locked
    await state.destroy()
    state.close()
    assert reality.files(bench.root) == set()


async def unlocked(bench: Bench, state: asyncrt.StateFile, outcome: Outcome) -> None:
    state.close()


async def unrecorded(bench: Bench) -> asyncrt.StateFile:
    bench.mark = ""
    return state_file(bench)


async def unmarked(bench: Bench) -> asyncrt.StateFile:
    bench.mark = ""
    return await locked_record(bench)


scenario("StateFile.lock", lambda b, s: s.lock(), prepare=with_record, check=lock_or_none)
scenario(
    "StateFile.lock_for_new", lambda b, s: s.lock_for_new(), prepare=unrecorded, check=id_or_nothing
)
scenario("StateFile.load", lambda b, s: s.load(), prepare=with_record, check=unlocked)
scenario(
    "StateFile.load_locked", lambda b, s: s.load_locked(), prepare=locked_record, check=unlocked
)
scenario("StateFile.save_locked", save, prepare=unmarked, check=saved_or_not)
scenario(
    "StateFile.clear_locked", lambda b, s: s.clear_locked(), prepare=locked_record, check=removable
)
scenario("StateFile.destroy", lambda b, s: s.destroy(), prepare=locked_record, check=removable)
