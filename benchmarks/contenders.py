"""What is measured: asyncrt's way through a life, and its peers' ways through the same."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import IO, Any, TypeVar

import asyncrt

T = TypeVar("T")

WARM = 5
_numbers = itertools.count()


def fresh_id(prefix: str = "bench") -> str:
    """An id that nothing on this machine has: runtimes name cgroups by it."""
    return f"{prefix}-{os.getpid()}-{next(_numbers)}"


@contextlib.asynccontextmanager
async def scratch_engine(directory: str, platform: str = "host") -> AsyncIterator[asyncrt.Engine]:
    """An engine with a root of its own, warm (its fork server runs); at the end all of it goes."""
    root = tempfile.mkdtemp(prefix="root-", dir=directory)
    async with asyncrt.Engine(root, platform=platform) as engine:
        try:
            if platform == "host":
                spec = asyncrt.Spec.command(["/bin/true"])
                for _ in range(WARM):
                    await live_and_die(engine, spec)
            yield engine
        finally:
            views = await engine.list()
            await in_turns([engine.delete(each.id, force=True) for each in views])


async def live_and_die(engine: asyncrt.Engine, spec: asyncrt.Spec) -> float:
    """Seconds for create, start, wait and destroy."""
    began = time.perf_counter()
    container = await engine.create(
        fresh_id(), spec=spec, stdout=asyncrt.DEVNULL, stderr=asyncrt.DEVNULL
    )
    await container.start()
    await container.wait()
    await container.destroy()
    return time.perf_counter() - began


async def start_one(engine: asyncrt.Engine, spec: asyncrt.Spec) -> asyncrt.Container:
    """A new running container."""
    container = await engine.create(
        fresh_id(), spec=spec, stdout=asyncrt.DEVNULL, stderr=asyncrt.DEVNULL
    )
    await container.start()
    return container


async def run_subprocess(
    command: Sequence[str], null: int | IO[bytes] = asyncio.subprocess.DEVNULL
) -> float:
    """Seconds for a plain asyncio subprocess, from before its start to after its end."""
    began = time.perf_counter()
    process = await start_subprocess(command, null)
    code = await process.wait()
    seconds = time.perf_counter() - began
    if code != 0:
        raise RuntimeError(f"{os.path.basename(command[0])} ended with {code}")
    return seconds


async def start_subprocess(
    command: Sequence[str], null: int | IO[bytes] = asyncio.subprocess.DEVNULL
) -> asyncio.subprocess.Process:
    """A plain asyncio subprocess with no streams, or with that for each of them."""
    return await asyncio.create_subprocess_exec(*command, stdin=null, stdout=null, stderr=null)


async def in_turns(
    work: Iterable[Coroutine[Any, Any, T]],
    *,
    at_once: int = 16,
    on_done: Callable[[], None] = lambda: None,
) -> list[T]:
    """The results of all, a few at a time: for what surrounds a measurement."""
    turns = asyncio.Semaphore(at_once)

    async def one(each: Coroutine[Any, Any, T]) -> T:
        async with turns:
            result = await each
        on_done()
        return result

    return await asyncio.gather(*(one(each) for each in work))
