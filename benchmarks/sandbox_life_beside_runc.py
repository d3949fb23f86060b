"""What does a sandbox's whole life cost beside `runc run` of the same bundle?

create, start, wait and destroy of a static program by a warm engine on a root in memory, with seven
namespaces, mounts, masks, capabilities, seccomp and cgroups, against `runc run` of that bundle.
"""

from __future__ import annotations

from benchmarks.bundles import Bundle
from benchmarks.contenders import WARM, fresh_id, live_and_die, run_subprocess, scratch_engine
from benchmarks.figures import Series
from benchmarks.question import Answer, Bench, Question, at_most


async def measure(bench: Bench) -> Answer:
    bundle = Bundle(bench, ["/true"])
    bundle.try_runc()
    async with scratch_engine(bench.directory, "linux") as engine:
        for _ in range(WARM):
            await live_and_die(engine, bundle.spec)
        found = await bench.interleave(
            {
                "asyncrt": lambda: live_and_die(engine, bundle.spec),
                "runc run": lambda: run_subprocess(
                    bundle.runc("run", "--bundle", bundle.path, fresh_id())
                ),
            },
            bench.size(quick=20, full=200, smoke=1),
        )
    ours, theirs = (
        Series(name=name, unit="ms", values=[each * 1e3 for each in values])
        for name, values in found.items()
    )
    return Answer.of_ratio(ours, theirs)


QUESTION = Question(
    name="sandbox-life-beside-runc",
    wanted=(at_most("create+start+wait+destroy of a sandbox / `runc run` of the same", 0.3),),
    measure=measure,
)
