"""What does a sandbox's whole life cost beside `runc run` of the same bundle?

create, start, wait and destroy of a static program by a warm engine on a root in memory, with seven
namespaces, mounts, masks, capabilities, seccomp and cgroups, against `runc run` of that bundle.
"""

from __future__ import annotations

from benchmarks import runtimes, sandbox_life
from benchmarks.bundles import Bundle
from benchmarks.contenders import fresh_id, run_subprocess
from benchmarks.question import Answer, Bench, Question, at_most


async def measure(bench: Bench) -> Answer:
    runc = runtimes.runc(bench)
    bundle = Bundle(bench, ["/true"])
    runc.try_out(bundle.path)
    return await sandbox_life.beside(
        bench,
        bundle,
        "runc run",
        lambda: run_subprocess([*runc.run(bundle.path), fresh_id()]),
        rounds=bench.size(quick=20, full=200, smoke=1),
    )


QUESTION = Question(
    name="sandbox-life-beside-runc",
    wanted=(at_most("create+start+wait+destroy of a sandbox / `runc run` of the same", 0.3),),
    measure=measure,
)
