"""What does a sandbox's whole life cost beside `runsc run` of the same bundle?

As beside runc. runsc's sandbox is a kernel of its own, which keeps more from the host than namespaces
can; it runs here by ptrace, without cgroups and network.
"""

from __future__ import annotations

from benchmarks import runtimes, sandbox_life
from benchmarks.bundles import Bundle
from benchmarks.contenders import fresh_id, run_subprocess
from benchmarks.question import Answer, Bench, Question, at_most


async def measure(bench: Bench) -> Answer:
    runsc = runtimes.runsc(bench)
    bundle = Bundle(bench, ["/true"])
    runsc.try_out(bundle.path)
    with runsc.null() as null:
        return await sandbox_life.beside(
            bench,
            bundle,
            "runsc run, by ptrace",
            lambda: run_subprocess([*runsc.run(bundle.path), fresh_id()], null),
            rounds=bench.size(quick=20, full=100, smoke=1),
        )


QUESTION = Question(
    name="sandbox-life-beside-runsc",
    wanted=(
        at_most("create+start+wait+destroy of a sandbox / `runsc run` of the same (ptrace)", 0.08),
    ),
    measure=measure,
)
