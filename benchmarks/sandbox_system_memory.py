"""How much of the machine's memory does a live sandbox take, beside one that runc and conmon keep?

300 sleeping sandboxes: what each of their processes has to itself (private pages of supervisor or conmon,
of the program, and what the asking process grows by), and by how much the kernel's own memory grows
meanwhile (proc(5), meminfo: slab, page tables, stacks, per-cpu, and files in memory): namespaces, mounts,
cgroups, sockets. conmon is what supervises runc's under podman and CRI-O. The kernel counts for the whole
machine: what others have it do meanwhile is in the figure too.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterable

from benchmarks import processes, runtimes
from benchmarks.bundles import Bundle
from benchmarks.conmon import Conmon
from benchmarks.contenders import WARM, in_turns, live_and_die, scratch_engine, start_one
from benchmarks.figures import Series
from benchmarks.question import Answer, Bench, Question, at_most

_ALIVE = 300
_KERNEL = ("Slab", "PageTables", "KernelStack", "Percpu", "Shmem")
_LOOK_SECONDS = 0.1
_STILL_KILOBYTES = 512  # less is no change
_STILL_LOOKS = 3


async def measure(bench: Bench) -> Answer:
    runc = runtimes.runc(bench)
    bundle = Bundle(bench, ["/sleeper"])
    true = Bundle(bench, ["/true"])
    runc.try_out(true.path)
    conmon = Conmon(runc, bundle.path, tempfile.mkdtemp(prefix="conmon-", dir=bench.directory))
    alive = bench.size(quick=100, full=_ALIVE, smoke=2)
    looks = bench.size(quick=20, full=100, smoke=1)
    async with scratch_engine(bench.directory, "linux") as engine:
        for _ in range(WARM):
            await live_and_die(engine, true.spec)

        async def ours() -> float:
            before = await _settled(looks)
            started = await in_turns([start_one(engine, bundle.spec) for _ in range(alive)])
            inits = [(await each.view()).pid for each in started]
            pids = [*processes.supervisors(engine.root), *(pid for pid in inits if pid)]
            taken = await _settled(looks) - before + _own(pids)
            await in_turns([each.destroy() for each in started])
            return taken / alive

        async def theirs() -> float:
            before = await _settled(looks)
            started = await in_turns([conmon.start() for _ in range(alive)], at_once=4)
            taken = (
                await _settled(looks)
                - before
                + _own([pid for each in started for pid in each.pids])
            )
            await in_turns([each.end() for each in started], at_once=4)
            return taken / alive

        found = await bench.interleave(
            {"asyncrt": ours, "runc and conmon": theirs}, bench.size(quick=1, full=3, smoke=1)
        )
    series = (Series(name=name, unit="kB", values=values) for name, values in found.items())
    return Answer.of_ratio(*series, notes=(f"{alive} alive at once",))


async def _settled(looks: int) -> float:
    """Kilobytes of the kernel and of this process, once they stand still.

    The kernel tidies up behind who has ended.
    """
    seen: list[float] = []
    for _ in range(looks):
        seen = [*seen[1 - _STILL_LOOKS :], _kernel()]
        if len(seen) == _STILL_LOOKS and max(seen) - min(seen) < _STILL_KILOBYTES:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    return seen[-1] + _own([os.getpid()])


def _kernel() -> float:
    with open("/proc/meminfo", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return float(sum(int(fields[name].split()[0]) for name in _KERNEL if name in fields))


def _own(pids: Iterable[int]) -> float:
    return sum(map(processes.unique_kilobytes, pids))


QUESTION = Question(
    name="sandbox-system-memory",
    wanted=(
        at_most(
            f"the system's memory per live sandbox at {_ALIVE} alive / the same with runc and conmon",
            1.5,
        ),
    ),
    measure=measure,
)
