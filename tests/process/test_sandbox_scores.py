"""The supervisor's OOM score: the lowest of its sandbox's containers, whoever starts and destroys them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, SpecInvalid
from tests.helpers.containers import Fifo, init_of, record_of, shell_hook, supervisor_of
from tests.helpers.pods import TYPE, Pods
from tests.helpers.processes import REPOSITORY, run_python

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]


def score(pid: int) -> int:
    """Of a process."""
    with open(f"/proc/{pid}/oom_score_adj") as found:
        return int(found.read())


async def test_it_is_the_lowest_of_those_that_have_one_until_they_are_destroyed(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    above = supervisor_of(sandbox.root, pods.root)
    original = score(above)
    plain = await pods.running(sandbox, "plain")
    assert score(above) == original  # none set: on a start it stays
    high = await pods.running(sandbox, "high", pods.sleeper(oom_score_adj=700))
    assert score(above) == 700
    low = await sandbox.create("low", spec=pods.sleeper(oom_score_adj=300))
    assert score(above) == 700  # a creation changes nothing
    await low.start()
    assert score(above) == 300
    await low.kill("KILL")
    await low.wait()
    assert score(above) == 300  # nor does an end
    await low.destroy()
    assert score(above) == 700
    # A child without one of its own has the supervisor's first, not a sibling's.
    late = await pods.running(sandbox, "late")
    process = await plain.exec(["/bin/sleep", "1000"])
    beside = await high.exec(["/bin/sleep", "1000"])
    assert score(init_of(late, pods.root)) == original
    assert score(process.pid) == original
    assert score(beside.pid) == 700
    for each in (process, beside):
        each.close()
    await high.destroy()
    assert score(above) == original  # none set any more: what it began with


async def test_a_single_containers_is_its_supervisors_once_it_runs(pods: Pods) -> None:
    alone = await pods.engine.create("alone", spec=pods.sleeper(oom_score_adj=500))
    above = supervisor_of(alone, pods.root)
    before = score(above)
    assert before != 500
    await alone.start()
    assert score(above) == 500
    process = await alone.exec(["/bin/sleep", "1000"])
    assert score(process.pid) == 500
    process.close()
    await alone.destroy()


@pytest.mark.needs_userns
async def test_a_gofers_is_its_own_containers(engine: Engine, rootfs: str) -> None:
    """Whoever kills the gofer for want of memory kills the container with it, and no other."""
    pods = Pods(engine, "linux", rootfs)
    memory = asyncrt.Overlay.memory("8M")
    sandbox = await engine.create_sandbox(
        "pod", spec=pods.sleeper(oom_score_adj=200), overlay=memory
    )
    await sandbox.root.start()
    original = score(supervisor_of(sandbox.root, engine.root))
    high = await pods.running(sandbox, "high", pods.sleeper(oom_score_adj=700), overlay=memory)
    low = await pods.running(sandbox, "low", pods.sleeper(oom_score_adj=300), overlay=memory)
    plain = await pods.running(sandbox, "plain", overlay=memory)
    found = {}
    for each in (sandbox.root, high, low, plain):
        gofer = record_of(each, engine.root).gofer
        assert gofer is not None
        found[each.id] = (score(gofer.pid), score(init_of(each, engine.root)))
    assert found == {
        "pod": (200, 200),
        "high": (700, 700),
        "low": (300, 300),
        "plain": (original, original),
    }
    assert score(supervisor_of(sandbox.root, engine.root)) == 300
    await sandbox.destroy()


async def test_the_container_that_is_the_sandbox_does_not_count(pods: Pods) -> None:
    spec = pods.sleeper(oom_score_adj=200, annotations={TYPE: "sandbox"})
    root = await pods.engine.create("pod", spec=spec)
    above = supervisor_of(root, pods.root)
    before = score(above)
    await root.start()
    assert (score(above), score(init_of(root, pods.root))) == (before, 200)
    sandbox = await pods.engine.load_sandbox("pod")
    app = await pods.running(sandbox, "app", pods.sleeper(oom_score_adj=600))
    assert score(above) == 600
    await app.destroy()
    assert score(above) == before


async def test_a_creation_that_is_undone_counts_no_longer(pods: Pods) -> None:
    """Somebody else's start may have counted it by then."""
    sandbox = await pods.sandbox()
    above = supervisor_of(sandbox.root, pods.root)
    with Fifo(f"{pods.root}/~hooked") as hooked, Fifo(f"{pods.root}/~go") as go:
        hook = shell_hook('echo >"$1"; read go <"$2"; exit 1', hooked.path, go.path)
        config = json.loads(pods.sleeper(oom_score_adj=100).encoded())
        config["hooks"] = {"createRuntime": [{"path": hook.path, "args": list(hook.args or ())}]}
        spec = asyncrt.Spec.decode(json.dumps(config).encode())
        creating = asyncio.ensure_future(sandbox.create("undone", spec=spec))
        await hooked.line()
        await pods.running(sandbox, "app", pods.sleeper(oom_score_adj=500))
        counted = score(above)
        go.say()
        with pytest.raises(asyncrt.HookFailed):
            await creating
        assert (counted, score(above)) == (100, 500)
        for fifo in (hooked, go):
            os.unlink(fifo.path)


