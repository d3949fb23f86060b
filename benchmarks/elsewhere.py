"""A helper process that runs a contender which has to be run by another user, or with other mounts.

`python -m benchmarks.elsewhere life DIRECTORY BUNDLE`: the whole life of a sandbox of that bundle, by
a warm engine with a root in that directory.
`python -m benchmarks.elsewhere command WORD ...`: a command, with a fresh id for its last word.
"""

from __future__ import annotations

import asyncio
import sys

import asyncrt
from benchmarks.contenders import (
    WARM,
    fresh_id,
    live_and_die,
    run_subprocess,
    scratch_engine,
)
from benchmarks.turns import serve


async def life(directory: str, bundle: str) -> None:
    spec = asyncrt.Spec.from_bundle(bundle)
    async with scratch_engine(directory, "linux") as engine:
        for _ in range(WARM):
            await live_and_die(engine, spec)
        await serve(lambda: live_and_die(engine, spec))


async def command(*words: str) -> None:
    async def once() -> float:
        return await run_subprocess([*words, fresh_id()])

    await once()
    await serve(once)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    asyncio.run(life(*arguments) if what == "life" else command(*arguments))
