"""One bundle for asyncrt and runc: seven namespaces, mounts, masks, capabilities and seccomp."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import asyncrt
from benchmarks import programs
from benchmarks.contenders import fresh_id
from benchmarks.question import Bench, Skipped

_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup", "user")


class Bundle:
    """A root file system of a few static programs, and a config that both understand."""

    def __init__(self, bench: Bench, args: list[str]) -> None:
        """Make it; raises Skipped where runc can't run it."""
        if os.geteuid() != 0:
            raise Skipped("a sandbox with more than its own user's id needs root")
        self.path = os.path.join(bench.directory, f"bundle-{fresh_id()}")
        self.rootfs = os.path.join(self.path, "rootfs")
        for name in ("dev", "proc", "sys", "tmp"):
            os.makedirs(os.path.join(self.rootfs, name))
        for each in (bench.directory, self.path, self.rootfs):
            os.chmod(each, 0o755)
        shutil.copy(programs.true(bench.directory), os.path.join(self.rootfs, "true"))
        shutil.copy(programs.sleeper(bench.directory)[0], os.path.join(self.rootfs, "sleeper"))
        config = _config(self.rootfs, args)
        with open(os.path.join(self.path, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        self._root = os.path.join(bench.directory, "runc")
        self.spec = asyncrt.Spec.from_bundle(self.path)

    def runc(self, *command: str) -> list[str]:
        """A command line of runc's."""
        return ["runc", "--root", self._root, *command]

    def try_runc(self) -> None:
        """Raise Skipped if runc can't run it here."""
        if shutil.which("runc") is None:
            raise Skipped("runc isn't installed")
        command = self.runc("run", "--bundle", self.path, fresh_id())
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            raise Skipped(f"runc can't run a container here: {said}")

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """The id of one that runc runs for the time of the block."""
        id = fresh_id()
        null = subprocess.DEVNULL
        command = self.runc("run", "--detach", "--bundle", self.path, id)
        subprocess.run(command, stdin=null, stdout=null, stderr=null, check=True)
        try:
            yield id
        finally:
            subprocess.run(self.runc("delete", "--force", id), check=True)


def _config(rootfs: str, args: list[str]) -> dict[str, object]:
    spec = asyncrt.Spec.sandbox(args, rootfs=rootfs, hostname="bench")
    made: dict[str, object] = json.loads(spec.encoded())
    linux = made["linux"]
    assert isinstance(linux, dict)
    whole = [{"containerID": 0, "hostID": 0, "size": 65536}]
    linux["namespaces"] = [{"type": each} for each in _NAMESPACES]
    linux["uidMappings"] = linux["gidMappings"] = whole
    made["root"] = {"path": "rootfs", "readonly": True}
    return made