# Destroys a container and is killed as soon as its record is gone.
KILLED = """
import asyncio, os, signal, sys
import asyncrt

unlink = os.unlink

def unlinked(path, **options):
    unlink(path, **options)
    if path == f"{sys.argv[1]}/{sys.argv[2]}.state":
        os.kill(os.getpid(), signal.SIGKILL)

os.unlink = unlinked

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        await (await engine.load(sys.argv[2])).destroy()
asyncio.run(main())
"""


async def test_what_a_killed_destroyer_has_removed_counts_no_longer(pods: Pods) -> None:
    """Nobody lives to tell of it then."""
    sandbox = await pods.sandbox()
    above = supervisor_of(sandbox.root, pods.root)
    await pods.running(sandbox, "high", pods.sleeper(oom_score_adj=700))
    low = await pods.running(sandbox, "low", pods.sleeper(oom_score_adj=300))
    assert score(above) == 300
    assert run_python(KILLED, pods.root, low.id).returncode == -signal.SIGKILL
    assert not os.path.exists(f"{pods.root}/low.state")
    assert score(above) == 700
    assert (await pods.engine.recover()).complete


# Creates a container in the sandbox "pod" and is killed before it could write down who supervises it.
BEGUN = """
import asyncio, os, signal, sys
import asyncrt
from asyncrt.container.create_hooks import CreateHooks

async def killed(self):
    os.kill(os.getpid(), signal.SIGKILL)

CreateHooks.run = killed

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        sandbox = await engine.load_sandbox("pod")
        spec = asyncrt.Spec.decode(sys.argv[2].encode())
        await sandbox.create("low", spec=spec, stdout=asyncrt.DEVNULL, stderr=asyncrt.DEVNULL)
asyncio.run(main())
"""


async def test_what_a_killed_creator_had_begun_counts_until_it_is_removed(pods: Pods) -> None:
    """Its record doesn't say yet whom to tell."""
    sandbox = await pods.sandbox()
    above = supervisor_of(sandbox.root, pods.root)
    spec = pods.sleeper(oom_score_adj=300).encoded().decode()
    assert run_python(BEGUN, pods.root, spec).returncode == -signal.SIGKILL
    await pods.running(sandbox, "high", pods.sleeper(oom_score_adj=700))
    assert score(above) == 300
    assert (await pods.engine.recover()).complete
    assert not os.path.exists(f"{pods.root}/low.state")
    assert score(above) == 700


@pytest.mark.parametrize("beyond", [1001, -1001])
async def test_one_beyond_the_kernels_is_refused_by_its_path(pods: Pods, beyond: int) -> None:
    sandbox = await pods.sandbox()
    config = json.loads(pods.sleeper().encoded())
    config["process"]["oomScoreAdj"] = beyond
    with pytest.raises(SpecInvalid) as caught:
        await sandbox.create("app", spec=asyncrt.Spec.decode(json.dumps(config).encode()))
    assert caught.value.json_path == "process.oomScoreAdj"
    assert not os.path.exists(f"{pods.root}/app.d")


