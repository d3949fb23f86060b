"""A container's verbs, cancelled."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import asyncrt
from asyncrt.state import read_record
from tests.helpers import capabilities, reality
from tests.helpers.cancel import Outcome
from tests.helpers.cgroups import limited, where
from tests.helpers.processes import until
from tests.race.scenarios.bench import (
    NULL,
    SLEEP,
    Bench,
    exec_or_nothing,
    flock,
    gone_or_repeated,
    scenario,
)


def one_of(*statuses: str) -> Callable[[Bench, Any, Outcome], Awaitable[None]]:
    """Cancelled or not, it is in one of these; not cancelled, in the last."""

    async def check(bench: Bench, state: Any, outcome: Outcome) -> None:
        found = await bench.status()
        assert found in statuses
        if not outcome.cancelled:
            assert found == statuses[-1]
        # Somebody else may have it for a moment longer; we don't.
        await until(lambda: not reality.locked_files(bench.root), "the lock is free", timeout=5)

    return check


async def behind_a_lock(bench: Bench) -> asyncrt.Container:
    """Created, and somebody holds its lock for a while."""
    container = await bench.created()
    path = f"{bench.root}/web.lock"
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    flock(fd)
    asyncio.get_running_loop().call_later(0.003, os.close, fd)
    return container


async def ended_or_not(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    if not outcome.cancelled:
        assert (await container.view()).status == "stopped"


async def same_for_the_next(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    result = await container.wait()
    assert result.exit_code == 3
    assert outcome.cancelled or outcome.value == result


async def first_of_several(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    result = await container.wait()
    assert outcome.cancelled or outcome.value == (container, result)


def execute(bench: Bench, container: asyncrt.Container) -> Coroutine[Any, Any, Any]:
    env = reality.marking(bench.mark, "exec")
    return container.exec(SLEEP, env=env, stdin=asyncrt.PIPE, **{**NULL, "stdout": asyncrt.PIPE})


class Elsewhere(NamedTuple):
    """A container that another engine owns, as ours sees it."""

    owner: asyncrt.Engine
    ours: asyncrt.Container


async def leased_elsewhere(bench: Bench) -> Elsewhere:
    owner = asyncrt.Engine(bench.root)
    await owner.__aenter__()
    bench.undo.push_async_callback(owner.close)
    await owner.create("web", spec=bench.spec(), lease=asyncrt.Lease(0), **NULL)
    return Elsewhere(owner, await bench.engine.load("web"))


async def owned_by_one_of_two(bench: Bench, owned: Elsewhere, outcome: Outcome) -> None:
    """Whoever owns it holds it: it never ends while both are there, and goes with its owner."""
    mine = bench.engine._context.watches.holds(("web", owned.ours.instance))
    assert mine or outcome.cancelled
    await owned.owner.close()
    if mine:
        await owned.ours.start()  # answered by an init that nobody has killed
        await owned.ours.renew(None)
        assert await bench.status() == "running"
    else:
        assert (await owned.ours.wait(20)).reason == "lease"


async def until_ended(bench: Bench) -> asyncrt.Container:
    return await bench.running(["/bin/sh", "-c", "exit 3"])


async def logged(bench: Bench) -> asyncrt.Container:
    script = "echo one; echo two >&2; printf end"
    container = await bench.running(
        ["/bin/sh", "-c", script], stdout=asyncrt.LOG, stderr=asyncrt.LOG
    )
    await container.wait()
    return container


async def read_all(container: asyncrt.Container, *, follow: bool) -> list[bytes]:
    return [each.data async for each in container.logs(follow=follow)]


async def read_again(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    assert sorted(await read_all(container, follow=False)) == [b"end", b"one\n", b"two\n"]


HAS_CGROUPS = capabilities.has_cgroups("memory", "pids", "cpu")
LIMITS: dict[str, Any] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 9}}
CHANGE = {"memory": {"limit": 96 << 20}, "pids": {"limit": 7}, "cpu": {"shares": 512}}


async def limited_by_cgroup(bench: Bench) -> asyncrt.Container:
    """With limits, where there can be any; of those of another, cpu's, it has none."""
    spec = limited(bench.spec(), **LIMITS) if HAS_CGROUPS else bench.spec()
    return await bench.engine.create("web", spec=spec, **NULL)


