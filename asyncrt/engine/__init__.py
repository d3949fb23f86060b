"""The engine: an asyncio object bound to a root directory."""

from __future__ import annotations

from asyncrt.engine.engine import Engine
from asyncrt.engine.pool import Pool
from asyncrt.engine.recovery import Finding, RecoveryReport
from asyncrt.engine.run import RunResult
from asyncrt.engine.sandboxes import Sandbox

__all__ = ["Engine", "Finding", "Pool", "RecoveryReport", "RunResult", "Sandbox"]
