"""One sandbox, four processes: some thirty containers come and go in overlap, and none is lost."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from asyncrt import Engine
from tests.helpers.cgroups import left, where
from tests.helpers.containers import init_of, supervisor_of
from tests.helpers.pods import Pods, children, members
from tests.helpers.processes import REPOSITORY, until

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]

# Each keeps eight containers of its own coming and going, three times and for so many seconds at
# least; it says which it left.
WORKER = """
import asyncio, json, random, sys, time
import asyncrt

async def main():
    root, own, seconds, config = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
    spec = asyncrt.Spec.decode(config.encode())
    stop, there, lives = time.monotonic() + seconds, set(), 0
    async with asyncrt.Engine(root, durable=False) as engine:
        sandbox = await engine.load_sandbox("pod")
        null = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}

        async def one(number):
            nonlocal lives
            id, turn = f"{own}-{number}", 0
            while True:
                turn += 1
                container = await sandbox.create(id, spec=spec, **null)
                there.add(id)
                assert id in {each.id for each in await sandbox.containers()}
                if random.random() < 0.8:
                    await container.start()
                    if random.random() < 0.3:
                        await container.kill("KILL")
                        assert (await container.wait()).signal == 9
                if turn > 3 and time.monotonic() > stop:
                    return
                await container.destroy()
                there.discard(id)
                lives += 1
                assert id not in {each.id for each in await sandbox.containers()}

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(one(number))
    print(json.dumps([sorted(there), lives]))
asyncio.run(main())
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("platform", ["host", "linux"])
async def test_thirty_come_and_go_from_four_processes(
    engine: Engine, rootfs: str, platform: str, full: bool
) -> None:
    pods = Pods(engine, platform, rootfs)
    sandbox = await pods.sandbox()
    supervisor = supervisor_of(sandbox.root, engine.root)
    above = os.path.dirname(where(sandbox.root, engine.root))
    opened = set(os.listdir(f"/proc/{supervisor}/fd"))
    config = pods.sleeper().encoded().decode()
    seconds = "60" if full else "0"
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WORKER,
            engine.root,
            own,
            seconds,
            config,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": REPOSITORY},
        )
        for own in "abcd"
    ]
    said = await asyncio.gather(*(each.communicate() for each in workers))
    assert [each.returncode for each in workers] == [0] * 4
    found = [json.loads(out) for out, _ in said]
    expected = sorted(id for ids, _ in found for id in ids)
    assert len(expected) == 32
    assert all(lives >= 24 for _, lives in found)
    assert [each.id for each in await sandbox.containers()] == expected
    assert members(engine.root) == expected
    # Every process below is of a container that there is, and of one that runs there is one.
    living = {
        init_of(each, engine.root)
        for each in await sandbox.containers()
        if (await each.view()).pid is not None
    }
    living.add(init_of(sandbox.root, engine.root))
    await until(lambda: children(supervisor) == living, "the others are reaped")
    await engine.destroy_many(await sandbox.containers())
    assert members(engine.root) == []
    # Of 128 lives none has left a descriptor: what is new are our connection and the namespaces.
    assert len(set(os.listdir(f"/proc/{supervisor}/fd")) - opened) < 20
    await sandbox.destroy()
    assert left([above]) == []
