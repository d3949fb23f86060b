"""Owners killed by SIGKILL at random instants: what they owned is gone after the grace."""

from __future__ import annotations

import os
import random
import signal
from functools import partial

import pytest

import asyncrt
from tests.helpers import reality, truth
from tests.helpers.processes import Interpreter, wait_until
from tests.helpers.records import names

# Tasks that create, start, exec, take over and destroy; everything has a lease, but in two engines.
WORKER = """
import asyncio, random, sys
import asyncrt
from tests.helpers import reality

NULL = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}

async def live(engines, chance, name):
    number = 0
    while True:
        number += 1
        spec = asyncrt.Spec.command(["/bin/sleep", "1000"], env=reality.marking(name))
        owner, heir = chance.sample(engines, 2)
        lease = asyncrt.Lease(chance.choice([0, 0.2]))
        container = await owner.create(f"{name}-{number}", spec=spec, lease=lease, **NULL)
        if chance.random() < 0.7:
            await container.start()
        if chance.random() < 0.3:
            await (await heir.load(container.id)).renew(lease)
        if chance.random() < 0.3:
            env = reality.marking(name, "exec")
            await container.exec(["/bin/sleep", "1000"], env=env, lease=lease, **NULL)
        if chance.random() < 0.7:
            await container.destroy()

async def draw(engine, chance):
    spec = asyncrt.Spec.command(["/bin/sleep", "1000"], env=reality.marking("pool"))
    async with engine.pool(spec=spec, size=4, lease=asyncrt.Lease(0.1), **NULL) as pool:
        while True:
            taken = await pool.take()
            if chance.random() < 0.7:
                await taken.destroy()

async def main():
    chance = random.Random(sys.argv[2])
    async with asyncrt.Engine(sys.argv[1]) as one, asyncrt.Engine(sys.argv[1]) as two:
        async with asyncio.TaskGroup() as group:
            for task in range(6):
                group.create_task(live([one, two], chance, f"w{task}"))
            for engine in (one, two):
                group.create_task(draw(engine, chance))

asyncio.run(main())
"""


@pytest.mark.crash
@pytest.mark.timeout(300)
async def test_nothing_of_a_killed_owner_runs_on(
    root: str, engine: asyncrt.Engine, full: bool
) -> None:
    seen: set[str] = set()
    for round in range(60 if full else 5):
        chance = random.Random(round)
        with Interpreter(WORKER, root, round) as worker:
            wait_until(lambda: len(os.listdir(root)) > 4, "it is at work")
            signal.sigtimedwait([], chance.random() * 0.4)  # a random instant is the point
            worker.kill()
        wait_until(lambda: not reality.strays(), f"round {round}: nothing runs")
        wrong = reality.settles(partial(truth.lies, root))
        assert wrong is None, f"round {round}: {wrong}"
        reasons = {view.exit.reason for view in await engine.list() if view.exit is not None}
        # A signal: a destroy was under way. Never unknown: the supervisors weren't killed.
        assert reasons <= {"lease", "creation interrupted", "signal"}, reasons
        seen |= reasons
        # Also of ids that had no record yet, or have none any more.
        for name in {each.lstrip(".").partition(".")[0] for each in names(root)}:
            await engine.delete(name, force=True)
        assert reality.files(root) == set(), f"round {round}"
    assert "lease" in seen
