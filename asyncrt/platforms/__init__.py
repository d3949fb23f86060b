"""How a container's process is made: one module per platform, chosen at one place."""

from __future__ import annotations

from asyncrt.platforms.choice import PLATFORM_NAMES, choose
from asyncrt.platforms.overlay import Overlay, plan_overlay
from asyncrt.platforms.protocol import Beside, Platform

__all__ = ["PLATFORM_NAMES", "Beside", "Overlay", "Platform", "choose", "plan_overlay"]
