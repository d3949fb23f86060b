"""Do the peers exclude, do the workers measure what they are told to, is a lost grant seen?"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from benchmarks import go_peer, locks, worker
from benchmarks.contention import SHARES, cell
from benchmarks.lock_handoff import between
from benchmarks.peers import is_there, peer
from benchmarks.question import Skipped
from benchmarks.tasks import Contend, Contended, Crowd, Give, Storm, Stormed, Take
from benchmarks.workers import crew, start_time

_ASYNC = (
    locks.OURS,
    locks.TO_THREAD,
    locks.THREAD_EACH,
    locks.ONE_THREAD,
    locks.ONE_THREAD_INLINE,
    locks.POLLING[1],
    locks.FILELOCK,
    locks.MEMORY,
)


@pytest.mark.parametrize("kind", _ASYNC)
async def test_every_lock_that_is_compared_excludes_the_tasks_of_a_process(
    kind: str, tmp_path: Path
) -> None:
    if kind not in locks.installed(kind):
        return  # the benchmark extra isn't here; its absence has a test of its own
    inside = most = 0
    with locks.family(kind, str(tmp_path / "lock")) as make:

        async def work() -> None:
            nonlocal inside, most
            lock = make()
            for _ in range(3):
                await lock.acquire()
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1
                await lock.release()

        await asyncio.gather(*(work() for _ in range(4)))
    assert most == 1


def test_a_peer_that_is_not_installed_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "filelock", None)
    assert not is_there("filelock")
    with pytest.raises(Skipped, match=r"filelock isn't installed: pip install '\.\[bench\]'"):
        peer("filelock")
    assert locks.installed(locks.OURS, locks.FILELOCK) == [locks.OURS]


def test_without_go_the_peer_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Skipped, match="no Go toolchain"):
        go_peer.build(str(tmp_path))


def test_a_cell_puts_the_processes_together() -> None:
    found = cell(
        [
            Contended(counts=[3, 1], waits=[1000, 1000, 2000, 4000], cpu=0.5),
            Contended(counts=[4, 4], waits=[8000] * 8, cpu=0.7),
        ],
        2.0,
    )
    assert found.throughput == 6
    assert found.longest == 8
    assert found.p50 == 8
    assert found.jain_process == 0.9  # of 4 and 8
    assert found.jain_task == pytest.approx(144 / 4 / 42)
    assert found.cpu == pytest.approx(100)
    assert len(found.waits) == len(SHARES)


def test_a_process_that_never_came_in_waited_all_the_time() -> None:
    found = cell([Contended(counts=[0], waits=[], cpu=0.0)], 0.5)
    assert (found.throughput, found.longest, found.waits) == (0, 500, [])


def test_a_hand_over_that_came_before_the_release_is_none() -> None:
    assert between([1.0, 2.0, 3.0], [1.5, 1.9, 3.25]) == [0.5, 0.25]


@pytest.mark.parametrize("kind", [locks.OURS, locks.PORTALOCKER])
@pytest.mark.leaves("lock*")
async def test_workers_do_what_they_are_told(kind: str, root: str) -> None:
    path = f"{root}/lock"
    async with crew(2) as (one, other):
        task = Contend(lock=kind, path=path, start=start_time(), seconds=0.1, tasks=1, hold=0)
        one.send(task)
        other.send(task)
        found = [await each.answer(Contended) for each in (one, other)]
        # On a busy machine one of them may not come in at all.
        assert sum(sum(each.counts) for each in found) > 0
        for each in found:
            assert sum(each.counts) <= len(each.waits) <= sum(each.counts) + 1
            assert each.cpu > 0
        start = start_time()
        one.send(Give(core=0, lock=kind, path=path, start=start, take_at=[0.0], release_at=[0.05]))
        other.send(Take(core=1, lock=kind, path=path, start=start, ask_at=[0.02]))
        (released,) = await one.answer(list[float])
        (taken,) = await other.answer(list[float])
        assert start + 0.05 <= released < taken


@pytest.mark.leaves("lock*")
async def test_waiters_of_ours_take_one_thread_and_lose_no_grant(root: str) -> None:
    async with crew(1) as (each,):
        storm = Storm(
            lock=locks.OURS, path=f"{root}/lock", start=0, waiters=50, patience=10, storms=20
        )
        found = await each.do(storm, Stormed)
        assert (found.threads, found.threads_later, found.lost) == (1, 0, 0)
        crowd = Crowd(lock=locks.OURS, path=f"{root}/lock", start=0, waiters=100)
        assert await each.do(crowd, float) >= 0


@pytest.mark.leaves("lock*")
async def test_a_grant_that_nobody_has_is_counted_as_lost(root: str) -> None:
    """The hazard itself: a thread that goes on behind its cancelled waiter's back."""
    async with crew(1) as (each,):
        storm = Storm(lock=locks.THREAD_EACH, path=f"{root}/lock", start=0, waiters=5)
        found = await each.do(storm, Stormed)
        assert found.lost == 1
        assert found.threads > 1


def test_what_blocks_its_process_is_asked_for_no_storm(tmp_path: Path) -> None:
    task = Storm(lock=locks.FLOCK, path=str(tmp_path / "lock"), start=time.monotonic(), waiters=2)
    with pytest.raises(ValueError, match="blocks its process"):
        worker.do(task)
