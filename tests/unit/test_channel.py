from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from asyncrt.launch import frames
from asyncrt.sandbox import ChannelClosed
from asyncrt.sandbox.channel import Channel


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_all_is_heard_of_an_end_that_left_something_unread(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """poll(2) tells of it as an error, of which uvloop tells but once.

    So does a supervisor end that a request came to too late: whoever asked waited in vain.
    """

    async def ask() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        channel = Channel(ours)
        asked = [asyncio.create_task(channel.request("exec")) for _ in range(2)]
        await asyncio.sleep(0)  # both send
        theirs.send(frames.encode({"re": 1, "ended": True}))
        theirs.close()
        async with asyncio.timeout(20):
            assert (await asked[0])["ended"]
            with pytest.raises(ChannelClosed):
                await asked[1]
            await channel.over.wait()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(ask())
