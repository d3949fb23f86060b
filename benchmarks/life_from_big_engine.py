"""Does a container's life cost more from a big process than from a small one?

Forking a process costs time for each page it has. An engine never forks itself, so an engine in a
process with 300 MB resident should be as fast as one in a process with 30 MB.
"""

from __future__ import annotations

import contextlib

from benchmarks import programs, turns
from benchmarks.question import Answer, Bench, Question, at_most
from benchmarks.turns import Helper

_BIG, _SMALL = 300, 30


async def measure(bench: Bench) -> Answer:
    true = programs.true(bench.directory)
    async with (
        interpreter(_BIG, bench.directory, true) as big,
        interpreter(_SMALL, bench.directory, true) as small,
    ):
        found = await bench.interleave(
            {f"engine of {megabytes(each)} MB": each.once for each in (big, small)},
            bench.size(quick=100, full=1000, smoke=1),
        )
    return Answer.of_seconds(found)


def interpreter(
    megabytes: int, directory: str, true: str
) -> contextlib.AbstractAsyncContextManager[Helper]:
    """A helper of that size, ready to measure lives."""
    return turns.helper("benchmarks.resident", str(megabytes), directory, true)


def megabytes(helper: Helper) -> int:
    """The resident size that it said it has."""
    return round(helper.greeting / 1024)


QUESTION = Question(
    name="life-from-big-engine",
    wanted=(
        at_most(
            f"the same from an engine with {_BIG} MB resident / with {_SMALL} MB",
            1.2,
        ),
    ),
    measure=measure,
)
