"""What is left of 10,000 waiters that are cancelled at once?

They wait for a lock that somebody else holds. Counted are the seconds until all of them are gone, the
threads that are still there then and a while after the release, and grants that reached nobody: a
lock that nobody holds must be free, and in 30 waiters of which some are cancelled in the instant of a
release the others must all get it. Waiters that have a thread each are fewer, for the machine's sake.
"""

from __future__ import annotations

import itertools
import os

from benchmarks import locks
from benchmarks.figures import Figure, Series, middle
from benchmarks.question import Answer, Bench, Question, at_most, shown
from benchmarks.tasks import Storm, Stormed
from benchmarks.workers import crew, start_time

_WAITERS = 10_000
_IN_THREADS = 200  # of a peer with a thread for each
_PATIENCE = 6.0  # seconds that threads are given to end, after the release
_PEERS = {
    locks.ONE_THREAD: _WAITERS,
    locks.THREAD_EACH: _IN_THREADS,
    locks.TO_THREAD: _WAITERS,
    locks.FILELOCK: 1000,
    locks.POLLING[10]: _WAITERS,
}
_files = itertools.count()


async def measure(bench: Bench) -> Answer:
    waiters = {locks.OURS: bench.size(quick=_WAITERS, full=_WAITERS, smoke=100)}
    peers = [locks.ONE_THREAD, locks.THREAD_EACH] if bench.quick else locks.installed(*_PEERS)
    if not bench.smoke:
        waiters |= {name: _PEERS[name] for name in peers}
    rounds = bench.rounds()
    found: dict[str, list[Stormed]] = {name: [] for name in waiters}
    bench.expect(rounds)
    for number in range(rounds):
        for name, count in waiters.items():
            if bench.quick and number and name != locks.OURS:
                continue  # once shows it
            last = number == rounds - 1 and not bench.smoke and name == locks.OURS
            task = Storm(
                lock=name,
                path=os.path.join(bench.directory, f"stormed-{next(_files)}"),
                start=start_time(),
                waiters=count,
                patience=_PATIENCE if last else 0,
                storms=bench.size(quick=20, full=500, smoke=3) if name == locks.OURS else 0,
                seed=number,
            )
            async with crew(1) as (worker,):
                found[name].append(await worker.do(task, Stormed))
        bench.step()
    return _answer(found, waiters)


def _answer(found: dict[str, list[Stormed]], waiters: dict[str, int]) -> Answer:
    ours = found[locks.OURS]
    figures = {
        "threads": Figure(value=max(each.threads for each in ours)),
        "lost": Figure(value=sum(each.lost for each in ours)),
        "cancelling": middle([each.cancelling * 1e3 for each in ours]),
    }
    lacking = {}
    later = [each.threads_later for each in ours if each.threads_later is not None]
    if later:
        figures["threads-later"] = Figure(value=max(later))
    else:
        lacking["threads-later"] = "a smoke test doesn't wait for it"
    series = []
    for name, each in found.items():
        label = f"{name}, {waiters[name]:,} waiters"
        milliseconds = [one.cancelling * 1e3 for one in each]
        threads = [float(one.threads) for one in each]
        lost = [float(one.lost) for one in each]
        series += [
            Series(name=f"{label}: cancelling", unit="ms", values=milliseconds),
            Series(name=f"{label}: threads afterwards", unit="", values=threads),
            Series(name=f"{label}: lost grants", unit="", values=lost),
        ]
    return Answer(figures=figures, lacking=lacking, series=tuple(series))


QUESTION = Question(
    name="lock-cancel-storm",
    wanted=(
        at_most(
            f"{_WAITERS:,} waiters cancelled: threads left while it is held",
            1,
            key="threads",
            unit="threads",
        ),
        at_most("threads left after its release", 0, key="threads-later", unit="threads"),
        at_most("lost grants", 0, key="lost", unit="grants"),
        shown("time until all are gone", key="cancelling", unit="ms"),
    ),
    measure=measure,
)
