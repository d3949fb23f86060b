"""What a platform decides on the engine's side and the launch code carries out. Pure data.

The shapes exist for the type checkers only: at run time a plan is the dict that json made.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    class CgroupPlace(TypedDict):
        """A cgroup in one hierarchy."""

        top: str  # of the hierarchy, as far as it is seen here
        path: str  # below it
        enable: dict[str, str]  # version 2: controllers to hand down, and the field that wants each
        cpuset: bool  # version 1: what is made gets its parent's processors and memory nodes

    class CgroupPlan(TypedDict):
        """A container's cgroups. The first place is where all of it is frozen and killed."""

        places: list[CgroupPlace]
        # JSON path of the field, and files with values of which the first that exists is written.
        writes: list[tuple[str, list[tuple[str, str]]]]
        # JSON path, cgroup of version 2, program in hexadecimal.
        devices: tuple[str, str, str] | None

    class CgroupReport(TypedDict):
        """What the launch did: directories it made, and the places with their inodes."""

        made: list[str]
        places: list[tuple[str, int]]

    class ProcessPlan(TypedDict):
        """One process: init, or one exec'd."""

        args: list[str]
        env: list[str]  # "KEY=value", no key twice
        cwd: str
        uid: int | None  # None: as the launcher
        gid: int | None
        groups: list[int] | None
        umask: int | None
        rlimits: list[tuple[int, int, int]]  # number of the resource, soft, hard; -1 is unlimited
        no_new_privs: bool
        oom_score_adj: int | None
        terminal: NotRequired[
            list[int] | None
        ]  # rows and columns, 0 where unset; None: no terminal
        cgroup: NotRequired[CgroupPlan | None]  # of init: to be made and joined
        cgroups: NotRequired[list[str]]  # of an exec'd one: directories to join

    class HookPlan(TypedDict):
        """One OCI hook (runtime-spec, config.md#posix-platform-hooks)."""

        path: str
        args: list[str]
        env: list[str]
        timeout: float | None  # seconds
