"""Containers in cgroups of their own: limits in force, all of it paused and killed, nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, Status, _cgroups
from asyncrt.container import create
from asyncrt.platforms.cgroups import plan
from asyncrt.platforms.cgroups.machine import Machine, discover
from asyncrt.sandbox import ChannelClosed, Launched, PidWatch
from tests.helpers import capabilities, cgroups
from tests.helpers.cgroups import everywhere, existing, left, limited, made_for, unique, where
from tests.helpers.containers import (
    destroyed,
    gone,
    init_of,
    is_alive,
    line,
    record_of,
    rest,
    shell,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import until

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroups("memory", "pids")]

COUNT = 'echo up; i=0; while :; do i=$((i + 1)); echo $i >"$1"; done'
EAT = "b = b''\nwhile True: b += bytes(1 << 20)"


def _version_1(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = discover()
    if "freezer" not in machine.v1:
        capabilities.skip_lacking("a freezer of cgroup version 1")
    monkeypatch.setattr(plan, "discover", lambda: cgroups.without_v2(machine))


def _as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch


@pytest.fixture(params=[_as_it_is, _version_1], ids=["this machine", "version 1"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice: with what this machine has, and as if it had no version 2."""
    choose: Callable[[pytest.MonkeyPatch], None] = request.param
    choose(monkeypatch)


@pytest.fixture(autouse=True)
async def nothing_stays(engine: Engine) -> AsyncIterator[None]:
    """A failed test's cgroups would outlive it; a container's end takes them along."""
    yield
    for each in await engine.list():
        await engine.delete(each.id, force=True)


def _daemons(first: str = "") -> asyncrt.Spec:
    """Init, and one that no tree leads to once its supervisor is gone, whose pid it tells."""
    script = f"{first} (setsid sleep 1000 & echo $!); exec sleep 1000"
    return limited(shell(script), pids={"limit": 50})


async def test_limits_are_in_force_and_nothing_is_left(engine: Engine, either: None) -> None:
    script = """
        echo up; read go
        for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done
        wait
    """
    spec = limited(shell(script), memory={"limit": 64 << 20}, pids={"limit": 4})
    container = await started(engine, "web", spec, stdin=asyncrt.PIPE, stderr=asyncrt.PIPE)
    async with destroyed(container):
        made = made_for(container, engine.root)
        memory, pids = (where(container, engine.root, each) for each in ("memory", "pids"))
        assert "asyncrt-web." in memory
        files = ("memory.max", "memory.limit_in_bytes")
        limit = next(Path(memory, each) for each in files if os.path.exists(f"{memory}/{each}"))
        assert limit.read_text() == f"{64 << 20}\n"
        assert Path(pids, "pids.max").read_text() == "4\n"
        assert container.stdin is not None
        container.stdin.write(b"go\n")
        assert "fork" in await line(container.stderr)
    assert left(made) == []


def _block_device() -> dict[str, int]:
    for name in os.listdir("/sys/block"):
        major, minor = Path(f"/sys/block/{name}/dev").read_text().split(":")
        return {"major": int(major), "minor": int(minor)}
    return {"major": 7, "minor": 0}


