"""How much memory does a supervisor cost?

Unique memory (private pages) of each supervisor of one engine with 100 containers alive, against a
fresh Python process that does nothing but sleep. Means are compared: a few that are much bigger than
the rest cost real memory, which a median wouldn't show. A supervisor that the command line started,
whose fork server is gone, shares with nobody and is reported apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator

import msgspec

import asyncrt
from benchmarks import processes, programs
from benchmarks.contenders import in_turns, scratch_engine, start_one
from benchmarks.figures import Figure, Series
from benchmarks.question import Answer, Bench, Question, at_most
from benchmarks.workers import CHECKOUT

ALIVE = 100

_SLEEP = "import sys, time; sys.stdout.write('.'); sys.stdout.flush(); time.sleep(86400)"


async def measure(bench: Bench) -> Answer:
    command = programs.sleeper(bench.directory)
    async with scratch_engine(bench.directory) as engine:
        found = await beside_fresh_interpreters(bench, engine, asyncrt.Spec.command(command))
    lone = await _lone(bench.directory, command)
    alone = Series(name="supervisor, alone", unit="kB", values=[lone])
    return msgspec.structs.replace(found, series=(*found.series, alone))


async def beside_fresh_interpreters(
    bench: Bench, engine: asyncrt.Engine, spec: asyncrt.Spec
) -> Answer:
    """With as many alive as the question asks for; they are the engine's to remove."""
    alive = bench.size(quick=ALIVE, full=ALIVE, smoke=3)
    bench.expect(alive)
    async with _fresh_interpreters() as fresh:
        starts = [start_one(engine, spec) for _ in range(alive)]
        await in_turns(starts, on_done=bench.step)
        pids = processes.supervisors(engine.root)
        supervisors = [processes.unique_kilobytes(pid) for pid in pids]
        interpreters = [processes.unique_kilobytes(pid) for pid in fresh]
        helpers = processes.helpers(os.getpid(), engine.root)
        server = sum(map(processes.unique_kilobytes, helpers))
    ours = Series(name=f"supervisor, one of {alive}", unit="kB", values=supervisors)
    theirs = Series(name="python3 -I -S, asleep", unit="kB", values=interpreters)
    fresh_mean = statistics.fmean(interpreters)
    low, high = ours.quartiles
    figure = Figure(
        value=statistics.fmean(supervisors) / fresh_mean,
        low=low / fresh_mean,
        high=high / fresh_mean,
        p99=ours.p99 / fresh_mean,
    )
    return Answer(
        figures={"ratio": figure},
        series=(
            ours,
            theirs,
            Series(name="fork server and what it keeps ready", unit="kB", values=[server]),
        ),
        notes=(f"a supervisor has {statistics.fmean(supervisors):.0f} kB on average",),
    )


@contextlib.asynccontextmanager
async def _fresh_interpreters(count: int = 5) -> AsyncIterator[list[int]]:
    pipe = asyncio.subprocess.PIPE
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", _SLEEP, stdout=pipe)
        for _ in range(count)
    ]
    try:
        for each in started:
            assert each.stdout is not None
            await each.stdout.readexactly(1)
        yield [each.pid for each in started]
    finally:
        for each in started:
            each.kill()
            await each.wait()


async def _lone(directory: str, command: list[str]) -> float:
    root = tempfile.mkdtemp(prefix="root-", dir=directory)
    async with asyncrt.Engine(root) as engine:
        try:
            arguments = ["--root", root, "run", "--detach", "lone", "--", *command]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "asyncrt", *arguments, cwd=CHECKOUT
            )
            if await process.wait() != 0:
                raise RuntimeError(f"asyncrt run ended with {process.returncode}")
            (pid,) = processes.supervisors(root)
            return processes.unique_kilobytes(pid)
        finally:
            await engine.delete("lone", force=True)


QUESTION = Question(
    name="supervisor-memory",
    wanted=(
        at_most(
            f"unique memory per supervisor at {ALIVE} alive / a fresh `python3 -I -S`",
            0.2,
        ),
    ),
    measure=measure,
)
