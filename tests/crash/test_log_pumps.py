"""Whoever pumps is killed while a program writes on: all of it is in the log, once, in its order."""

from __future__ import annotations

import contextlib
import os
import random
from typing import Any

import pytest

import asyncrt
from asyncrt import LOG, PIPE, Engine, Log, _procid
from asyncrt.supervisor.log_files import HEADER_BYTES
from tests.helpers.containers import destroyed, gone, shell, started, supervisor_of
from tests.helpers.processes import kill_hard, until
from tests.helpers.recovery import recovered, snapshot, told

RAW = Log(timestamps=False, max_bytes=None)
STAMPED = Log(max_bytes=None)
ROTATED = Log(max_bytes=100_000, files=1000)

_BURST = 7000  # lines


def pumps(root: str, id: str) -> list[int]:
    """The processes that pump for that container though its supervisor is dead."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        process = _procid.stat(int(name))
        if process is not None and process.comm == "asyncrt:pump" and process.state not in "ZX":
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{name}/fd/4") == f"{root}/{id}.d/logs":
                    found.append(int(name))
    return found


def written(root: str, id: str) -> int:
    """How much its log has."""
    total = 0
    with os.scandir(f"{root}/{id}.d/logs") as entries:
        for each in entries:
            if each.name.endswith(".log"):
                total += each.stat().st_size
    return total


def resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("log", [RAW, STAMPED, ROTATED], ids=["raw", "stamped", "rotated"])
async def test_nothing_is_lost_or_there_twice_whoever_pumps_is_killed_when(
    engine: Engine, root: str, log: Log, full: bool
) -> None:
    rounds = 200 if full else 12
    # A write for each line, so that a burst of them takes a while.
    script = "while read most; do while [ $i -lt $most ]; do echo $i; i=$((i + 1)); done; done"
    container = await started(engine, "web", shell(f"i=10000; {script}"), stdin=PIPE, stdout=log)
    assert container.stdin is not None
    chance = random.Random(rounds)
    burst = _BURST * 6 if log is RAW else _BURST * (6 + HEADER_BYTES)
    async with destroyed(container):
        pump = supervisor_of(container, root)
        before = resident(pump)
        for each in range(1, rounds + 1):
            enough = written(root, "web") + chance.randrange(1, burst)
            container.stdin.write(b"%d\n" % (10_000 + each * _BURST))
            await until(lambda: written(root, "web") >= enough, "so much is in the log")  # noqa: B023 - used at once
            assert resident(pump) < before + (16 << 20), "a pump grows"
            kill_hard(pump)
            assert told(await engine.recover()) == [("dead log pump", "web", "mended")]
            await until(lambda: len(pumps(root, "web")) == 1, "another pumps")
            (pump,) = pumps(root, "web")
        container.stdin.close()
        await container.wait()
        await until(lambda: not pumps(root, "web"), "the pump is done")
        data = b"".join([each.data async for each in container.logs()])
        assert data == b"".join(b"%d\n" % each for each in range(10_000, 10_000 + rounds * _BURST))


@pytest.mark.crash
async def test_a_recovery_starts_one_pump_for_each_log_without_one(
    engine: Engine, root: str
) -> None:
    """What is pumped, has ended, or goes into no log, needs none; a dry run only says so."""
    null: Any = {"stdin": PIPE, "stderr": asyncrt.DEVNULL}
    script = shell("read x; echo one; read x; echo two; read x")
    containers = {
        "well": await started(engine, "well", script, stdout=LOG, **null),
        "web": await started(engine, "web", script, stdout=LOG, **null),
        "bare": await started(engine, "bare", script, stdout=asyncrt.DEVNULL, **null),
        "ended": await started(engine, "ended", shell("echo end"), stdout=LOG, **null),
    }
    ended = supervisor_of(containers["ended"], root)
    await containers["ended"].wait()
    await gone(ended)  # it takes its sockets away after it has told of the end
    await recovered(engine)
    for id in ("web", "bare"):
        kill_hard(supervisor_of(containers[id], root))
    before = snapshot(root)
    assert told(await engine.recover(dry_run=True)) == [("dead log pump", "web", "would mend")]
    assert snapshot(root) == before
    assert pumps(root, "web") == []
    async with asyncrt.Engine(root) as other:  # what it started outlives it
        reports = [await other.recover(), await engine.recover()]
    assert sorted(len(each.findings) for each in reports) == [0, 1]
    await until(lambda: len(pumps(root, "web")) == 1, "it is pumped")
    assert told(await engine.recover(dry_run=True)) == []
    web = containers["web"]
    assert web.stdin is not None
    web.stdin.write(b"go\n")
    follower = web.logs(follow=True)
    assert (await anext(follower)).text == "one"
    kill_hard(*pumps(root, "web"))
    web.stdin.write(b"go\n")
    assert told(await engine.recover()) == [("dead log pump", "web", "mended")]
    assert (await anext(follower)).text == "two"
    await follower.aclose()
    await engine.destroy_many(list(containers))
    for each in containers.values():
        await (
            each.destroy()
        )  # lets go of the pipe, which asyncio does at its end but uvloop doesn't
    await until(lambda: pumps(root, "web") == [], "it ends with what it pumped for")
