"""Ends of one container among several, however its processes multiply, hide and outlive; its own console."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterator

import pytest

import asyncrt
from asyncrt import Status, _cgroups
from asyncrt.container import destroy, tree
from asyncrt.platforms.cgroups.machine import discover
from tests.helpers import capabilities
from tests.helpers.cgroups import left, unique, where
from tests.helpers.containers import gone, init_of, is_alive, line, supervisor_of
from tests.helpers.pods import Pods, members, pids
from tests.helpers.processes import until, wait_until
from tests.helpers.terminals import seen

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]

# Forks in eight places at once as fast as it can be done, and stays small all the same.
STORM = "for i in 0 1 2 3 4 5 6 7; do (while :; do (exit 0); done) & done; wait"


def _without_pid_namespace(spec: asyncrt.Spec) -> asyncrt.Spec:
    """The same in the host's: nothing of it ends because its init does."""
    config = json.loads(spec.encoded())
    if "namespaces" in config.get("linux", {}):
        kept = [each for each in config["linux"]["namespaces"] if each["type"] != "pid"]
        config["linux"]["namespaces"] = kept
        proc = {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}
        mounts = [each for each in config["mounts"] if each["destination"] != "/proc"]
        config["mounts"] = [proc, *mounts]
        del config["linux"]["maskedPaths"], config["linux"]["readonlyPaths"]
    return asyncrt.Spec.decode(json.dumps(config).encode())


@pytest.mark.parametrize("pid", ["a pid namespace", "none"])
async def test_kill_all_of_one_outruns_what_is_execd_and_forks_and_hits_no_sibling(
    pods: Pods, pid: str
) -> None:
    sandbox = await pods.sandbox()
    plain = pods.sleeper() if pid != "none" else _without_pid_namespace(pods.sleeper())
    one = await pods.running(sandbox, "one", plain)
    two = await pods.running(sandbox, "two", plain)
    beside = await two.exec(["/bin/sleep", "1000"])
    storms = [await each.exec(["/bin/sh", "-c", STORM]) for each in (one, one)]
    daemon = await one.exec(["/bin/sh", "-c", f"setsid sh -c '{STORM}' & exit 0"])
    assert (await daemon.wait()).exit_code == 0
    cgroup = where(one, pods.root)
    await until(lambda: len(_cgroups.pids(cgroup)) > 25, "they fork")
    await one.kill("KILL", all=True)
    assert _cgroups.pids(cgroup) == []
    assert (await one.view()).status is Status.STOPPED
    for each in (*storms, daemon):
        each.close()
    await one.kill("KILL", all=True)
    assert await pids(two) == {init_of(two, pods.root), beside.pid}
    for sibling in (two, sandbox.root):
        assert (await sibling.view()).status is Status.RUNNING
    beside.close()
    await sandbox.destroy()


@pytest.mark.parametrize("how", ["kill all", "destroy"])
async def test_what_outlives_the_init_of_one_and_the_supervisor_ends_and_no_sibling(
    pods: Pods, how: str
) -> None:
    sandbox = await pods.sandbox()
    script = _without_pid_namespace(
        pods.shell("setsid sleep 1000 & echo up; while :; do sleep 1000; done")
    )
    one = await sandbox.create("one", spec=script, stdout=asyncrt.PIPE)
    two = await pods.running(sandbox, "two", _without_pid_namespace(pods.sleeper()))
    await one.start()
    assert await line(one.stdout) == "up"
    cgroup = where(one, pods.root)
    await until(lambda: len(_cgroups.pids(cgroup)) == 3, "its daemon runs")
    for each in (supervisor_of(one, pods.root), init_of(one, pods.root)):
        os.kill(each, signal.SIGKILL)
        await gone(each)
    assert (await one.view()).status is Status.STOPPED
    survivors = _cgroups.pids(cgroup)
    assert len(survivors) == 2
    if how == "kill all":
        await one.kill("KILL", all=True)
        assert not any(map(is_alive, survivors))
    await one.destroy()
    assert left([cgroup]) == []
    assert not any(map(is_alive, survivors))
    for sibling in (two, sandbox.root):
        assert (await sibling.view()).status is Status.RUNNING
        assert is_alive(init_of(sibling, pods.root))
    await sandbox.destroy()
    assert os.listdir(pods.root) == ["~events"]


