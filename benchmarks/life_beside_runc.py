"""What does a container's whole life cost beside `runc run`?

create, start, wait and destroy of a static program by a warm engine, against `runc run` of the same
program in a bundle. runc makes namespaces and a cgroup besides, the host platform doesn't.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import asyncrt
from benchmarks import programs, runtimes
from benchmarks.contenders import fresh_id, live_and_die, run_subprocess, scratch_engine
from benchmarks.question import Answer, Bench, Question, at_most


async def measure(bench: Bench) -> Answer:
    runc = runtimes.runc(bench)
    true = programs.true(bench.directory)
    spec = asyncrt.Spec.command([true])
    bundle = make_bundle(os.path.join(bench.directory, "bundle"), true)
    runc.try_out(bundle)
    async with scratch_engine(bench.directory) as engine:
        found = await bench.interleave(
            {
                "asyncrt": lambda: live_and_die(engine, spec),
                "runc run": lambda: run_subprocess([*runc.run(bundle), fresh_id()]),
            },
            bench.size(quick=20, full=200, smoke=1),
        )
    return Answer.of_seconds(found)


def make_bundle(directory: str, program: str) -> str:
    """A bundle as `runc spec` makes it, with a root file system that holds the one program."""
    rootfs = os.path.join(directory, "rootfs")
    os.makedirs(rootfs)
    shutil.copy(program, os.path.join(rootfs, "true"))
    rootless = ["--rootless"] if os.geteuid() != 0 else []
    subprocess.run(["runc", "spec", *rootless, "--bundle", directory], check=True)
    path = os.path.join(directory, "config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/true"]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)
    return directory


QUESTION = Question(
    name="life-beside-runc",
    wanted=(
        at_most(
            "create+start+wait+destroy of `true` / `runc run` of the same",
            0.25,
        ),
    ),
    measure=measure,
)
