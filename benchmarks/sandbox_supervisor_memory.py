"""How much memory does the supervisor of a sandbox cost?

Unique memory (private pages) of each supervisor of one engine with 100 sandboxes alive, against a fresh
Python process, as of plain containers. What the namespaces cost the kernel isn't among it: see
sandbox-system-memory.
"""

from __future__ import annotations

from benchmarks.bundles import Bundle
from benchmarks.contenders import scratch_engine
from benchmarks.question import Answer, Bench, Question, at_most
from benchmarks.supervisor_memory import ALIVE, beside_fresh_interpreters


async def measure(bench: Bench) -> Answer:
    bundle = Bundle(bench, ["/sleeper"])
    async with scratch_engine(bench.directory, "linux") as engine:
        return await beside_fresh_interpreters(bench, engine, bundle.spec)


QUESTION = Question(
    name="sandbox-supervisor-memory",
    wanted=(
        at_most(
            f"unique memory per supervisor at {ALIVE} alive sandboxes / a fresh `python3 -I -S`",
            0.25,
        ),
    ),
    measure=measure,
)
