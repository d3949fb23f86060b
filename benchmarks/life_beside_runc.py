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
from benchmarks import programs
from benchmarks.contenders import fresh_id, live_and_die, run_subprocess, scratch_engine
from benchmarks.figures import Series
from benchmarks.question import Answer, Bench, Question, Skipped, at_most


async def measure(bench: Bench) -> Answer:
    if shutil.which("runc") is None:
        raise Skipped("runc isn't installed")
    true = programs.true(bench.directory)
    spec = asyncrt.Spec.command([true])
    bundle = make_bundle(os.path.join(bench.directory, "bundle"), true)
    root = os.path.join(bench.directory, "runc")

    def runc() -> list[str]:
        return ["runc", "--root", root, "run", "--bundle", bundle, fresh_id()]

    tried = subprocess.run(
        runc(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        said = (tried.stderr.strip() or f"exit status {tried.returncode}").splitlines()[-1]
        raise Skipped(f"runc can't run a container here: {said}")
    async with scratch_engine(bench.directory) as engine:
        found = await bench.interleave(
            {
                "asyncrt": lambda: live_and_die(engine, spec),
                "runc run": lambda: run_subprocess(runc()),
            },
            bench.size(quick=20, full=200, smoke=1),
        )
    ours, theirs = (
        Series(name=name, unit="ms", values=[each * 1e3 for each in values])
        for name, values in found.items()
    )
    return Answer.of_ratio(ours, theirs)


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
