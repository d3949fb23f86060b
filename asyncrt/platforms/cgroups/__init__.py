"""A container's cgroups, planned: where they are, what is written to them, what can't be honoured."""

from __future__ import annotations

from asyncrt.platforms.cgroups.place import SUPERVISOR
from asyncrt.platforms.cgroups.plan import Planned, plan_cgroup

__all__ = ["SUPERVISOR", "Planned", "plan_cgroup"]
