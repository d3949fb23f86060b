"""What does a sandbox's whole life cost beside bubblewrap with the same root and mounts?

bubblewrap keeps nothing, supervises nothing and makes no cgroup: it is the floor for a program that
sets up namespaces from the shell.
"""

from __future__ import annotations

import shutil

from benchmarks import sandbox_life
from benchmarks.bundles import Bundle
from benchmarks.contenders import run_subprocess
from benchmarks.question import Answer, Bench, Question, Skipped, at_most


async def measure(bench: Bench) -> Answer:
    if shutil.which("bwrap") is None:
        raise Skipped("bwrap isn't installed: apt-get install bubblewrap")
    bundle = Bundle(bench, ["/true"])
    command = [
        *("bwrap", "--unshare-all", "--hostname", "bench", "--ro-bind", bundle.rootfs, "/"),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/sys", "/true"),
    ]
    return await sandbox_life.beside(
        bench,
        bundle,
        "bwrap",
        lambda: run_subprocess(command),
        rounds=bench.size(quick=30, full=300, smoke=1),
    )


QUESTION = Question(
    name="sandbox-life-beside-bwrap",
    wanted=(at_most("create+start+wait+destroy of a sandbox / bubblewrap of the same", 1.8),),
    measure=measure,
)
