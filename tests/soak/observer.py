"""The process that only looks: at the events as they come, and at everything else all along.

It says what is wrong, a JSON line each, as soon as it knows; at the end, when it is told that nothing
goes on any more, also what has no cause. It writes nothing below the root and takes no lock.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncrt
from asyncrt._threads import run_blocking
from tests.soak import hooks, oplog
from tests.soak.causes import Causes
from tests.soak.look import Look
from tests.soak.places import FROZEN, UNFROZEN
from tests.soak.story import DESTROYED, Stories

if TYPE_CHECKING:
    from tests.soak.look import Stray, Suspicion
    from tests.soak.scene import Scene

_SECONDS_BETWEEN = 0.1
_LEFT = timedelta(seconds=2)
# A suspicion is a fault when it was there in so many looks in a row, over so many seconds: what dies,
# or is killed because of it, may wait long for its turn on a busy machine, where looks are slow too.
_SUSPECTED_SECONDS = 30.0
_SUSPECTED_LOOKS = 20
_FINISH_SECONDS = 30.0


class Observer:
    """What it was told and what it suspects."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._stories = Stories()
        self._suspected: dict[Suspicion, tuple[float, int]] = {}
        self._statuses: dict[str, int] = {}  # of an instance, the revision that was seen last
        self._strays: dict[Stray, list[datetime]] = {}  # when each was looked for, and seen
        self._left: list[tuple[Stray, list[datetime]]] = []
        self._kept: dict[str, bytes] = {}  # what was last seen in each kept layer
        self._wrong = 0
        self._looks = 0
        self._events = 0
        self._changed = asyncio.Event()

    async def observe(self, commands: asyncio.StreamReader) -> None:
        """Until told to finish, or until whoever is to be told is gone."""
        async with asyncrt.Engine(self._scene.root, durable=False) as engine:
            following = asyncio.create_task(self._follow(engine))
            looking = asyncio.create_task(self._look_on())
            told = asyncio.create_task(commands.readline())
            tasks: set[asyncio.Task[None] | asyncio.Task[bytes]] = {following, looking, told}
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in (following, looking):
                    if task.done():
                        self.say(f"the observer failed: {task.exception()!r}")
                if told.done() and told.result():
                    await self._finish()
            finally:
                for each in tasks:
                    each.cancel()
                await asyncio.wait(tasks)
        _write({"looks": self._looks, "events": self._events, "finished": True})

    def say(self, text: str) -> None:
        """It is wrong."""
        self._wrong += 1
        _write({"wrong": text})

    async def _follow(self, engine: asyncrt.Engine) -> None:
        async for event in engine.watch(after="oldest"):
            self._events += 1
            for each in self._stories.hear(event):
                self.say(each)
            self._changed.set()

    async def _look_on(self) -> None:
        before = datetime.now(UTC)
        while True:
            begun = datetime.now(UTC)
            look = await run_blocking(Look, self._scene)
            self._note_strays(look, before)
            before = begun
            self._looks += 1
            for text in look.wrong:
                self.say(text)
            for each in look.known.values():
                view, seen = each.view, self._statuses
                for text in self._stories.end(view.instance, view.exit):
                    self.say(text)
                if each.record.revision < seen.get(each.record.instance, 0):
                    self.say(f"an older record than before: {each.record}")
                seen[each.record.instance] = each.record.revision
            self._look_at_layers()
            self._suspect(look)
            _write({"looks": self._looks, "events": self._events, "there": len(look.known)})
            await asyncio.sleep(_SECONDS_BETWEEN)

    def _note_strays(self, look: Look, before: datetime) -> None:
        """A file that stays is left, by somebody who was killed since the look before its first.

        Whoever removes several may be held up between two of them, on a busy machine.
        """
        now, seen = datetime.now(UTC), self._strays
        self._strays = {each: [*seen.get(each, [before]), now] for each in look.strays}
        self._left += [(each, when) for each, when in self._strays.items() if _has_stayed(when)]

    def _look_at_layers(self) -> None:
        """What is kept is there for ever: each container only adds its line."""
        for path in self._scene.kept:
            try:
                with open(path + self._scene.KEPT_LOG, "rb") as file:
                    found = file.read()
            except FileNotFoundError:
                found = b""
            before = self._kept.get(path, b"")
            if not found.startswith(before) or len(set(found.split())) != len(found.split()):
                self.say(f"in {path} was {before!r}, and is {found!r}")
            self._kept[path] = found

    def _suspect(self, look: Look) -> None:
        now = time.monotonic()
        before, self._suspected = self._suspected, {}
        for key, text in look.suspicions.items():
            since, looks = before.get(key, (now, 0))
            self._suspected[key] = since, looks + 1
            if looks == _SUSPECTED_LOOKS or (looks > _SUSPECTED_LOOKS and not looks % 500):
                if now - since < _SUSPECTED_SECONDS:
                    self._suspected[key] = since, looks  # asked again with the next look
                elif not self._is_excused(key):
                    self.say(f"for {now - since:.0f} s: {' '.join(key)}: {text}")

    def _is_excused(self, key: Suspicion) -> bool:
        """Whoever was killed in the middle of a pause or a resume may have done it, and not told."""
        if key[0] not in {FROZEN, UNFROZEN}:
            return False
        life = self._stories.lives.get(key[2])
        causes = Causes(oplog.read(self._scene.log_path))
        return life is not None and causes.was_cut(life.id, life.began, datetime.now(UTC))

    async def _finish(self) -> None:
        """All are destroyed: every story has come to its end, and everything has a cause."""
        lives = self._stories.lives

        def untold() -> list[str]:
            return [str(each) for each in lives.values() if each.status != DESTROYED]

        try:
            async with asyncio.timeout(_FINISH_SECONDS):
                while untold():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            for text in untold():
                self.say(f"gone, and no event told it: {text}")
        causes = Causes(oplog.read(self._scene.log_path))
        for text in causes.wanting(self._stories):
            self.say(text)
        for stray, (since, *_, until) in self._left:
            if not causes.was_cut(stray.id, since, until):
                self.say(f"nobody was killed since {since}, and a file is left: {stray}")
        for text in hooks.wanting(self._scene, causes, self._stories):
            self.say(text)


def _has_stayed(when: list[datetime]) -> bool:
    """Whether it has just been there for so long; the first of them is before it was seen."""
    return when[-1] - when[1] >= _LEFT > when[-2] - when[1]


def _write(message: dict[str, object]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


async def observe(scene: Scene) -> None:
    """Observe until standard input says "finish" or ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb", buffering=0, closefd=False)
    )
    try:
        await Observer(scene).observe(reader)
    finally:
        transport.close()
