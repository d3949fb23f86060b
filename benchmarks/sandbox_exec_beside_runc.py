"""What does a program in a running sandbox cost, beside `runc exec` into the same?"""

from __future__ import annotations

import asyncrt
from benchmarks import runtimes
from benchmarks.bundles import Bundle
from benchmarks.contenders import fresh_id, run_subprocess, scratch_engine
from benchmarks.exec_beside_subprocess import exec_once
from benchmarks.question import Answer, Bench, Question, at_most


async def measure(bench: Bench) -> Answer:
    runc = runtimes.runc(bench)
    bundle = Bundle(bench, ["/sleeper"])
    runc.try_out(Bundle(bench, ["/true"]).path)
    null = asyncrt.DEVNULL
    async with (
        scratch_engine(bench.directory, "linux") as engine,
        engine.running(fresh_id(), spec=bundle.spec, stdout=null, stderr=null) as container,
    ):
        with bundle.running(runc) as id:
            await exec_once(container, ["/true"])
            found = await bench.interleave(
                {
                    "exec in a sandbox": lambda: exec_once(container, ["/true"]),
                    "runc exec": lambda: run_subprocess(runc.command("exec", id, "/true")),
                },
                bench.size(quick=30, full=300, smoke=1),
            )
    return Answer.of_seconds(found)


QUESTION = Question(
    name="sandbox-exec-beside-runc",
    wanted=(at_most("exec+wait of `true` in a sandbox / `runc exec` of the same", 0.4),),
    measure=measure,
)
