"""A process that competes for a lock: `python -m tests.helpers.lock_worker JSON`.

Says "ready", waits for a line, works, and prints what it counted. Overlap is looked for in two
independent ways: a counter in a shared file that is read, left alone for a moment and written, and a
marker that must not exist when a writer comes in.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import sys
import time
from typing import Any

from asyncrt.locking import FileLock
from tests.helpers.lock_loops import LOOPS, run

UNFAIR = 200  # so many others served meanwhile make a wait an unfair one


class Section:
    """What a writer does inside."""

    def __init__(self, path: str) -> None:
        self._marker = f"{path}.marker"
        with open(f"{path}.counter", "r+b") as file:
            self._counter = mmap.mmap(file.fileno(), 8)
        self.overlaps = 0

    async def enter(self, *, pause: float | None) -> None:
        try:
            os.close(os.open(self._marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            self.overlaps += 1
        value = int.from_bytes(self._counter[:8], "little")
        if pause is not None:
            await asyncio.sleep(pause)
        self._counter[:8] = (value + 1).to_bytes(8, "little")
        try:
            os.unlink(self._marker)
        except FileNotFoundError:
            self.overlaps += 1


class Entries:
    """How often each process came in, for all to see."""

    def __init__(self, path: str, slot: int) -> None:
        with open(f"{path}.entries", "r+b") as file:
            self._all = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
        self._slot = slot

    def note(self) -> None:
        self._all[self._slot] += 1

    def of_others(self) -> int:
        return sum(self._all) - self._all[self._slot]


async def main(options: dict[str, Any]) -> None:
    path, end = options["path"], 0.0
    shared, hold, pause = options["shared"], options["hold"], options["pause"]
    section, entries = Section(path), Entries(path, options["slot"])
    counts = [0] * options["tasks"]
    longest = 0.0

    async def work(number: int) -> None:
        nonlocal longest
        lock = FileLock(path)
        while time.monotonic() < end and counts[number] < options["rounds"]:
            began, others = time.monotonic(), entries.of_others()
            await lock.acquire(shared=shared)
            # A machine that stands still for a while serves nobody.
            if entries.of_others() - others > UNFAIR:
                longest = max(longest, time.monotonic() - began)
            entries.note()
            if shared:
                await asyncio.sleep(hold)
            else:
                await section.enter(pause=hold)
            counts[number] += 1
            lock.release()
            await asyncio.sleep(pause)

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    end = time.monotonic() + options["seconds"]
    await asyncio.gather(*(work(number) for number in range(options["tasks"])))
    found = {"counts": counts, "overlaps": section.overlaps, "longest unfair": longest}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    run(main(asked), LOOPS[asked["loop"]].values[0])
