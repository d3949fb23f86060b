"""`python -m tests.soak [--seconds 1200] [--seed N]`: whatever is killed when, nothing is lost or left.

Workers, each a process with an engine, create, start, pause, exec in, kill and destroy sandboxes and
containers in them, at random and over each other. Meanwhile this process kills workers and supervisors
and looks whether what every reader is told can be true. At the end all is recovered and destroyed, and
nothing may be left of it: no file, no process, no cgroup.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter

import asyncrt
from asyncrt import AsyncrtError, Engine, Status, _procid
from asyncrt.state import read_record
from tests.helpers import reality
from tests.helpers.processes import REPOSITORY

_MARK = "soak"
_PODS = ("p1", "p2", "p3", "p4", "p5")
_WORKERS = 6
_ENDING_SECONDS = 60.0


def _spec(*args: str) -> asyncrt.Spec:
    return asyncrt.Spec.command(args or ("/bin/sleep", "1000"), env=reality.marking(_MARK))


async def _one(engine: Engine, dice: random.Random) -> str:
    """One operation; its name. Refusals are the others' doing, and fine."""
    null = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
    pod = dice.choice(_PODS)
    id = f"{pod}-{dice.randrange(6)}"
    verb = dice.choice(
        [
            "sandbox",
            "create",
            "create",
            "create",
            "start",
            "start",
            "pause",
            "resume",
            "exec",
            "kill",
            "destroy",
            "destroy",
            "end",
            "wait",
        ]
    )
    try:
        if verb == "sandbox":
            sandbox = await engine.create_sandbox(pod, spec=_spec(), **null)  # type: ignore[arg-type]  # as given
            await sandbox.root.start()
        elif verb == "create":
            sandbox = await engine.load_sandbox(pod)
            container = await sandbox.create(id, spec=_spec(), **null)  # type: ignore[arg-type]  # as given
            if dice.random() < 0.8:
                await container.start()
        elif verb == "end":
            if dice.random() < 0.3:
                sandbox = await engine.load_sandbox(pod)
                await (sandbox.destroy() if dice.random() < 0.5 else sandbox.root.destroy())
        else:
            container = await engine.load(id)
            if verb == "exec":
                process = await container.exec(
                    ["/bin/true"],
                    env=reality.marking(_MARK, "exec"),
                    stdout=asyncrt.DEVNULL,
                    stderr=asyncrt.DEVNULL,
                )
                await process.wait()
                process.close()
            elif verb == "kill":
                await container.kill("KILL", all=dice.random() < 0.5)
            elif verb == "wait":
                async with asyncio.timeout(0.05):
                    await container.wait()
            else:
                await getattr(container, verb)()
    except (AsyncrtError, TimeoutError):
        return f"{verb} refused"
    return verb


async def _work(root: str, seed: int) -> None:
    dice = random.Random(seed)
    async with Engine(root, durable=False, lock_timeout=5.0) as engine:

        async def some() -> None:
            while True:
                await _one(engine, dice)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(some())


def _start(root: str, seed: int) -> int:
    command = [sys.executable, "-m", "tests.soak", "--root", root, "--seed", str(seed), "--work"]
    return os.posix_spawn(
        sys.executable, command, {**os.environ, "PYTHONPATH": REPOSITORY}, setsigmask=[]
    )


async def _observe(engine: Engine) -> list[str]:
    """What no reader may be told, whatever goes on."""
    wrong = []
    for view in await engine.list():
        if view.broken is not None:
            wrong.append(f"{view.id} is broken: {view.broken}")
        if view.exit is not None and view.exit.exit_code is not None:
            wrong.append(f"{view.id} has an exit code that no sleep has: {view.exit}")
        if view.status is Status.STOPPED and view.exit is None:
            again = [each for each in await engine.list() if each.instance == view.instance]
            await asyncio.sleep(1)  # its supervisor may be about to write it
            again = [each for each in await engine.list() if each.instance == view.instance]
            if again and again[0].exit is None:
                wrong.append(f"{view.id} stopped without a word")
    return wrong


def _kill_some(root: str, workers: list[int], dice: random.Random, done: Counter[str]) -> None:
    if dice.random() < 0.5:
        index = dice.randrange(len(workers))
        os.kill(workers[index], signal.SIGKILL)
        os.waitpid(workers[index], 0)
        workers[index] = _start(root, dice.randrange(1 << 30))
        done["workers killed"] += 1
        return
    try:
        supervisor = read_record(root, dice.choice(_PODS)).supervisor
        if supervisor is not None and _procid.send(supervisor, signal.SIGKILL):
            done["supervisors killed"] += 1
    except AsyncrtError:
        pass  # there is none now


async def _soak(root: str, seconds: float, seed: int) -> int:
    dice = random.Random(seed)
    done: Counter[str] = Counter()
    workers = [_start(root, dice.randrange(1 << 30)) for _ in range(_WORKERS)]
    wrong: list[str] = []
    async with Engine(root, durable=False) as engine:
        stop = time.monotonic() + seconds
        try:
            while time.monotonic() < stop and not wrong:
                await asyncio.sleep(dice.uniform(0.1, 0.5))
                _kill_some(root, workers, dice, done)
                wrong += await _observe(engine)
                wrong += [
                    f"worker {pid} failed" for pid in workers if os.waitpid(pid, os.WNOHANG)[0]
                ]
                done["looks"] += 1
        finally:
            for pid in workers:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it has failed
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
        done["events"] = sum(_lines(f"{root}/{name}") for name in ("~events", "~events.1"))
        wrong += await _ended(engine)
    lines = [f"seed {seed}: {dict(done)}", *(f"WRONG: {each}" for each in wrong)]
    sys.stdout.write("".join(f"{each}\n" for each in lines))
    return 1 if wrong else 0


def _lines(path: str) -> int:
    try:
        with open(path, "rb") as found:
            return sum(1 for _ in found)
    except FileNotFoundError:
        return 0


async def _ended(engine: Engine) -> list[str]:
    """Recover and destroy all; what is left."""
    failed: list[str] = []
    async with asyncio.timeout(_ENDING_SECONDS):
        while not (await engine.recover()).complete:
            await asyncio.sleep(0.5)  # who was killed just now may still be ending
        for _ in range(2):
            found = await engine.destroy_many([each.id for each in await engine.list()])
            failed = [f"{id}: {error}" for id, error in found.items() if error is not None]
        await engine.recover()
    left = [f"{name} is left" for name in os.listdir(engine.root) if not name.startswith("~")]
    stop = time.monotonic() + 10
    while (there := reality.marked([_MARK])) and time.monotonic() < stop:
        await asyncio.sleep(0.1)
    cgroups = [
        f"cgroup {path} is left"
        for path, _, _ in os.walk("/sys/fs/cgroup")
        if os.path.basename(path).startswith(tuple(f"asyncrt-{pod}." for pod in _PODS))
    ]
    return [*failed, *left, *(f"{each} lives" for each in there), *cgroups]


def main() -> int:
    """Run it, or one of its workers."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--root", help=argparse.SUPPRESS)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        asyncio.run(_work(given.root, given.seed))
        return 0
    with tempfile.TemporaryDirectory(prefix="asyncrt-soak-", dir="/dev/shm") as directory:
        return asyncio.run(_soak(os.path.join(directory, "root"), given.seconds, given.seed))


if __name__ == "__main__":
    sys.exit(main())
