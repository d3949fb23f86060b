"""Writers and rotations in many processes, killed at any time, while others follow the log."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

import asyncrt
from asyncrt.state import EventLog
from tests.helpers.processes import Interpreter

WRITERS = 4
BURST = 25
# A burst of all writers fills less than half a generation: nobody who reads between falls behind.
ROTATE_BYTES = 50_000

WRITER = """
import os, sys
from asyncrt import _events
from asyncrt.state import event_log
from tests.helpers.events import make_line

root, name, rotate_bytes, burst = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
event_log.ROTATE_BYTES = rotate_bytes
directory = os.open(root, os.O_RDONLY)
number = 0
print("ready")
while sys.stdin.readline():
    for _ in range(burst):
        number += 1
        size = _events.append(directory, make_line(f"{name}-{number}"))
        os.write(1, b"%d\\n" % number)  # it is in the log
        if size > rotate_bytes:
            event_log.rotate(root)
    print("done")
"""


class Follower:
    """A watch that goes on in the background, and what it has told."""

    def __init__(self, engine: asyncrt.Engine) -> None:
        self.watch = engine.watch()
        self.ids: list[str] = []
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        await self.watch.__aenter__()
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for event in self.watch:
            self.ids.append(event.id)
            self._more.set()

    async def until(self, wanted: set[str]) -> None:
        assert self._task is not None
        async with asyncio.timeout(20):
            while not wanted <= set(self.ids):
                if self._task.done():
                    self._task.result()
                self._more.clear()
                await self._more.wait()

    async def end(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.watch.__aexit__()


def writer(root: str, name: str) -> Interpreter:
    return Interpreter(WRITER, root, name, ROTATE_BYTES, BURST)


async def test_lines_of_four_processes_reach_every_watch_once_and_in_each_ones_order(
    engine: asyncrt.Engine, full: bool
) -> None:
    followers = [Follower(engine), Follower(engine)]
    for each in followers:
        await each.begin()
    at = EventLog(engine.root).begin(None)
    assert at is not None
    generations = {at.generation}
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(writer(engine.root, f"w{number}")) for number in range(WRITERS)
        ]
        for one in writers:
            assert await one.next_line() == "ready"
        rounds = 60 if full else 12
        for round in range(1, rounds + 1):
            for one in writers:
                one.say("go")
            for one in writers:
                while await one.next_line() != "done":
                    pass
            wanted = {f"w{w}-{n}" for w in range(WRITERS) for n in range(1, round * BURST + 1)}
            for follower in followers:
                await follower.until(wanted)
            generations.add(followers[0].watch.position.partition(":")[0])
    assert len(generations) > 2
    for follower in followers:
        await follower.end()
        assert max(Counter(follower.ids).values()) == 1
        for number in range(WRITERS):
            mine = [each for each in follower.ids if each.startswith(f"w{number}-")]
            assert mine == [f"w{number}-{n}" for n in range(1, rounds * BURST + 1)]


async def test_writers_killed_at_any_time_lose_no_line_of_theirs_or_of_others(
    engine: asyncrt.Engine, full: bool
) -> None:
    chance = random.Random(4)
    follower = Follower(engine)
    await follower.begin()
    with writer(engine.root, "steady") as steady:
        assert await steady.next_line() == "ready"
        written = 0
        for round in range(60 if full else 8):
            name = f"killed{round}"
            with writer(engine.root, name) as victim:
                assert await victim.next_line() == "ready"
                victim.say("go")
                steady.say("go")
                last = 0
                for _ in range(chance.randrange(BURST)):
                    last = int(await victim.next_line())
                victim.kill()
            while await steady.next_line() != "done":
                pass
            written += BURST
            wanted = {f"{name}-{n}" for n in range(1, last + 1)}
            await follower.until(wanted | {f"steady-{n}" for n in range(1, written + 1)})
    await follower.end()
    assert max(Counter(follower.ids).values()) == 1
    mine = [each for each in follower.ids if each.startswith("steady-")]
    assert mine == [f"steady-{n}" for n in range(1, written + 1)]
