"""What comes out of a terminal that one is attached to."""

from __future__ import annotations

import asyncio

from asyncrt import Attachment


async def seen(attached: Attachment, wanted: str) -> str:
    """All that comes up to what is wanted."""
    found = bytearray()
    looked = 0
    async with asyncio.timeout(20):
        while found.find(wanted.encode(), looked) < 0:
            looked = max(0, len(found) - len(wanted))
            data = await attached.read()
            assert data, f"the terminal ended after {bytes(found)!r}"
            found += data
    return found.decode()


async def to_the_end(attached: Attachment) -> bytes:
    found = b""
    async with asyncio.timeout(20):
        while data := await attached.read():
            found += data
    return found
