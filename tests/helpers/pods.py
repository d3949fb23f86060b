"""Sandboxes with several containers for tests, on each platform."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from asyncrt import _paths
from tests.helpers import sandboxes
from tests.helpers.containers import shell, sleeper

if TYPE_CHECKING:
    from asyncrt import Container, Engine, Sandbox, Spec

CRI = "io.kubernetes.cri"
TYPE, ID = f"{CRI}.container-type", f"{CRI}.sandbox-id"


class Pods:
    """What makes them on one platform: "host" or "linux", for root."""

    def __init__(self, engine: Engine, platform: str, rootfs: str) -> None:
        self.engine = engine
        self.root = engine.root
        self.platform = platform
        self._rootfs = rootfs

    def sleeper(self, **options: Any) -> Spec:
        """Runs until it is killed; options as Spec.command takes them."""
        return self._adapted(sleeper(**options))

    def shell(self, script: str, *args: str, **options: Any) -> Spec:
        """Runs a script; `args` are its $1, $2, …"""
        return self._adapted(shell(script, *args, **options))

    def _adapted(self, spec: Spec) -> Spec:
        if self.platform == "host":
            return spec
        config = spec.config
        assert config.process is not None
        made = sandboxes.config(self._rootfs, list(config.process.args or ()))
        if config.process.oom_score_adj is not None:
            made["process"]["oomScoreAdj"] = config.process.oom_score_adj
        if config.annotations:
            made["annotations"] = dict(config.annotations)
        return sandboxes.spec(made)

    async def sandbox(self, id: str = "pod", **options: Any) -> Sandbox:
        """One whose root container runs."""
        found = await self.engine.create_sandbox(id, spec=self.sleeper(), **options)
        await found.root.start()
        return found

    async def running(
        self, sandbox: Sandbox, id: str, spec: Spec | None = None, **options: Any
    ) -> Container:
        """A running container in it."""
        container = await sandbox.create(id, spec=spec or self.sleeper(), **options)
        await container.start()
        return container


def in_sandbox(sandbox_id: str) -> dict[str, str]:
    """The annotations of a container in that one."""
    return {TYPE: "container", ID: sandbox_id}


def members(root: str, sandbox_id: str = "pod") -> list[str]:
    """The names that the sandbox has noted down."""
    try:
        return sorted(os.listdir(f"{root}/{sandbox_id}{_paths.DIRECTORY}/{_paths.MEMBERS}"))
    except FileNotFoundError:
        return []


def children(supervisor: int) -> set[int]:
    """Of a supervisor, but for the one that waits for a next container.

    That one has its name a moment after it was forked only: compare in a loop, not once.
    """
    with open(f"/proc/{supervisor}/task/{supervisor}/children") as found:
        below = list(map(int, found.read().split()))
    kept = set()
    for pid in below:
        with (
            contextlib.suppress(FileNotFoundError, ProcessLookupError),  # it has gone
            open(f"/proc/{pid}/comm") as comm,
        ):
            if comm.read() != "asyncrt:spare\n":
                kept.add(pid)
    return kept


async def pids(container: Container) -> set[int]:
    """Of its processes."""
    return {each.pid for each in await container.processes()}
