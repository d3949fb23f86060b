"""One soak: workers, an observer, kills, and the end of it all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from asyncrt import Engine
from tests.helpers import reaping
from tests.helpers.processes import REPOSITORY
from tests.soak import ending, oplog
from tests.soak.killer import Killer
from tests.soak.scene import Scene
from tests.soak.worker import HANGS_SECONDS

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable

WORKERS = 6
TASKS = 3  # of each
_LINES = 60  # of the log, with what went wrong


class Child:
    """A worker or the observer: what it says, a line at a time."""

    def __init__(
        self, process: Process, name: str, hear: Callable[[dict[str, object]], None]
    ) -> None:
        self.process = process
        self.name = name
        self.works = False  # it has said so
        self._hear = hear
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.works = True
            self._hear(json.loads(line))

    def say(self, text: bytes) -> None:
        """Tell it something; b"": to stop."""
        assert self.process.stdin is not None
        if text:
            self.process.stdin.write(text)
        else:
            self.process.stdin.close()

    async def ended(self, seconds: float) -> int | None:
        """Its status when it has ended by itself and all it said is heard; None: it had to be killed."""
        status: int | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                status = await self.process.wait()
        if status is None:
            await self.kill()
        await self._reading
        return status

    async def kill(self) -> None:
        """At once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._reading
        self.say(b"")


class Soak:
    """One run as one user."""

    def __init__(self, scene: Scene, seed: int, progress: Callable[[str], None]) -> None:
        self.scene = scene
        self.seed = seed
        self.wrong: list[str] = []
        self._dice = random.Random(seed)
        self._log = oplog.OpLog(scene.log_path, "soak")
        self._killer = Killer(scene, self._log, self._dice)
        self._workers: list[Child] = []
        self._observer: Child | None = None
        self._born = 0
        self._observed: dict[str, object] = {}
        self._progress = progress

    async def run(self, seconds: float) -> list[str]:
        """All of it; what was wrong, with which all ends at once."""
        async with Engine(self.scene.root, durable=False) as engine:
            try:
                self._observer = await self._start("observer", "--observe", self._observe)
                for _ in range(WORKERS):
                    self._workers.append(await self._worker())
                await self._disturb(seconds)
                if not self.wrong:
                    await self._end(engine)
            finally:
                for each in (*self._workers, self._observer):
                    if each is not None:
                        await each.kill()
                self._workers.clear()
        if not self.wrong:
            self.wrong += ending.left(self.scene, set())
        return self.wrong

    async def _start(self, name: str, *args: str | Callable[[dict[str, object]], None]) -> Child:
        *words, hear = args
        assert callable(hear)
        scene = self.scene
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.soak", "--in", scene.directory, "--tag", scene.tag),
            *("--as", scene.who, *map(str, words)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": REPOSITORY},
        )
        self._log.write("born", name=name, pid=process.pid)
        return Child(process, name, hear)

    async def _worker(self) -> Child:
        self._born += 1
        name, seed = f"worker {self._born}", self._dice.randrange(1 << 30)
        return await self._start(
            name, "--work", name, "--seed", str(seed), lambda said: self._fault(name, said)
        )

    def _fault(self, name: str, said: dict[str, object]) -> None:
        if "wrong" in said:
            self.wrong.append(f"{name}: {said['wrong']}")

    def _observe(self, said: dict[str, object]) -> None:
        if "wrong" in said:
            self.wrong.append(str(said["wrong"]))
        else:
            self._observed.update(said)

    async def _disturb(self, seconds: float) -> None:
        stop = time.monotonic() + seconds
        while time.monotonic() < stop and not self.wrong:
            await asyncio.sleep(self._dice.uniform(0.2, 1.0))
            reaping.reap_orphans()
            if not self._killer.kill_one():
                # The first lives for all the time: what it may not gather shows with it.
                await self._kill_worker(self._dice.randrange(1, WORKERS))
            for each in self._workers:
                if each.process.returncode is not None:
                    self.wrong.append(f"{each.name} ended with {each.process.returncode}")
            assert self._observer is not None
            if self._observer.process.returncode is not None:
                self.wrong.append(f"the observer ended with {self._observer.process.returncode}")
            self._progress(self.figures(left=stop - time.monotonic()))

    async def _kill_worker(self, index: int) -> None:
        victim = self._workers[index]
        if not victim.works:
            return  # on a busy machine none would come to do anything
        facts: dict[str, Any] = {"role": "worker", "pid": victim.process.pid, "name": victim.name}
        self._log.write("killing", **facts)
        await victim.kill()
        self._log.write("killing", **facts)
        self._killer.killed["workers"] += 1
        self._workers[index] = await self._worker()

    async def _end(self, engine: Engine) -> None:
        """Stop them; all that is left is mended, right, and goes."""
        self._progress("ending")
        for each in self._workers:
            each.say(b"")
        for each in self._workers:
            status = await each.ended(HANGS_SECONDS)
            if status != 0:
                self.wrong.append(f"{each.name} ended with {status}")
        observer = self._observer
        assert observer is not None
        self.wrong += await ending.mended(self.scene, engine, self._log)
        self.wrong += await ending.destroyed(self.scene, engine, self._log)
        if not self.wrong:
            self.wrong += await ending.scored(self.scene, engine, self._log)
        self.wrong += await ending.recovered(engine, self._log)
        observer.say(b"finish\n")
        if await observer.ended(HANGS_SECONDS) != 0 or not self._observed.get("finished"):
            self.wrong.append("the observer came to no end")

    def figures(self, *, left: float | None = None) -> str:
        """What was done so far, in one line."""
        seen = self._observed
        killed = ", ".join(f"{count} {what}" for what, count in sorted(self._killer.killed.items()))
        text = f"{seen.get('events', 0)} events, {seen.get('looks', 0)} looks; killed: {killed or 'none'}"
        return text if left is None else f"{max(0, left):4.0f} s to go; {text}"

    def operations(self) -> Counter[str]:
        """How often each verb came to its end."""
        return Counter(
            f"{line['verb']} {line['outcome'].partition(':')[0]}"
            for line in oplog.read(self.scene.log_path)
            if line["what"] == "end"
        )


