"""What does `kill --all` of a thousand processes that fork cost, beside cgroup.kill by hand?"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncrt
from asyncrt import _cgroups
from asyncrt.platforms.cgroups.machine import discover
from benchmarks.contenders import fresh_id, scratch_engine
from benchmarks.question import Answer, Bench, Question, Skipped, at_most

_NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
_LEFT_SECONDS = 30.0

# So many children, each of which forks another that ends, again and again; a line says that all do.
_FORKS = """
import os, sys, time
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        while True:
            if os.fork() == 0:
                os._exit(0)
            os.wait()
            time.sleep(0.5)
os.write(1, b"all\\n")
time.sleep(1000)
"""


async def measure(bench: Bench) -> Answer:
    machine = discover()
    if os.geteuid() != 0 or machine.v2 is None:
        raise Skipped("needs root and cgroups of version 2")
    count = bench.size(quick=1000, full=1000, smoke=5)
    command = [sys.executable, "-I", "-S", "-c", _FORKS, str(count)]
    top = machine.v2.top

    async with scratch_engine(bench.directory) as engine:

        async def ours() -> float:
            # A sandbox's root container on the host has a cgroup, of the same name at any time.
            spec = asyncrt.Spec.command(command)
            sandbox = await engine.create_sandbox(
                fresh_id(), spec=spec, stdout=asyncrt.PIPE, stderr=asyncrt.DEVNULL
            )
            await sandbox.root.start()
            assert sandbox.root.stdout is not None
            await sandbox.root.stdout.readline()
            began = time.perf_counter()
            await sandbox.root.kill("KILL", all=True)
            seconds = time.perf_counter() - began
            await sandbox.destroy()
            return seconds

        async def by_hand() -> float:
            async with _in_cgroup(f"{top}/{fresh_id()}", command) as cgroup:
                began = time.perf_counter()
                _cgroups.write(f"{cgroup}/cgroup.kill", "1")
                await asyncio.to_thread(_cgroups.until_empty, cgroup, _LEFT_SECONDS)
                return time.perf_counter() - began

        found = await bench.interleave(
            {"kill --all": ours, "cgroup.kill by hand": by_hand},
            bench.size(quick=5, full=20, smoke=1),
        )
    return Answer.of_seconds(found)


@asynccontextmanager
async def _in_cgroup(cgroup: str, command: list[str]) -> AsyncIterator[str]:
    os.mkdir(cgroup)
    shell = f'echo 0 >"{cgroup}/cgroup.procs" && exec "$@"'
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        shell,
        "sh",
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield cgroup
    finally:
        _cgroups.write(f"{cgroup}/cgroup.kill", "1")
        await process.wait()
        await asyncio.to_thread(_cgroups.until_empty, cgroup, _LEFT_SECONDS)
        _cgroups.remove(cgroup)


QUESTION = Question(
    name="kill-all-forking",
    wanted=(at_most("kill --all of 1,000 processes that fork / cgroup.kill by hand", 3),),
    measure=measure,
)
