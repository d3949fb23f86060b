"""All that is in a container's cgroup is paused and killed, daemons that nobody else knows of too."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

import asyncrt
from asyncrt import Engine, Status, _cgroups
from tests.helpers import cgroups
from tests.helpers.cgroups import left, limited, made_for, unique, where
from tests.helpers.containers import (
    SECONDS,
    destroyed,
    gone,
    init_of,
    is_alive,
    line,
    shell,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import until

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroups("memory", "pids")]

COUNT = 'echo up; i=0; while :; do i=$((i + 1)); echo $i >"$1"; done'


def _daemons(first: str = "") -> asyncrt.Spec:
    """Init, and one that no tree leads to once its supervisor is gone, whose pid it tells."""
    script = f"{first} (setsid sleep 1000 & echo $!); exec sleep 1000"
    return limited(shell(script), pids={"limit": 50})


async def test_all_of_it_stands_still_while_it_is_paused(
    engine: Engine, either: None, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    script = f"(setsid sh -c '{COUNT}' sh \"$1.2\" & ) ; {COUNT}"
    spec = limited(shell(script, str(counter)), pids={"limit": 50})
    container = await started(engine, "web", spec, stdout=asyncrt.PIPE)
    async with destroyed(container):
        for _ in range(2):
            assert await line(container.stdout) == "up"
        other = tmp_path / "counter.2"
        await until(lambda: counter.exists() and other.exists(), "both count")
        await container.pause()
        assert _cgroups.is_frozen(where(container, engine.root))
        before = counter.stat().st_mtime_ns, other.stat().st_mtime_ns
        await asyncio.sleep(0.05)  # time in which they would have written a thousand times
        assert (counter.stat().st_mtime_ns, other.stat().st_mtime_ns) == before
        with pytest.raises(asyncrt.InvalidTransition):
            await container.exec(["/bin/true"])
        await container.resume()
        await until(lambda: counter.stat().st_mtime_ns != before[0], "the first counts again")
        await until(lambda: other.stat().st_mtime_ns != before[1], "the second counts again")


@pytest.mark.parametrize("how", ["kill", "kill all", "stop", "destroy", "delete by force"])
async def test_what_is_frozen_is_killed_at_once(how: str, engine: Engine, either: None) -> None:
    """HAZARDS 22: version 1 keeps a SIGKILL until the thaw."""
    container = await started(engine, "web", _daemons("trap '' TERM;"), stdout=asyncrt.PIPE)
    made = made_for(container, engine.root)
    daemon = int(await line(container.stdout))
    await container.pause()
    if how == "kill":
        await container.kill("KILL")
        assert (await container.wait()).signal == signal.SIGKILL
    elif how == "kill all":
        await container.kill("KILL", all=True)
    elif how == "stop":
        await container.stop(grace_seconds=60)
    elif how == "delete by force":
        await engine.delete("web", force=True)
    await container.destroy()
    assert not is_alive(daemon)
    assert left(made) == []


async def test_other_signals_arrive_when_it_goes_on(engine: Engine, either: None) -> None:
    script = "trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.01; done"
    spec = limited(shell(script), pids={"limit": 50})
    container = await started(engine, "web", spec, stdout=asyncrt.PIPE)
    async with destroyed(container):
        assert await line(container.stdout) == "up"
        await container.pause()
        await container.kill("TERM")
        assert (await container.view()).status is Status.PAUSED
        await container.resume()
        assert (await container.wait()).exit_code == 3


async def test_without_its_supervisor_all_of_it_is_still_known_paused_and_killed(
    engine: Engine, either: None
) -> None:
    """By descent alone the daemon would be nobody's."""
    container = await started(engine, "web", _daemons(), stdout=asyncrt.PIPE)
    made = made_for(container, engine.root)
    daemon = int(await line(container.stdout))
    supervisor = supervisor_of(container, engine.root)
    os.kill(supervisor, signal.SIGKILL)
    await gone(supervisor)
    pids = [each.pid for each in await container.processes()]
    assert pids[0] == init_of(container, engine.root)
    assert daemon in pids
    assert (await container.stats()).pids >= 2  # the shell between them may not have ended yet
    await container.pause()
    assert _cgroups.is_frozen(where(container, engine.root))
    await container.resume()
    assert not _cgroups.is_frozen(where(container, engine.root))
    await container.kill("KILL", pid=daemon)
    await gone(daemon)
    await container.kill("KILL", all=True)
    await until(lambda: not any(map(is_alive, pids)), "all of it has ended")
    await container.destroy()
    assert left(made) == []


