"""What does a sandbox's whole life cost beside bubblewrap with the same root and mounts?

bubblewrap keeps nothing, supervises nothing and makes no cgroup: it is the floor for a program that
sets up namespaces from the shell.
"""

from __future__ import annotations

import shutil

from benchmarks.bundles import Bundle
from benchmarks.contenders import WARM, live_and_die, run_subprocess, scratch_engine
from benchmarks.figures import Series
from benchmarks.question import Answer, Bench, Question, Skipped, at_most


async def measure(bench: Bench) -> Answer:
    if shutil.which("bwrap") is None:
        raise Skipped("bubblewrap isn't installed")
    bundle = Bundle(bench, ["/true"])
    command = [
        *("bwrap", "--unshare-all", "--hostname", "bench", "--ro-bind", bundle.rootfs, "/"),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/sys", "/true"),
    ]
    async with scratch_engine(bench.directory, "linux") as engine:
        for _ in range(WARM):
            await live_and_die(engine, bundle.spec)
        await run_subprocess(command)
        found = await bench.interleave(
            {
                "asyncrt": lambda: live_and_die(engine, bundle.spec),
                "bwrap": lambda: run_subprocess(command),
            },
            bench.size(quick=30, full=300, smoke=1),
        )
    ours, theirs = (
        Series(name=name, unit="ms", values=[each * 1e3 for each in values])
        for name, values in found.items()
    )
    return Answer.of_ratio(ours, theirs)


QUESTION = Question(
    name="sandbox-life-beside-bwrap",
    wanted=(at_most("create+start+wait+destroy of a sandbox / bubblewrap of the same", 1.8),),
    measure=measure,
)
