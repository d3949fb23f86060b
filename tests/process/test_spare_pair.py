"""The supervisor and the init that a fork server keeps ready: what may happen to them meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from pathlib import Path

import psutil
import pytest

import asyncrt
from asyncrt import Engine, _cgroups
from asyncrt.sandbox import launcher
from tests.helpers.capabilities import User
from tests.helpers.cgroups import limited
from tests.helpers.containers import (
    destroyed,
    gone,
    init_of,
    record_of,
    sleeper,
    spare_pair,
    started,
    supervisor_of,
)
from tests.helpers.leaks import LeakCheck
from tests.helpers.processes import Interpreter, until

MANY = """
import asyncio, resource, sys
import asyncrt

resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
spec = asyncrt.Spec.command(["/bin/sleep", "1000"])

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        made = [await engine.create(f"c{n}", spec=spec) for n in range(60)]
        for container in made:
            await container.destroy()
    print("made", len(made), flush=True)

asyncio.run(main())
"""


async def test_an_init_whose_supervisor_was_killed_names_no_other_process_as_its_supervisor(
    engine: Engine,
) -> None:
    supervisor, init = await spare_pair(engine)
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: psutil.Process(init).ppid() != supervisor, "another parent")
    container = await started(engine, "web", sleeper())  # by the next pair
    above = record_of(container, engine.root).supervisor
    assert above is not None
    assert above.pid == psutil.Process(init_of(container, engine.root)).ppid()
    await container.destroy()


async def test_a_launch_that_hangs_keeps_no_other_create_waiting(engine: Engine) -> None:
    _, init = await spare_pair(engine)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        engine._context.launcher.server.hand(b"S", theirs)  # and it hears nothing of what to launch
        async with engine.running("web", spec=sleeper(), timeout=30):
            assert psutil.Process(init).is_running()
    await gone(init)


async def test_a_spare_init_that_was_stopped_and_goes_on_keeps_its_supervisor_asleep(
    engine: Engine,
) -> None:
    supervisor, init = await spare_pair(engine)
    above = psutil.Process(supervisor)
    os.kill(init, signal.SIGSTOP)
    await until(lambda: psutil.Process(init).status() == psutil.STATUS_STOPPED, "a stopped init")
    before = sum(above.cpu_times()[:2])
    await asyncio.sleep(0.3)  # orders nothing: the time in which it would use up 0.3 s
    assert sum(above.cpu_times()[:2]) - before < 0.05
    os.kill(init, signal.SIGCONT)
    container = await started(engine, "web", sleeper())
    await container.destroy()


@pytest.mark.parametrize("supervision", ["own", "caller"])
async def test_a_supervisor_that_was_late_for_its_init_ends(
    engine: Engine, supervision: asyncrt.container.Supervision
) -> None:
    supervisor, init = await spare_pair(engine)
    os.kill(supervisor, signal.SIGSTOP)
    creating = asyncio.create_task(
        engine.create(
            "web",
            spec=sleeper(),
            deadline_seconds=60 if supervision == "own" else None,
            supervision=supervision,
        )
    )
    await until(lambda: psutil.Process(init).name() == "asyncrt:gate", "an init at its gate")
    os.kill(init, signal.SIGKILL)
    os.kill(supervisor, signal.SIGCONT)
    await gone(supervisor)
    (made,) = await asyncio.gather(creating, return_exceptions=True)
    if isinstance(made, asyncrt.Container):
        await made.destroy()
    assert await engine.list() == []


@pytest.mark.needs_root
def test_a_user_may_have_more_containers_than_descriptors_may_lie_in_its_sockets(
    ordinary_user: User, leak_check: LeakCheck
) -> None:
    path = tempfile.mkdtemp(prefix="asyncrt-test-", dir="/dev/shm")
    leak_check.watch_root(path)
    os.chown(path, ordinary_user.uid, ordinary_user.gid)
    with Interpreter(
        MANY, path, flags=("-B",), user=ordinary_user.uid, group=ordinary_user.gid
    ) as user:
        assert user.line() == "made 60"
        assert user.wait() == 0


async def test_a_create_whose_launcher_hangs_is_given_up_in_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_GIVE_UP_SECONDS", 0.2)
    _, init = await spare_pair(engine)
    os.kill(init, signal.SIGSTOP)
    with pytest.raises(asyncrt.SandboxUnresponsive) as caught:
        await engine.create("web", spec=sleeper(), timeout=0.2)
    assert caught.value.operation == "create"
    assert await engine.list() == []
    os.kill(init, signal.SIGCONT)
    await gone(init)


@pytest.mark.needs_root
@pytest.mark.needs_cgroups("pids")
async def test_who_needs_a_cgroup_of_version_2_is_born_in_it_and_its_spare_is_reaped(
    engine: Engine,
) -> None:
    supervisor, spare = await spare_pair(engine)
    async with destroyed(await started(engine, "web", limited(sleeper(), pids={"limit": 9}))) as it:
        record = record_of(it, engine.root)
        version_2 = [each.path for each in record.cgroup if _cgroups.is_v2(each.path)]
        init = init_of(it, engine.root)
        assert (init == spare) is not bool(version_2)
        assert supervisor_of(it, engine.root) == supervisor
        await until(lambda: _children(supervisor) == [init], "it has no other child")
        assert [_cgroups.pids(each.path) for each in record.cgroup] == [[init]] * len(record.cgroup)


def _children(pid: int) -> list[int]:
    return [each.pid for each in psutil.Process(pid).children()]


@pytest.mark.needs_root
async def test_the_mount_that_sandboxes_open_dev_null_through_stays_with_the_fork_server(
    engine: Engine,
) -> None:
    """Whoever has the last descriptor of it waits for the kernel; none of these has a use for it."""
    supervisor, spare = await spare_pair(engine)
    server = engine._context.launcher.server.pid
    container = await started(engine, "web", sleeper())
    for pid, many in ((server, 1), (spare, 0), (supervisor, 0)):
        assert len(_mounts_of_null(pid)) == many
    await container.destroy()


def _mounts_of_null(pid: int) -> list[str]:
    """Descriptors of /dev/null that nothing can be read or written through (open(2), O_PATH)."""
    null = os.makedev(1, 3)
    return [
        name
        for name in os.listdir(f"/proc/{pid}/fd")
        if os.stat(f"/proc/{pid}/fd/{name}").st_rdev == null
        and int(Path(f"/proc/{pid}/fdinfo/{name}").read_text().split()[3], 8) & os.O_PATH
    ]
