"""What is in a log."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncrt


async def lines(container: asyncrt.Container, **how: Any) -> list[asyncrt.LogLine]:
    async with asyncio.timeout(30):
        return [each async for each in container.logs(**how)]


def joined(found: list[asyncrt.LogLine], stream: str = "stdout") -> bytes:
    return b"".join(each.data for each in found if each.stream == stream)
