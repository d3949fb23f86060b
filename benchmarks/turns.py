"""Helper processes that measure once for each line that they read: both sides of that.

For a contender that needs a process of its own, of another size, user or mount namespace: it stays,
so that starting it isn't measured, and does nothing in the others' turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from benchmarks.workers import CHECKOUT


async def serve(measure: Callable[[], Awaitable[float]], greeting: float = 0) -> None:
    """In the helper: print the greeting, then for each line what a measurement returned."""
    print(greeting, flush=True)
    # Reading blocks the loop, on purpose: nothing of this process runs in another one's turn.
    for _ in sys.stdin:
        print(await measure(), flush=True)


class Helper:
    """A helper that is ready, and what it greeted with."""

    def __init__(self, process: asyncio.subprocess.Process, greeting: float) -> None:
        self.process = process
        self.greeting = greeting

    async def once(self) -> float:
        """Have it measure once."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        return await _answer(self.process)


@contextlib.asynccontextmanager
async def helper(module: str, *arguments: str, where: Sequence[str] = ()) -> AsyncIterator[Helper]:
    """One that runs a module of ours, which calls `serve`; at the end it is gone.

    `where` is a command line that executes the one behind it, as someone or somewhere else.
    """
    process = await asyncio.create_subprocess_exec(
        *(*where, sys.executable, "-B", "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=CHECKOUT,
    )
    assert process.stdin is not None
    try:
        yield Helper(process, await _answer(process))
    finally:
        process.stdin.close()
        await process.wait()


async def _answer(process: asyncio.subprocess.Process) -> float:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a helper ended with {await process.wait()}")
    return float(line)