async def all_or_nothing(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    """In the kernel and on disk alike."""
    if not HAS_CGROUPS:
        return
    config = json.loads(Path(bench.root, "web.d", "config.json").read_text())
    told = config["linux"]["resources"]
    assert told in ([LIMITS, {**LIMITS, **CHANGE}] if outcome.cancelled else [{**LIMITS, **CHANGE}])
    pids = Path(where(container, bench.root, "pids"), "pids.max").read_text()
    assert int(pids) == told["pids"]["limit"]
    record = read_record(bench.root, "web")
    assert {each.path for each in record.cgroup} == {
        each for each in record.cgroups if os.path.exists(f"{each}/cgroup.procs")
    }


async def layered(bench: Bench) -> asyncrt.Container:
    """One with a layer, where we may make that: it needs root's view of the host's files."""
    if not capabilities.is_root():
        return await bench.created()
    spec = asyncrt.Spec.sandbox(["/bin/true"], host_root_readonly=True)
    return await bench.created(spec=spec, overlay=asyncrt.Overlay.memory("1M"))


async def take_all(container: asyncrt.Container) -> int:
    try:
        return sum([len(each) async for each in container.export()])
    except asyncrt.ExportFailed:
        assert not capabilities.is_root()
        return 0


async def take_again(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    assert await take_all(container) == outcome.value or outcome.cancelled


scenario("Container.export", lambda b, c: take_all(c), prepare=layered, check=take_again)
scenario("Container.logs", lambda b, c: read_all(c, follow=False), prepare=logged, check=read_again)
scenario(
    "Container.logs follow", lambda b, c: read_all(c, follow=True), prepare=logged, check=read_again
)
scenario("Container.view", lambda b, c: c.view(), prepare=Bench.created)
scenario("Container.state", lambda b, c: c.state(), prepare=Bench.created)
scenario("Container.processes", lambda b, c: c.processes(), prepare=Bench.running)
scenario(
    "Container.start",
    lambda b, c: c.start(),
    prepare=Bench.created,
    check=one_of("created", "running"),
)
scenario(
    "Container.start behind a lock",
    lambda b, c: c.start(),
    prepare=behind_a_lock,
    check=one_of("created", "running"),
)
scenario(
    "Container.pause",
    lambda b, c: c.pause(),
    prepare=Bench.running,
    check=one_of("running", "paused"),
)
scenario(
    "Container.resume",
    lambda b, c: c.resume(),
    prepare=Bench.paused,
    check=one_of("paused", "running"),
)
scenario(
    "Container.update",
    lambda b, c: c.update(CHANGE) if HAS_CGROUPS else c.view(),
    prepare=limited_by_cgroup,
    check=all_or_nothing,
)
scenario(
    "Container.renew",
    lambda b, owned: owned[1].renew(asyncrt.Lease(0)),
    prepare=leased_elsewhere,
    check=owned_by_one_of_two,
)
scenario("Container.kill", lambda b, c: c.kill("TERM"), prepare=Bench.running)
scenario(
    "Container.kill all",
    lambda b, c: c.kill("KILL", all=True),
    prepare=Bench.running,
    check=ended_or_not,
)
scenario("Container.stop", lambda b, c: c.stop(), prepare=Bench.running, check=ended_or_not)
scenario("Container.wait", lambda b, c: c.wait(), prepare=until_ended, check=same_for_the_next)
scenario("Container.exec", execute, prepare=Bench.running, check=exec_or_nothing)
scenario(
    "Container.destroy", lambda b, c: c.destroy(), prepare=Bench.running, check=gone_or_repeated
)
scenario("Container.delete", lambda b, c: c.delete(), prepare=Bench.stopped, check=gone_or_repeated)

scenario(
    "Engine.kill_many",
    lambda b, c: b.engine.kill_many(["nobody", c, "we"], "KILL"),
    prepare=Bench.running,
)
scenario(
    "Engine.stop_many",
    lambda b, c: b.engine.stop_many(["nobody", c]),
    prepare=Bench.running,
    check=ended_or_not,
)
scenario(
    "Engine.destroy_many",
    lambda b, c: b.engine.destroy_many(["nobody", c]),
    prepare=Bench.running,
    check=gone_or_repeated,
)
scenario(
    "Engine.wait_any",
    lambda b, c: b.engine.wait_any([c, "we"]),
    prepare=until_ended,
    check=first_of_several,
)