@contextlib.contextmanager
def _unkillable(pid: int) -> Iterator[None]:
    """What version 1 has frozen takes no signal, SIGKILL neither, until it is thawed."""
    freezer = discover().v1.get("freezer")
    if freezer is None:
        capabilities.skip_lacking("the freezer of cgroup version 1")
    directory = f"{freezer.top}{unique()}"
    os.mkdir(directory)
    try:
        _cgroups.write(f"{directory}/cgroup.procs", str(pid))
        _cgroups.write(f"{directory}/freezer.state", "FROZEN")
        wait_until(
            lambda: _cgroups.read(f"{directory}/freezer.state") == b"FROZEN\n", "it is frozen"
        )
        yield
    finally:
        _cgroups.write(f"{directory}/freezer.state", "THAWED")
        wait_until(lambda: not _cgroups.pids(directory), "it has ended")
        os.rmdir(directory)


@pytest.mark.parametrize("who", ["init", "daemon"])
async def test_what_takes_no_kill_is_told_in_time_its_record_stays_and_a_second_destroy_ends_it(
    pods: Pods, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """HAZARDS 14. No sibling has to do with it."""
    for module, name in ((destroy, "_KILLED_SECONDS"), (tree, "_ENDING_SECONDS")):
        monkeypatch.setattr(module, name, 0.2)
    sandbox = await pods.sandbox()
    plain = pods.shell("sleep 1000 & while :; do sleep 1000; done")
    one = await pods.running(sandbox, "one", _without_pid_namespace(plain))
    two = await pods.running(sandbox, "two")
    init, cgroup = init_of(one, pods.root), where(one, pods.root)
    await until(lambda: len(_cgroups.pids(cgroup)) == 3, "its daemon runs")
    pid = init if who == "init" else next(each for each in _cgroups.pids(cgroup) if each != init)
    with _unkillable(pid):
        with pytest.raises(asyncrt.DestroyFailed) as caught:
            async with asyncio.timeout(20):
                await one.destroy(timeout=0.2)
        first, *others = caught.value.left  # others: of further hierarchies
        expected = f"init (pid {pid})" if who == "init" else f"cgroup {cgroup} (pids {pid})"
        assert first == expected
        assert all(f"(pids {pid})" in each for each in others)
        assert "\n" not in str(caught.value)
        assert members(pods.root) == ["one", "two"]
        with pytest.raises(asyncrt.ContainerExists):
            await sandbox.create("one", spec=pods.sleeper())
        assert is_alive(pid)
        assert (await two.view()).status is Status.RUNNING
    await one.destroy()
    assert left([cgroup]) == []
    assert members(pods.root) == ["two"]
    assert (await two.view()).status is Status.RUNNING
    await sandbox.destroy()
    assert os.listdir(pods.root) == ["~events"]


async def test_each_has_a_console_of_its_own_that_its_creator_gets(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    script = 'stty -echo; echo "ready $1"; read x; echo "$1 heard $x"; exec sleep 1000'
    async with asyncrt.ConsoleSocket(f"{pods.root}/~console") as console:
        with contextlib.ExitStack() as undo:
            terminals = {}
            for name in ("one", "two"):
                container = await sandbox.create(
                    name,
                    spec=pods.shell(script, name),
                    terminal=True,
                    console_socket=console.path,
                )
                terminals[name] = undo.enter_context(contextlib.closing(await console.receive()))
                await container.start()
            for name, terminal in terminals.items():
                await seen(terminal, f"ready {name}")
            # The other order, so that no line can have gone to the wrong one.
            for name in ("two", "one"):
                await terminals[name].write(f"for {name}\n".encode())
                await seen(terminals[name], f"{name} heard for {name}")
            one = await pods.engine.load("one")
            await one.kill("KILL", all=True)
            assert (await (await pods.engine.load("two")).view()).status is Status.RUNNING
            assert members(pods.root) == ["one", "two"]
            await sandbox.destroy()
