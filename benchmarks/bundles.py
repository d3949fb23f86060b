"""One bundle for asyncrt and its peers: seven namespaces, mounts, masks, capabilities and seccomp."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import asyncrt
from benchmarks import programs
from benchmarks.contenders import fresh_id
from benchmarks.question import Bench, Skipped
from benchmarks.runtimes import Runtime

_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup", "user")
_VERSION = "1.0.2"  # crun 1.8 takes no later one

Map = tuple[int, int, int]  # the first id inside, the first outside, how many

WHOLE: tuple[Map, ...] = ((0, 0, 65536),)


class Bundle:
    """A root file system of a few static programs, and a config that all of them understand."""

    def __init__(
        self,
        bench: Bench,
        args: list[str],
        *,
        uids: Sequence[Map] = WHOLE,
        gids: Sequence[Map] = WHOLE,
        for_anybody: bool = False,
    ) -> None:
        """Make it. Raises Skipped where nobody could run it.

        `for_anybody`: without the two mounts that need more than one id, or a cgroup.
        """
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
        config["linux"]["uidMappings"] = _mappings(uids)
        config["linux"]["gidMappings"] = _mappings(gids)
        if for_anybody:
            mounts = [each for each in config["mounts"] if each["type"] != "cgroup"]
            config["mounts"] = list(map(_of_one_id, mounts))
        with open(os.path.join(self.path, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        self.spec = asyncrt.Spec.from_bundle(self.path)

    @contextlib.contextmanager
    def running(self, runtime: Runtime) -> Iterator[str]:
        """The id of one that the runtime runs for the time of the block."""
        id = fresh_id()
        null = subprocess.DEVNULL
        command = runtime.command("run", "--detach", "--bundle", self.path, id)
        subprocess.run(command, stdin=null, stdout=null, stderr=null, check=True)
        try:
            yield id
        finally:
            subprocess.run(runtime.command("delete", "--force", id), check=True)


def _config(rootfs: str, args: list[str]) -> dict[str, Any]:
    spec = asyncrt.Spec.sandbox(args, rootfs=rootfs, hostname="bench")
    made: dict[str, Any] = json.loads(spec.encoded())
    made["linux"]["namespaces"] = [{"type": each} for each in _NAMESPACES]
    made["root"] = {"path": rootfs, "readonly": True}
    made["ociVersion"] = _VERSION
    return made


def _mappings(maps: Sequence[Map]) -> list[dict[str, int]]:
    return [
        {"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in maps
    ]


def _of_one_id(mount: dict[str, Any]) -> dict[str, Any]:
    options = [each for each in mount.get("options", []) if not each.startswith("gid=")]
    return {**mount, "options": options}
