"""Recovery: what killed processes left under a root is finished, folded in, or removed."""

from __future__ import annotations

from asyncrt.engine.recovery.recovery import recover
from asyncrt.engine.recovery.report import Finding, RecoveryReport

__all__ = ["Finding", "RecoveryReport", "recover"]
