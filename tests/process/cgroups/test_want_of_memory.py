"""An end for want of memory is told as one, whoever it was and whoever looks; a kill is none."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

import asyncrt
from asyncrt import Engine
from asyncrt.sandbox import PidWatch
from tests.helpers.cgroups import limited
from tests.helpers.containers import destroyed, gone, shell, sleeper, started, supervisor_of
from tests.helpers.processes import until

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroups("memory", "pids")]

EAT = "b = b''\nwhile True: b += bytes(1 << 20)"


async def test_an_end_for_want_of_memory_is_told_as_one(engine: Engine, either: None) -> None:
    """HAZARDS 24."""
    spec = limited(
        asyncrt.Spec.command([sys.executable, "-I", "-S", "-c", EAT]),
        memory={"limit": 32 << 20, "swap": 32 << 20},
    )
    container = await started(engine, "web", spec)
    result = await container.wait()
    assert (result.signal, result.reason, result.oom_killed) == (signal.SIGKILL, "oom", True)
    assert (await engine.list())[0].exit == result
    await container.destroy()


async def test_a_kill_is_no_want_of_memory(engine: Engine, either: None) -> None:
    container = await started(engine, "web", limited(sleeper(), memory={"limit": 32 << 20}))
    await container.kill("KILL")
    result = await container.wait()
    assert (result.signal, result.reason, result.oom_killed) == (signal.SIGKILL, "signal", False)
    await container.destroy()


async def test_an_exec_that_takes_too_much_memory_ends_alone(engine: Engine, either: None) -> None:
    spec = limited(sleeper(), memory={"limit": 32 << 20, "swap": 32 << 20})
    async with destroyed(await started(engine, "web", spec)) as container:
        process = await container.exec([sys.executable, "-I", "-S", "-c", EAT])
        result = await process.wait()
        assert (result.signal, result.reason, result.oom_killed) == (9, "oom", True)
        process.close()
        process = await container.exec(["/bin/true"])
        result = await process.wait()
        assert (result.exit_code, result.reason, result.oom_killed) == (0, "exit", False)
        process.close()


async def test_the_end_of_init_is_told_by_the_kernels_count_without_a_supervisor(
    engine: Engine,
) -> None:
    script = f"read go; exec {sys.executable} -I -S -c '{EAT}'"
    spec = limited(shell(script), memory={"limit": 32 << 20, "swap": 32 << 20})
    container = await started(engine, "web", spec, stdin=asyncrt.PIPE)
    supervisor = supervisor_of(container, engine.root)
    os.kill(supervisor, signal.SIGKILL)
    await gone(supervisor)
    waiting = asyncio.create_task(container.wait())
    watches = engine._context.watches._open
    await until(lambda: any(isinstance(each, PidWatch) for each in watches.values()), "it waits")
    assert container.stdin is not None
    container.stdin.write(b"go\n")
    result = await waiting
    if result.reason != "unknown":  # as where the kernel tells nobody but the parent (before 6.15)
        assert (result.signal, result.reason, result.oom_killed) == (9, "oom", True)
    await container.destroy()
