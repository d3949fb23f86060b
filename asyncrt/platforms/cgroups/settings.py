"""Collects what is to be written where, and which fields of a spec nobody here can honour."""

from __future__ import annotations

import os
from typing import NamedTuple

from asyncrt.platforms.cgroups.machine import deepest_there, is_root, may_make, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncrt.launch.plan import CgroupPlace
    from asyncrt.platforms.cgroups.machine import Hierarchy, Machine


class Controller(NamedTuple):
    """What a resource is limited by, as each version calls it; None: it has none.

    "": version 2 needs none for it.
    """

    v1: str | None
    v2: str | None


MEMORY = Controller("memory", "memory")
CPU = Controller("cpu", "cpu")
CPUSET = Controller("cpuset", "cpuset")
PIDS = Controller("pids", "pids")
BLOCK_IO = Controller("blkio", "io")
HUGETLB = Controller("hugetlb", "hugetlb")
RDMA = Controller("rdma", "rdma")
DEVICES = Controller("devices", None)
NET_CLASS = Controller("net_cls", None)
NET_PRIORITY = Controller("net_prio", None)


class Settings:
    """Writes in order, places in use, and refusals by JSON path with the reason in words."""

    def __init__(self, machine: Machine, where: Callable[[Hierarchy], str]) -> None:
        """`where` is the container's directory in a hierarchy."""
        self.machine = machine
        self.writes: list[tuple[str, list[tuple[str, str]]]] = []
        self.places: dict[str, CgroupPlace] = {}
        self.refused: dict[str, str] = {}
        self._where = where
        self._why: dict[str, str] = {}  # nothing may be made there, by directory

    def use(self, hierarchy: Hierarchy) -> str:
        """Be in that hierarchy too; the directory. Once for all that it limits."""
        path = self._where(hierarchy)
        if path not in self.places:
            self.places[path] = {
                "top": hierarchy.top,
                "path": path,
                "enable": {},
                "cpuset": "cpuset" in hierarchy.controllers and not hierarchy.v2,
            }
        return path

    def unusable(self, hierarchy: Hierarchy) -> str:
        """Why nothing can be made in that hierarchy, in words; "" when it can."""
        path = self._where(hierarchy)
        why = self._why.get(path)
        if why is None:
            why = "" if may_make(path, hierarchy) else f"this user may not make {path}"
            self._why[path] = why
        return why

    def find(self, at: str, controller: Controller) -> Hierarchy | None:
        """The hierarchy that holds it, from which the container can have it, else it is refused."""
        held = self.machine.v1.get(controller.v1 or "")
        why = ""
        if held is None and controller.v2 is not None and self.machine.v2 is not None:
            held = self.machine.v2
            why = self._unavailable(held, controller.v2) if controller.v2 else ""
        elif held is None:
            why = f"no cgroup hierarchy here has the {controller.v1} controller"
        if held is not None:
            why = why or self.unusable(held)
        if why:
            self.refused[at] = why
            return None
        return held

    def put(
        self,
        at: str,
        controller: Controller,
        v1: Sequence[tuple[str, str]] | None,
        v2: Sequence[tuple[str, str]] | None,
        *,
        everywhere: bool = False,
    ) -> None:
        """Write a field's value in the version that holds the controller; None: it can't there.

        `everywhere`: the root of version 1 has the files too, so that a kernel built without them is
        known by their absence.
        """
        held = self.find(at, controller)
        if held is None:
            return
        choices: Sequence[tuple[str, str]] | None = v2 if held.v2 else v1
        if choices is None:
            self.refused[at] = f"cgroup v{2 if held.v2 else 1} has nothing like it"
            return
        if (
            everywhere
            and not held.v2
            and not any(os.path.exists(f"{held.own}/{file}") for file, _ in choices)
        ):
            self.refused[at] = f"this kernel has no {choices[0][0]}"
            return
        path = self.use(held)
        if held.v2 and controller.v2:
            self.places[path]["enable"].setdefault(controller.v2, at)
        self.writes.append((at, [(f"{path}/{file}", value) for file, value in choices]))

    def _unavailable(self, hierarchy: Hierarchy, name: str) -> str:
        """Why no container can have a controller of version 2, in words; "" when it can.

        It is handed down from cgroup to cgroup, which only the root may do with processes in it.
        """
        top, path = hierarchy.top, self._where(hierarchy)
        if name not in words(f"{top}/cgroup.controllers"):
            return f"no cgroup hierarchy here has the {name} controller"
        each = deepest_there(os.path.dirname(path), top)
        chain = [each]
        while each != top:
            each = os.path.dirname(each)
            chain.append(each)
        for directory in reversed(chain):
            control = f"{directory}/cgroup.subtree_control"
            if name in words(control):
                continue
            if not os.access(control, os.W_OK):
                return f"{directory} hands no {name} controller down, and this user may not change that"
            if not is_root(directory) and words(f"{directory}/cgroup.procs"):
                return (
                    f"{directory} hands no {name} controller down and can't while it has processes"
                )
        return ""
