"""What a platform decides on the engine's side and the launch code carries out. Pure data.

The shapes exist for the type checkers only: at run time a plan is the dict that json made.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

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

        privileges: NotRequired[PrivilegePlan]  # what it may do; missing: as the launcher

    class PrivilegePlan(TypedDict):
        """What a process may do; None: as the launcher."""

        capabilities: list[int]  # bounding, effective, permitted, inheritable, ambient: bit masks
        seccomp: str | None  # the filter's program, in hexadecimal
        seccomp_flags: int
        keys_denied: bool  # the filter lets it at no keyring
        scheduler: list[int] | None  # policy, flags, nice, priority, runtime, deadline, period
        io_priority: int | None
        personality: int | None
        affinity: list[list[int]]  # CPUs before and after joining the cgroup; [] is any
        apparmor: str | None
        selinux: str | None

    class HookPlan(TypedDict):
        """One OCI hook (runtime-spec, config.md#posix-platform-hooks)."""

        path: str
        args: list[str]
        env: list[str]
        timeout: float | None  # seconds