def soak(
    who: str, seconds: float, seed: int, progress: Callable[[str], None], *, keep: bool
) -> tuple[bool, str]:
    """Run one as this process's user; whether all was well, and what there is to say."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = tempfile.mkdtemp(prefix="asyncrt-soak-", dir=base)
    scene = Scene.make(directory, f"soak{os.getpid()}", who)
    run = Soak(scene, seed, progress)
    try:
        wrong = asyncio.run(run.run(seconds))
    finally:
        reaping.kill_all(reaping.children())
    if not wrong:
        said = f"{who}, seed {seed}: {run.figures()}\n{_table(run.operations())}"
        if keep:
            return True, f"{said}\nkept: {directory}"
        shutil.rmtree(directory)
        return True, said
    return False, _report(run, wrong)


def _table(operations: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(operations.items()))


def _report(run: Soak, wrong: list[str]) -> str:
    """All there is to understand it by."""
    scene = run.scene
    lines = oplog.read(scene.log_path)
    ids = [each for each in (*scene.pods, *scene.subs) if any(each in text for text in wrong[:3])]
    told = oplog.about(lines, ids)[-_LINES:] if ids else []
    return "\n".join(
        [
            f"{scene.who}, seed {run.seed}: {run.figures()}",
            *(f"WRONG: {text}" for text in wrong),
            f"--- of {', '.join(ids) or 'nobody'}, the last operations:",
            *told,
            f"--- everything is in {scene.directory}: log, root, root/~events",
            f"--- again: python -m tests.soak --as {scene.who} --seed {run.seed}",
        ]
    )