_FIELDS: list[dict[str, Any]] = [
    {"memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20}},
    {"memory": {"swappiness": 7}},
    {"memory": {"kernelTCP": 16 << 20}},
    {"cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 10000}},
    {"cpu": {"idle": 1}},
    {"cpu": {"cpus": "0", "mems": "0"}},
    {"pids": {"limit": 9}},
    {"blockIO": {"throttleReadBpsDevice": [{**_block_device(), "rate": 1 << 20}]}},
    {"blockIO": {"throttleWriteIOPSDevice": [{**_block_device(), "rate": 77}]}},
    {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]},
    {"unified": {"cgroup.max.depth": "3"}},
]


@pytest.mark.parametrize("resources", _FIELDS, ids=str)
async def test_every_limit_that_this_machine_has_is_in_force(
    resources: dict[str, Any], engine: Engine
) -> None:
    """Read back from the kernel, and compared with what was planned."""
    path = unique()
    spec = limited(sleeper(), path, **resources)
    planned = plan.plan_cgroup(spec.config.linux, name="web", wanted=True)
    if planned.refused:
        with pytest.raises(asyncrt.SpecUnsupported):
            await engine.create("web", spec=spec)
        capabilities.skip_lacking(str(planned.refused))
    assert planned.plan is not None
    async with destroyed(await started(engine, "web", spec)) as container:
        for _, choices in planned.plan["writes"]:
            file, value = next(each for each in choices if os.path.exists(each[0]))
            assert value in Path(file).read_text(), file
        assert (await container.view()).status is Status.RUNNING
    assert left(everywhere(path)) == []


async def test_a_processor_quota_holds_a_busy_container_back(engine: Engine) -> None:
    """As the kernel counts it: how much it gets of a time is up to the rest of the machine too."""
    spec = limited(shell("while :; do :; done"), cpu={"quota": 5000, "period": 50000})
    async with destroyed(await started(engine, "web", spec)) as container:
        counts = Path(where(container, engine.root, "cpu"), "cpu.stat")

        def held_back() -> int:
            words = counts.read_text().split()
            return int(words[words.index("nr_throttled") + 1])

        await until(lambda: held_back() > 0, "it is held back")


async def test_an_end_for_want_of_memory_is_told_as_one(engine: Engine, either: None) -> None:
    """HAZARDS 24."""
    spec = limited(
        asyncrt.Spec.command([sys.executable, "-I", "-S", "-c", EAT]),
        memory={"limit": 32 << 20, "swap": 32 << 20},
    )
    container = await started(engine, "web", spec)
    result = await container.wait()
    assert (result.signal, result.reason, result.oom_killed) == (signal.SIGKILL, "oom", True)
    assert (await engine.list())[0].exit == result
    await container.destroy()


async def test_a_kill_is_no_want_of_memory(engine: Engine, either: None) -> None:
    container = await started(engine, "web", limited(sleeper(), memory={"limit": 32 << 20}))
    await container.kill("KILL")
    result = await container.wait()
    assert (result.signal, result.reason, result.oom_killed) == (signal.SIGKILL, "signal", False)
    await container.destroy()


async def test_an_exec_that_takes_too_much_memory_ends_alone(engine: Engine, either: None) -> None:
    spec = limited(sleeper(), memory={"limit": 32 << 20, "swap": 32 << 20})
    async with destroyed(await started(engine, "web", spec)) as container:
        process = await container.exec([sys.executable, "-I", "-S", "-c", EAT])
        result = await process.wait()
        assert (result.signal, result.reason, result.oom_killed) == (9, "oom", True)
        process.close()
        process = await container.exec(["/bin/true"])
        result = await process.wait()
        assert (result.exit_code, result.reason, result.oom_killed) == (0, "exit", False)
        process.close()


async def test_the_end_of_init_is_told_by_the_kernels_count_without_a_supervisor(
    engine: Engine,
) -> None:
    script = f"read go; exec {sys.executable} -I -S -c '{EAT}'"
    spec = limited(shell(script), memory={"limit": 32 << 20, "swap": 32 << 20})
    container = await started(engine, "web", spec, stdin=asyncrt.PIPE)
    supervisor = supervisor_of(container, engine.root)
    os.kill(supervisor, signal.SIGKILL)
    await gone(supervisor)
    waiting = asyncio.create_task(container.wait())
    watches = engine._context.watches._open
    await until(lambda: any(isinstance(each, PidWatch) for each in watches.values()), "it waits")
    assert container.stdin is not None
    container.stdin.write(b"go\n")
    result = await waiting
    if result.reason != "unknown":  # as where the kernel tells nobody but the parent (before 6.15)
        assert (result.signal, result.reason, result.oom_killed) == (9, "oom", True)
    await container.destroy()


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


# Forks for ever, also where it is refused: a shell ends then, and may take all of it along.
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


async def test_an_exec_joins_every_one_of_its_cgroups(engine: Engine, either: None) -> None:
    spec = limited(sleeper(), pids={"limit": 20}, cpu={"shares": 512})
    async with destroyed(await started(engine, "web", spec)) as container:
        process = await container.exec(["/bin/cat", "/proc/self/cgroup"], stdout=asyncrt.PIPE)
        inside = await rest(process.stdout)
        process.close()
        of_init = Path(f"/proc/{init_of(container, engine.root)}/cgroup").read_text()
        assert inside == of_init
        assert inside.count("/asyncrt-web.") == len(record_of(container, engine.root).cgroup)


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


async def test_nobody_but_the_container_is_moved(engine: Engine) -> None:
    before = Path("/proc/self/cgroup").read_text()
    async with destroyed(await started(engine, "web", limited(sleeper(), pids={"limit": 9}))) as it:
        assert Path("/proc/self/cgroup").read_text() == before
        supervisor = supervisor_of(it, engine.root)
        assert Path(f"/proc/{supervisor}/cgroup").read_text() == before


async def test_a_path_is_made_as_far_as_it_is_missing_and_removed_so(engine: Engine) -> None:
    pod = unique()
    with existing(pod) as directory:
        spec = limited(sleeper(), f"{pod}/inner/web", memory={"limit": 64 << 20})
        async with destroyed(await engine.create("web", spec=spec)) as container:
            made = made_for(container, engine.root)
            assert f"{directory}/inner" in made
            assert f"{directory}/inner/web" in made
            assert directory not in made
            assert where(container, engine.root) == f"{directory}/inner/web"
        assert left(made) == []
        assert os.path.isdir(directory)
    assert left(everywhere(pod)) == []


async def test_a_parent_that_another_uses_by_now_stays_for_it(engine: Engine) -> None:
    pod = unique()
    one = await engine.create("one", spec=limited(sleeper(), f"{pod}/one"))
    two = await engine.create("two", spec=limited(sleeper(), f"{pod}/two"))
    made = made_for(one, engine.root)
    await one.destroy()
    assert left(made) == [each for each in made if each.endswith(pod)]
    await two.destroy()
    for each in left(made):  # nobody's any more, and empty: the first to make it has gone
        os.rmdir(each)


async def test_a_cgroup_that_was_there_is_used_and_never_removed(engine: Engine) -> None:
    pod = unique()
    with existing(pod) as directory:
        inode = _cgroups.inode(directory)
        container = await started(engine, "web", limited(sleeper(), pod))
        assert directory not in record_of(container, engine.root).cgroups
        assert where(container, engine.root) == directory
        await container.destroy()
        assert _cgroups.inode(directory) == inode
        assert _cgroups.pids(directory) == []


@pytest.mark.parametrize("there", [True, False], ids=["there before", "made"])
async def test_who_uses_a_cgroup_after_a_container_is_not_killed_with_it(
    there: bool, engine: Engine
) -> None:
    """The same path, taken once it is empty, before the first to have it is destroyed."""
    pod = unique()
    with existing(pod) if there else contextlib.nullcontext():
        one = await started(engine, "one", limited(shell("exit 0"), pod))
        await one.wait()
        two = await started(engine, "two", limited(sleeper(), pod))
        await one.kill("KILL", all=True)
        await one.destroy()
        assert (await two.view()).status is Status.RUNNING
        assert (await two.processes())[0].pid == init_of(two, engine.root)
        await two.destroy()
    for each in left(everywhere(pod)):  # of the first, who left it to the second
        os.rmdir(each)


@pytest.mark.parametrize("state", ["used", "frozen"])
async def test_a_cgroup_that_others_use_or_that_is_frozen_is_refused(
    state: str, engine: Engine
) -> None:
    """Their processes would be paused and killed with the container's; or its own never begin."""
    pod = unique()
    with existing(pod) as directory:
        user = None
        number = errno.EBUSY
        if state == "frozen":
            _cgroups.freeze(directory, 5)
        else:
            user = await started(engine, "user", limited(sleeper(), f"{pod}/deep"))
            number = errno.ENOTEMPTY
        with pytest.raises(asyncrt.StartFailed) as caught:
            await engine.create("web", spec=limited(sleeper(), pod, memory={"limit": 1 << 26}))
        assert (caught.value.what, caught.value.errno) == ("linux.cgroupsPath", number)
        assert caught.value.path == directory
        assert [each.id for each in await engine.list()] == (["user"] if user else [])
        if user is not None:
            assert (await user.view()).status is Status.RUNNING
            await user.destroy()
        assert os.path.isdir(directory)
    assert left(everywhere(pod)) == []


@pytest.mark.parametrize("supervision", ["own", "caller"])
async def test_a_creation_that_fails_leaves_no_cgroup(supervision: str, engine: Engine) -> None:
    path = unique()
    spec = asyncrt.Spec.command(["/bin/true"], cwd="/nowhere")
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create(
            "web",
            spec=limited(spec, path, memory={"limit": 1 << 26}),
            supervision=supervision,  # type: ignore[arg-type]  # one of its names
        )
    assert caught.value.what == "process.cwd"
    assert left(everywhere(path)) == []


async def test_a_limit_that_the_kernel_refuses_is_named_with_its_file(engine: Engine) -> None:
    path = unique()
    # No such block device: only the kernel knows.
    device = {"major": 4000, "minor": 4000, "rate": 5}
    spec = limited(sleeper(), path, blockIO={"throttleReadBpsDevice": [device]})
    with pytest.raises((asyncrt.StartFailed, asyncrt.SpecUnsupported)) as caught:
        await engine.create("web", spec=spec)
    if isinstance(caught.value, asyncrt.StartFailed):
        assert caught.value.what == "linux.resources.blockIO.throttleReadBpsDevice[0]"
        assert caught.value.errno == errno.ENODEV
        assert path in caught.value.path
    assert left(everywhere(path)) == []


async def test_a_limit_too_small_to_begin_with_is_named(engine: Engine) -> None:
    path = unique()
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("web", spec=limited(sleeper(), path, memory={"limit": 4096}))
    assert (caught.value.what, caught.value.errno) == (
        "linux.resources.memory.limit",
        errno.ENOMEM,
    )
    assert path in caught.value.path
    assert left(everywhere(path)) == []


async def test_an_init_killed_on_its_way_leaves_its_cgroup_to_nobody(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try makes it again, or it would be taken for somebody else's, and stay."""
    path = unique()
    ask = create.Creation._ask
    asked = []

    async def killed_once(self: create.Creation, dir_fd: int) -> Launched:
        launched = await ask(self, dir_fd)
        asked.append(launched)
        if len(asked) == 1:
            for each in (launched.launcher, launched.init):  # the first would tell of the second
                os.kill(each["pid"], signal.SIGKILL)
            await engine._context.launcher.abandon(launched.channel)
            raise ChannelClosed
        return launched

    monkeypatch.setattr(create.Creation, "_ask", killed_once)
    spec = limited(sleeper(), path, memory={"limit": 64 << 20})
    async with destroyed(await engine.create("web", spec=spec)) as container:
        assert len(asked) == 2
        assert where(container, engine.root) in made_for(container, engine.root)
    assert left(everywhere(path)) == []


async def test_what_cannot_be_honoured_here_is_refused_with_the_reason(engine: Engine) -> None:
    spec = limited(sleeper(), unified={"nothing.max": "1"}, pids={"limit": 4})
    with pytest.raises(asyncrt.SpecUnsupported) as caught:
        await engine.create("web", spec=spec)
    assert caught.value.fields == ('linux.resources.unified["nothing.max"]',)
    assert "nothing controller" in str(caught.value)
    assert await engine.list() == []


async def test_the_same_path_is_one_containers_at_a_time(engine: Engine) -> None:
    path = unique()
    async with destroyed(await engine.create("one", spec=limited(sleeper(), path))):
        with pytest.raises(asyncrt.StartFailed) as caught:
            await engine.create("two", spec=limited(sleeper(), path))
        assert caught.value.errno == errno.ENOTEMPTY
    async with destroyed(await engine.create("two", spec=limited(sleeper(), path))):
        pass
    assert left(everywhere(path)) == []


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


async def test_devices_are_allowed_by_rule(engine: Engine) -> None:
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"},
    ]
    script = "for d in null kmsg; do (: <>/dev/$d) && echo $d; done; (: </dev/kmsg) && echo read"
    done = await engine.run(
        "web",
        spec=limited(shell(script), devices=rules),
        stdout=asyncrt.PIPE,
        stderr=asyncrt.DEVNULL,
    )
    assert done.stdout == b"null\nread\n"


async def test_devices_are_judged_by_a_program_where_version_2_has_to(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = discover()
    if machine.v2 is None:
        capabilities.skip_lacking("cgroup version 2")
    monkeypatch.setattr(plan, "discover", lambda: Machine({}, machine.v2))
    rules = [{"allow": False, "access": "rwm"}]
    done = await engine.run(
        "web",
        spec=limited(shell(": <>/dev/null && echo null; : </dev/kmsg && echo kmsg"), devices=rules),
        stdout=asyncrt.PIPE,
        stderr=asyncrt.DEVNULL,
    )
    assert done.stdout == b"null\n"
