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


class Full:
    """A channel whose socket takes no more, and the other end of it."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.channel = Channel(ours)
        self.decoder = frames.Decoder()

    async def heard(self, count: int) -> list[object]:
        """What was asked for or told, so many times."""
        self.theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        found: list[object] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                if (message := self.decoder.pop()) is not None:
                    found.append(message[0]["op"])
                    continue
                self.decoder.feed(await loop.sock_recv(self.theirs, 65536), ())
        return found

    async def close(self) -> None:
        """Both ends."""
        assert not self.channel.closed
        self.channel.close()
        self.theirs.close()


async def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_request_that_is_cancelled_half_sent_costs_no_other_user_the_channel() -> None:
    """Others wait at it, and a lease may hang on it: closing it would end the container."""
    full = Full()
    half = asyncio.create_task(full.channel.request("half", text="x" * 1_000_000))
    await asyncio.sleep(0)
    await _cancel(half)
    full.channel.tell({"op": "told"})
    after = asyncio.create_task(full.channel.request("after"))
    assert await full.heard(3) == ["half", "told", "after"]
    await _cancel(after)
    await full.close()


async def test_a_request_that_is_cancelled_before_any_of_it_went_is_never_asked() -> None:
    full = Full()
    half = asyncio.create_task(full.channel.request("half", text="x" * 1_000_000))
    unsent = asyncio.create_task(full.channel.request("unsent"))
    after = asyncio.create_task(full.channel.request("after"))
    await asyncio.sleep(0)
    await _cancel(unsent)
    assert await full.heard(2) == ["half", "after"]
    for each in (half, after):
        await _cancel(each)
    await full.close()


async def test_what_is_told_while_the_socket_is_full_is_told_when_there_is_room() -> None:
    full = Full()
    half = asyncio.create_task(full.channel.request("half", text="x" * 1_000_000))
    await asyncio.sleep(0)
    assert not full.channel.send_nowait({"op": "now or never"})
    full.channel.tell({"op": "told"})
    assert await full.heard(2) == ["half", "told"]
    await _cancel(half)
    await full.close()


async def test_a_launch_that_is_given_up_half_sent_is_waited_for() -> None:
    full = Full()
    half = asyncio.create_task(full.channel.send({"op": "half", "text": "x" * 1_000_000}))
    await asyncio.sleep(0)
    await _cancel(half)
    given_up = asyncio.create_task(full.channel.hang_up())
    loop = asyncio.get_running_loop()
    full.theirs.setblocking(False)
    async with asyncio.timeout(20):
        while await loop.sock_recv(full.theirs, 65536):
            pass
    assert not given_up.done()
    full.theirs.close()
    await given_up
    full.channel.close()
