"""Where a soak happens, and with what: directories, ids, and the specs of what runs."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncrt
from asyncrt import _paths
from tests.helpers import reality, sandboxes
from tests.helpers.capabilities import User
from tests.helpers.sandboxes import ROOT, USER

if TYPE_CHECKING:
    from typing import Self

# Each the beginning of another, or of none; and few, so that everybody meets at them.
_PODS = ("a", "ab", "b", "bc", "c")
_SUBS = tuple(f"s{number}" for number in range(14))
_ON_HOST = 2  # of the sandboxes, where root may make cgroups

# A program that ends by itself says with its exit code that it was this one.
SHORT_CODES = (3, 4, 5)
_TREE = 'trap "" TERM; /bin/sleep 1000 & /bin/sleep 1000 & wait; wait; wait'


class Mark(NamedTuple):
    """What is in a workload's environment: whose soak, which container, which of that id."""

    tag: str
    id: str
    nonce: str

    def __str__(self) -> str:
        return "/".join(self)

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """The mark that a text is."""
        parts = text.split("/")
        return cls(*parts) if len(parts) == 3 else None


class Scene:
    """The files of one soak below `directory`; `who` runs it: ROOT or USER."""

    def __init__(self, directory: str, tag: str, who: str) -> None:
        self.directory = directory
        self.tag = tag  # begins every id, so that cgroups and marks of it are told from all others
        self.who = who
        self.root = f"{directory}/root"
        self.log_path = f"{directory}/log"
        self.rootfs = f"{directory}/rootfs"
        self.layers = f"{directory}/layers"
        self.pods = tuple(f"{tag}-{each}" for each in _PODS)
        self.subs = tuple(f"{tag}-{each}" for each in _SUBS)

    @classmethod
    def make(cls, directory: str, tag: str, who: str) -> Self:
        """With its directories, in one that is empty."""
        scene = cls(directory, tag, who)
        os.mkdir(scene.rootfs)
        sandboxes.make_rootfs(scene.rootfs)
        os.mkdir(scene.layers)
        return scene

    def is_on_linux(self, pod: str) -> bool:
        """Whether that sandbox is made of namespaces."""
        return self.who == USER or self.pods.index(pod) >= _ON_HOST

    def sandbox_spec(self, pod: str, dice: random.Random) -> asyncrt.Spec:
        """Of a sandbox's root container."""
        return self._spec(pod, ["/bin/sleep", "1000"], dice, on_linux=self.is_on_linux(pod))

    def sub_spec(self, id: str, dice: random.Random, *, on_linux: bool) -> asyncrt.Spec:
        """Of a container beside it: one that waits, one that ends soon, or one with descendants."""
        chance = dice.random()
        if chance < 0.5:
            args = ["/bin/sleep", "1000"]
        elif chance < 0.75:
            wait = f"/bin/sleep 0.{dice.randrange(1, 6)}; exit {dice.choice(SHORT_CODES)}"
            args = ["/bin/sh", "-c", wait]
        else:
            args = ["/bin/sh", "-c", _TREE]
        return self._spec(id, args, dice, on_linux=on_linux)

    def _spec(
        self, id: str, args: list[str], dice: random.Random, *, on_linux: bool
    ) -> asyncrt.Spec:
        env = self.marking(id, f"{dice.getrandbits(48):012x}")
        if not on_linux:
            return asyncrt.Spec.command(args, env=env)
        user = User("", os.geteuid(), os.getegid())
        made: dict[str, Any] = sandboxes.config(self.rootfs, args, who=self.who, user=user)
        made["process"]["env"] += [f"{name}={value}" for name, value in env.items()]
        return sandboxes.spec(made)

    def overlay(self, dice: random.Random) -> asyncrt.Overlay:
        """A layer in memory or on disk."""
        if dice.random() < 0.7:
            return asyncrt.Overlay.memory("4M")
        return asyncrt.Overlay.disk(self.layers)

    def marking(self, id: str, nonce: str) -> dict[str, str]:
        """The environment by which its processes are found."""
        return reality.marking(str(Mark(self.tag, id, nonce)))

    def marks_in(self, env: list[str]) -> Mark | None:
        """The mark in a config's environment."""
        begin = f"{reality.MARK}="
        found = next((each for each in env if each.startswith(begin)), begin)
        return Mark.parse(found.removeprefix(begin))

    def config_path(self, id: str) -> str:
        """Where the config of a container is."""
        return f"{self.root}/{id}{_paths.DIRECTORY}/{_paths.CONFIG}"


def may_soak(who: str) -> bool:
    """Whether this process can run it as that one."""
    return os.geteuid() == 0 if who == ROOT else who == USER
