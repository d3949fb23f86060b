"""Processes that do what they are told, one command at a time: the asking side of `worker`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from benchmarks.tasks import Task

T = TypeVar("T")

# Not resolved: a comparison makes a directory of links, to the asyncrt of one side and to one suite.
CHECKOUT = str(Path(__file__).absolute().parents[1])

_LEAD = 0.03  # seconds from a command to its start, so that every process is there


class Worker:
    """One such process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def send(self, task: Task) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(task) + b"\n")

    async def answer(self, kind: type[T]) -> T:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with {await self._process.wait()}")
        return msgspec.json.decode(line, type=kind)

    async def do(self, task: Task, kind: type[T]) -> T:
        self.send(task)
        return await self.answer(kind)


@contextlib.asynccontextmanager
async def crew(count: int) -> AsyncIterator[list[Worker]]:
    """So many workers, ready; at the end they are gone."""
    processes = [await _start() for _ in range(count)]
    try:
        workers = [Worker(each) for each in processes]
        for each in workers:
            await each.answer(bool)
        yield workers
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in processes:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 5)
            if process.returncode is None:  # a peer whose threads never end
                process.kill()
                await process.wait()


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.worker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=CHECKOUT,
        limit=1 << 26,  # an answer is one line, with every wait in it
    )


def start_time() -> float:
    """When workers that are told now should begin: the clock is the same in all processes."""
    return time.monotonic() + _LEAD


async def together(workers: Sequence[Worker], tasks: Sequence[Task], kind: type[T]) -> list[T]:
    """What the workers answer; the tasks say themselves when to begin."""
    for worker, task in zip(workers, tasks, strict=True):
        worker.send(task)
    return [await worker.answer(kind) for worker in workers]
