"""A sandbox's whole life, measured in turns with a peer's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks.bundles import Bundle
from benchmarks.contenders import WARM, live_and_die, scratch_engine
from benchmarks.question import Answer, Bench


async def beside(
    bench: Bench, bundle: Bundle, name: str, peer: Callable[[], Awaitable[float]], *, rounds: int
) -> Answer:
    """create, start, wait and destroy by a warm engine on a root in memory / what the peer takes."""
    async with scratch_engine(bench.directory, "linux") as engine:
        for _ in range(WARM):
            await live_and_die(engine, bundle.spec)
        await peer()
        found = await bench.interleave(
            {"asyncrt": lambda: live_and_die(engine, bundle.spec), name: peer}, rounds
        )
    return Answer.of_seconds(found)
