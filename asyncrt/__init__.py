"""asyncrt: an asyncio container-lifecycle engine for Linux."""

from __future__ import annotations
