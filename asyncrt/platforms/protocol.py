"""What a platform is to the engine: it turns a spec into a plan, or says what it can't do.

A platform touches no state file, knows no statuses and starts nothing. Planning runs on the engine's
side; the launch code carries the plan out.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.launch.plan import OverlayPlan, ProcessPlan
    from asyncrt.oci import Config, Process, Spec


class Beside(NamedTuple):
    """The sandbox that a container is created in, as far as its plan needs to know it.

    `cgroups` are the directories that those of its containers go to, one in each hierarchy; none
    where it leaves that to each of them.
    """

    config: Config  # of its root container
    has_cgroup: bool  # the root container, of its own
    cgroups: tuple[str, ...] = ()
    share_pid: bool = False  # a pid namespace without a path is the sandbox's, as all others are


class Platform(Protocol):
    """One way to make a container's process. A module with these names is one."""

    @property
    def name(self) -> str:
        """As the records and `platform=` name it."""

    def unsupported(
        self, spec: Spec, beside: Beside | None = None, overlay: OverlayPlan | None = None
    ) -> list[str]:
        """The JSON path of every field this platform can't honour, in the order of the config.

        "overlay" is told like one.
        """

    def plan(
        self,
        spec: Spec,
        *,
        name: str = "asyncrt",
        hide: str = "",
        pivot_root: bool = True,
        room: bool = False,
        beside: Beside | None = None,
        overlay: OverlayPlan | None = None,
    ) -> ProcessPlan:
        """How to make the container's init; `name` is for what the spec gives none, its cgroup.

        `hide` is the engine's root: over its sockets a container could have others do its bidding,
        so it isn't to be seen inside. `pivot_root`: whether a new root may be entered by that call;
        an initramfs refuses it. `room`: others are to come beside it. `beside`: it comes beside
        others, in that sandbox. `overlay`: what it writes goes to that layer.

        Raises SpecUnsupported naming every field that can't be honoured, or SpecInvalid. Blocks
        unless oci.is_known says that no home directory has to be looked up.
        """

    def plan_exec(self, spec: Spec, process: Process, *, pivot_root: bool = True) -> ProcessPlan:
        """How to run one more process in the container that was made of `spec`. Raises as `plan`."""