async def test_a_stop_within_its_grace_leaves_nobody_either_without_a_supervisor(
    engine: Engine, either: None
) -> None:
    """Init ends by its TERM; whoever would have killed the rest of it was killed before."""
    spec = _daemons("trap 'exit 0' TERM;")
    container = await started(engine, "web", spec, stdout=asyncrt.PIPE)
    daemon = int(await line(container.stdout))
    supervisor = supervisor_of(container, engine.root)
    os.kill(supervisor, signal.SIGKILL)
    await gone(supervisor)
    await container.stop(grace_seconds=SECONDS)
    assert not is_alive(daemon)
    await container.destroy()


@pytest.mark.parametrize("how", ["kill all", "destroy", "gc and delete"])
async def test_what_survived_init_and_supervisor_is_killed(
    how: str, engine: Engine, either: None
) -> None:
    container = await started(engine, "web", _daemons(), stdout=asyncrt.PIPE)
    made = made_for(container, engine.root)
    daemon = int(await line(container.stdout))
    for pid in (supervisor_of(container, engine.root), init_of(container, engine.root)):
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
    assert (await container.view()).status is Status.STOPPED
    assert is_alive(daemon)
    if how == "kill all":
        await container.kill("KILL", all=True)
        await gone(daemon)
    elif how == "gc and delete":
        assert (await engine.recover()).complete
        await container.delete()
    await container.destroy()
    await gone(daemon)
    assert left(made) == []


_FORKS = """
import os
os.write(1, b"up\\n")
while True:
    try:
        os.fork()
    except OSError:
        os.sched_yield()
"""


async def test_forks_do_not_outrun_the_end(engine: Engine, either: None) -> None:
    bomb = asyncrt.Spec.command([sys.executable, "-I", "-S", "-c", _FORKS])
    container = await started(
        engine, "web", limited(bomb, pids={"limit": 100}), stdout=asyncrt.PIPE
    )
    made = made_for(container, engine.root)
    assert await line(container.stdout) == "up"
    await until(lambda: len(_cgroups.pids(made[0])) > 50, "it forks")
    await container.kill("KILL", all=True)
    assert _cgroups.pids(made[0]) == []
    await container.destroy()
    assert left(made) == []


async def test_an_exec_that_ignores_the_pause_runs_once_it_is_over(
    engine: Engine, either: None
) -> None:
    """What is frozen takes every process along that joins it."""
    async with destroyed(
        await started(engine, "web", limited(sleeper(), pids={"limit": 9}))
    ) as container:
        await container.pause()
        asked = asyncio.create_task(container.exec(["/bin/true"], ignore_paused=True))
        cgroup = where(container, engine.root)
        await until(lambda: len(_cgroups.pids(cgroup)) == 2, "it has joined")
        assert not asked.done()
        await container.resume()
        process = await asked
        assert (await process.wait()).exit_code == 0
        process.close()


async def test_under_a_supervising_caller_the_cgroup_does_the_same(engine: Engine) -> None:
    container = await started(engine, "web", _daemons(), stdout=asyncrt.PIPE, supervision="caller")
    made = made_for(container, engine.root)
    daemon = int(await line(container.stdout))
    await container.pause()
    assert _cgroups.is_frozen(where(container, engine.root))
    await container.resume()
    assert daemon in [each.pid for each in await container.processes()]
    await container.destroy()
    await gone(daemon)
    assert left(made) == []


async def test_cgroups_that_the_workload_made_in_its_own_go_with_it(engine: Engine) -> None:
    path = unique()
    inner = f"{cgroups.holder().top}{path}/deep/er"
    script = f"mkdir -p {inner}; sleep 1000 & echo $! >{inner}/cgroup.procs; echo up; wait"
    container = await started(engine, "web", limited(shell(script), path), stdout=asyncrt.PIPE)
    assert await line(container.stdout) == "up"
    made = made_for(container, engine.root)
    assert len(await container.processes()) == 2
    await container.pause()
    await container.destroy()
    assert left(made) == []
