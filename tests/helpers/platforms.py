"""The same test on each platform: a shell's script as a plain process, and in a sandbox."""

from __future__ import annotations

from typing import Any

import pytest

import asyncrt
from tests.helpers import sandboxes

HOST, LINUX = "host", "linux"

_IN_SANDBOX = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]
on_each = pytest.mark.parametrize("platform", [HOST, pytest.param(LINUX, marks=_IN_SANDBOX)])


class Making:
    """Specs for one platform."""

    def __init__(self, platform: str, request: pytest.FixtureRequest) -> None:
        self.platform = platform
        # Made only where it is needed.
        self._rootfs = request.getfixturevalue("rootfs") if platform == LINUX else ""

    def config(
        self, args: list[str], *, pid_namespace: bool = True, **process: Any
    ) -> dict[str, Any]:
        """A config.json that runs `args`, with these fields of its process besides.

        The first process of a pid namespace gets no signal that it has no handler for.
        """
        if self.platform == LINUX:
            without = () if pid_namespace else ("pid",)
            kinds = tuple(each for each in sandboxes.NAMESPACES if each not in without)
            made = sandboxes.config(self._rootfs, args, namespaces=kinds)
        else:
            env = ["PATH=/usr/bin:/bin"]
            made = {"ociVersion": "1.2.0", "process": {"args": args, "cwd": "/", "env": env}}
        made["process"].update(process)
        return made

    def spec(self, args: list[str], **process: Any) -> asyncrt.Spec:
        """The spec of such a config."""
        return sandboxes.spec(self.config(args, **process))

    def shell(self, script: str, **process: Any) -> asyncrt.Spec:
        """Runs a script of the shell that is there."""
        return self.spec(["/bin/sh", "-c", script], **process)


@pytest.fixture
def making(platform: str, request: pytest.FixtureRequest) -> Making:
    """For a test that is marked `on_each`."""
    return Making(platform, request)
