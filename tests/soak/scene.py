"""Where a soak happens: directories, ids, and how its processes are told from others."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncrt import _paths
from asyncrt.errors import AsyncrtError
from asyncrt.state import read_record
from tests.helpers import capabilities, reality, sandboxes
from tests.helpers.sandboxes import ROOT

if TYPE_CHECKING:
    from typing import Self

    import asyncrt

# Each the beginning of another, or of none; and few, so that everybody meets at them.
_PODS = ("a", "ab", "b", "bc", "c")
_SUBS = tuple(f"s{number}" for number in range(14))
_ON_HOST = 2  # of the sandboxes, where cgroups can be made
_MAPPED = 3  # which of the others has ids mapped, where that is root's to do
_KEPT = 3  # directories of layers that are kept


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

    KEPT_LOG = "/work/log"  # inside, what those with a kept layer append their nonces to

    def __init__(self, directory: str, tag: str, who: str) -> None:
        self.directory = directory
        self.tag = tag  # begins every id, so that cgroups and marks of it are told from all others
        self.who = who
        self.root = f"{directory}/root"
        self.log_path = f"{directory}/log"
        self.rootfs = f"{directory}/rootfs"
        self.layers = f"{directory}/layers"
        self.kept = tuple(f"{self.layers}/kept-{number}" for number in range(_KEPT))
        self.hooks_path = f"{directory}/hooks"
        self.pods = tuple(f"{tag}-{each}" for each in _PODS)
        self.subs = tuple(f"{tag}-{each}" for each in _SUBS)

    @classmethod
    def make(cls, directory: str, tag: str, who: str) -> Self:
        """With its directories, in one that is empty."""
        scene = cls(directory, tag, who)
        os.mkdir(scene.rootfs)
        sandboxes.make_rootfs(scene.rootfs)
        os.mkdir(scene.layers)
        os.chmod(directory, 0o711)  # root inside a user namespace has to come by
        return scene

    @functools.cached_property
    def has_cgroups(self) -> bool:
        """Whether whoever runs it may make any; only then is there anything on host."""
        return capabilities.has_cgroups()

    def is_on_linux(self, pod: str) -> bool:
        """Whether that sandbox is made of namespaces."""
        return not self.has_cgroups or self.pods.index(pod) >= _ON_HOST

    def is_mapped(self, pod: str) -> bool:
        """Whether its containers have a range of ids that are others outside."""
        return self.who == ROOT and pod == self.pods[_MAPPED]

    def mark(self, id: str, nonce: str) -> Mark:
        """Whose the processes of one container are."""
        return Mark(self.tag, id, nonce)

    def marking(self, id: str, nonce: str) -> dict[str, str]:
        """The environment by which its processes are found."""
        return reality.marking(str(self.mark(id, nonce)))

    def marks_in(self, env: list[str]) -> Mark | None:
        """The mark in a config's environment."""
        begin = f"{reality.MARK}="
        found = next((each for each in env if each.startswith(begin)), begin)
        return Mark.parse(found.removeprefix(begin))

    def mark_of(self, id: str) -> Mark | None:
        """Of the config that is there; None when none is."""
        config = self.config_of(id)
        return None if config is None else self.marks_in(config["process"]["env"])

    def config_of(self, id: str) -> dict[str, Any] | None:
        """The config of a container that is there."""
        try:
            with open(self.config_path(id), "rb") as file:
                found: dict[str, Any] = json.load(file)
                return found
        except OSError:
            return None

    def config_path(self, id: str) -> str:
        """Where the config of a container is."""
        return f"{self.root}/{id}{_paths.DIRECTORY}/{_paths.CONFIG}"


def pids_limit(root: str, container: asyncrt.Container) -> int | None:
    """How many processes that container may have, by its cgroup; None once that is gone."""
    try:
        record = read_record(root, container.id)
        if record.instance != container.instance:
            return None
        for each in record.cgroup:
            with contextlib.suppress(FileNotFoundError), open(f"{each.path}/pids.max") as file:
                found = file.read().strip()
                return -1 if found == "max" else int(found)
    except (AsyncrtError, OSError):
        pass
    return None
