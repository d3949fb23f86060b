"""Many processes, many tasks, few ids: nothing overlaps, nothing is lost, nothing is left."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

import asyncrt
from tests.helpers import chaos, reality
from tests.helpers.processes import Interpreter

WORKER = "from tests.helpers import chaos; chaos.main()"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_random_verbs_of_many_processes_on_few_ids(root: str, tmp_path: Path, full: bool) -> None:
    processes, tasks, seconds = (8, 20, 20) if full else (4, 10, 6)
    path = str(tmp_path / "log")
    counts: Counter[str] = Counter()
    seed = 0
    # Until it was chaos indeed, everything that was tried having succeeded somewhere: a slow machine
    # doesn't come as far in so many seconds.
    while not {f"{verb} done" for verb in set(chaos.VERBS) - {"delete", "wait"}} <= set(counts):
        with ExitStack() as stack:
            workers = [
                stack.enter_context(Interpreter(WORKER, root, path, seed + n, tasks, seconds))
                for n in range(processes)
            ]
            for worker in workers:
                assert worker.line(timeout=60) == "ready"
            for worker in workers:
                worker.say("go")
            told = [json.loads(worker.line(timeout=seconds + 90)) for worker in workers]
            assert [worker.wait(timeout=30) for worker in workers] == [0] * processes
        assert told == [[]] * processes
        wrong, counts = chaos.judge(path)
        assert wrong == []
        seed += processes
    asyncio.run(_destroy_all(root))
    assert reality.files(root) == set()
    assert reality.settles(reality.strays) is None


async def _destroy_all(root: str) -> None:
    async with asyncrt.Engine(root) as engine:
        for view in await engine.list():
            assert view.broken is None
            container = await engine.load(view.id)
            assert container.instance == view.instance
            await container.destroy()
        assert await engine.list() == []