# A worker creates, starts and destroys containers in the sandbox as it is told, a line at a time.
WORKER = """
import asyncio, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1], durable=False) as engine:
        sandbox = await engine.load_sandbox("pod")
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            verb, id, score = line.split()
            if verb == "create":
                given = None if score == "None" else int(score)
                spec = asyncrt.Spec.command(["/bin/sleep", "1000"], oom_score_adj=given)
                await sandbox.create(id, spec=spec, stdout=asyncrt.DEVNULL, stderr=asyncrt.DEVNULL)
            else:
                container = await engine.load(id)
                await getattr(container, verb)()
            print("done", flush=True)
asyncio.run(main())
"""


class Rule:
    """What the supervisor's score must be, by the rule alone."""

    def __init__(self, original: int) -> None:
        self.original = self.score = original
        self.scores: dict[str, int | None] = {}

    def apply(self, verb: str, id: str, given: int | None) -> None:
        if verb == "create":
            self.scores[id] = given
            return
        if verb == "destroy":
            del self.scores[id]
        there = [each for each in self.scores.values() if each is not None]
        unset = self.original if verb == "destroy" else self.score
        self.score = min(there, default=unset)


async def _workers(root: str, count: int) -> list[asyncio.subprocess.Process]:
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WORKER,
            root,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": REPOSITORY},
        )
        for _ in range(count)
    ]
    for each in workers:
        await _heard(each)
    return workers


async def _heard(worker: asyncio.subprocess.Process) -> None:
    assert worker.stdout is not None
    async with asyncio.timeout(60):
        assert (await worker.stdout.readline()) in {b"ready\n", b"done\n"}


async def _told(worker: asyncio.subprocess.Process, *words: object) -> None:
    assert worker.stdin is not None
    worker.stdin.write(" ".join(map(str, words)).encode() + b"\n")
    await worker.stdin.drain()
    await _heard(worker)


def _next(rule: Rule, started: set[str], dice: random.Random) -> tuple[str, str, int | None]:
    created = sorted(set(rule.scores) - started)
    verbs = ["create"] if len(rule.scores) < 5 else []
    verbs += ["start"] * bool(created) + ["destroy"] * bool(rule.scores)
    verb = dice.choice(verbs)
    if verb == "create":
        id = next(f"c{n}" for n in range(6) if f"c{n}" not in rule.scores)
        return verb, id, dice.choice([None, None, 0, *range(100, 1001, 100)])
    return verb, dice.choice(created if verb == "start" else sorted(rule.scores)), None


async def test_whoever_starts_and_destroys_in_whatever_order_the_rule_holds(
    engine: Engine, full: bool
) -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    sandbox = await engine.create_sandbox("pod", spec=asyncrt.Spec.command(["/bin/sleep", "1000"]))
    await sandbox.root.start()
    above = supervisor_of(sandbox.root, engine.root)
    workers = await _workers(engine.root, 3)
    try:
        rule, started = Rule(score(above)), set[str]()
        done: list[Any] = []
        for _ in range(600 if full else 60):
            verb, id, given = _next(rule, started, dice)
            await _told(dice.choice(workers), verb, id, given)
            rule.apply(verb, id, given)
            done.append((verb, id, given))
            if verb == "start":
                started.add(id)
            elif verb == "destroy":
                started.discard(id)
            assert score(above) == rule.score, (seed, done)
    finally:
        for each in workers:
            assert each.stdin is not None
            each.stdin.close()
            await each.wait()
        await sandbox.destroy()


async def test_side_by_side_they_agree_at_the_end(engine: Engine) -> None:
    """Nobody's change is lost: the supervisor makes them one after the other."""
    sandbox = await engine.create_sandbox("pod", spec=asyncrt.Spec.command(["/bin/sleep", "1000"]))
    await sandbox.root.start()
    above = supervisor_of(sandbox.root, engine.root)
    original = score(above)
    workers = await _workers(engine.root, 3)

    async def work(number: int, worker: asyncio.subprocess.Process) -> None:
        for turn in range(5):
            id = f"c{number}-{turn}"
            await _told(worker, "create", id, 100 * number + 10 * turn + 100)
            await _told(worker, "start", id, None)
            if turn % 2 == 0:
                await _told(worker, "destroy", id, None)

    try:
        await asyncio.gather(*(work(n, worker) for n, worker in enumerate(workers)))
        assert score(above) == 110
        await engine.destroy_many(await sandbox.containers())
        assert score(above) == original
    finally:
        for each in workers:
            assert each.stdin is not None
            each.stdin.close()
            await each.wait()
        await sandbox.destroy()
