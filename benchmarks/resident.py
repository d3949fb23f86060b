"""A helper process of a given resident size that runs one container's life per line it reads.

`python -m benchmarks.resident MEGABYTES DIRECTORY PROGRAM` prints its resident kilobytes, then for
each line on its standard input the seconds that a life took.
"""

from __future__ import annotations

import asyncio
import os
import sys

import asyncrt
from benchmarks import turns
from benchmarks.contenders import live_and_die, scratch_engine
from benchmarks.processes import resident_kilobytes

_BLOCK = 4096


def fill(megabytes: int) -> list[bytes]:
    """Blocks that make this process at least so big, page by page as an ordinary heap grows."""
    blocks: list[bytes] = []
    # Again and again: the first ones may go where something was freed.
    while (missing := megabytes * 1024 - resident_kilobytes(os.getpid())) > 0:
        blocks += [os.urandom(_BLOCK) for _ in range(missing * 1024 // _BLOCK + 1)]
    return blocks


async def serve(megabytes: int, directory: str, program: str) -> None:
    spec = asyncrt.Spec.command([program])
    async with scratch_engine(directory) as engine:
        ballast = fill(megabytes)
        await turns.serve(lambda: live_and_die(engine, spec), resident_kilobytes(os.getpid()))
        del ballast


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:]))
