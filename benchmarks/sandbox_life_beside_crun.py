"""What does a sandbox's whole life cost beside `crun run` of the same bundle?

As beside runc. Where crun has to be kept from seeing cgroups of version 2 it runs in a mount namespace
without them, started by a process that is there already; asyncrt uses those of both versions.
"""

from __future__ import annotations

from benchmarks import runtimes, sandbox_life, turns
from benchmarks.bundles import Bundle
from benchmarks.question import Answer, Bench, Question, at_most


async def measure(bench: Bench) -> Answer:
    crun = runtimes.crun(bench)
    bundle = Bundle(bench, ["/true"])
    crun.try_out(bundle.path)
    words = ("command", *crun.run(bundle.path))
    async with turns.helper("benchmarks.elsewhere", *words, where=crun.where) as helper:
        return await sandbox_life.beside(
            bench,
            bundle,
            "crun run",
            helper.once,
            rounds=bench.size(quick=50, full=300, smoke=1),
        )


QUESTION = Question(
    name="sandbox-life-beside-crun",
    wanted=(at_most("create+start+wait+destroy of a sandbox / `crun run` of the same", 0.9),),
    measure=measure,
)
