"""The linux platform: namespaces, made here, as root and as an ordinary user."""

from __future__ import annotations

from asyncrt.platforms.linux.platform import name, plan, plan_exec, unsupported

__all__ = ["name", "plan", "plan_exec", "unsupported"]
