"""What does a program in a running sandbox cost, beside `runc exec` into the same?"""

from __future__ import annotations

import asyncrt
from benchmarks.bundles import Bundle
from benchmarks.contenders import fresh_id, run_subprocess, scratch_engine
from benchmarks.exec_beside_subprocess import exec_once
from benchmarks.figures import Series
from benchmarks.question import Answer, Bench, Question, at_most


async def measure(bench: Bench) -> Answer:
    bundle = Bundle(bench, ["/sleeper"])
    Bundle(bench, ["/true"]).try_runc()
    null = asyncrt.DEVNULL
    async with (
        scratch_engine(bench.directory, "linux") as engine,
        engine.running(fresh_id(), spec=bundle.spec, stdout=null, stderr=null) as container,
    ):
        with bundle.running() as id:
            await exec_once(container, ["/true"])
            found = await bench.interleave(
                {
                    "exec in a sandbox": lambda: exec_once(container, ["/true"]),
                    "runc exec": lambda: run_subprocess(bundle.runc("exec", id, "/true")),
                },
                bench.size(quick=30, full=300, smoke=1),
            )
    ours, theirs = (
        Series(name=name, unit="ms", values=[each * 1e3 for each in values])
        for name, values in found.items()
    )
    return Answer.of_ratio(ours, theirs)


QUESTION = Question(
    name="sandbox-exec-beside-runc",
    wanted=(at_most("exec+wait of `true` in a sandbox / `runc exec` of the same", 0.4),),
    measure=measure,
)
