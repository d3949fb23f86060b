"""supervision="caller": nothing of ours between the caller and init, and the same gate and record.

The test process is the caller: a sub-reaper that reaps init by itself.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import asyncrt
from asyncrt import PIPE, Engine, Status, _libc
from tests.helpers.containers import (
    destroyed,
    directory_of,
    gone,
    in_state,
    init_of,
    is_alive,
    line,
    record_of,
    shell,
    sleeper,
    started,
)
from tests.helpers.processes import until
from tests.helpers.records import names, raw_record


def tells_exits() -> bool:
    """Whether the kernel tells others than the parent how a process ended (Linux 6.15)."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    pidfd = os.pidfd_open(pid)
    try:
        os.waitpid(pid, 0)
        return _libc.exit_status(pidfd) is not None
    finally:
        os.close(pidfd)


@pytest.fixture
async def reaper(engine: Engine) -> AsyncIterator[None]:
    """Reaps what isn't anybody's while the test runs, as a sub-reaper does."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    async def reap() -> None:
        while not ended.is_set():
            for pid in _orphans():
                os.waitpid(pid, os.WNOHANG)
            await asyncio.sleep(0.005)

    task = loop.create_task(reap())
    yield
    ended.set()
    await task


def _orphans() -> list[int]:
    from tests.helpers import reaping

    return [pid for pid in reaping.orphans() if not is_alive(pid)]


async def test_it_starts_and_ends_and_the_kernel_tells_how(engine: Engine, reaper: None) -> None:
    container = await engine.create(
        "web", spec=shell("read x; exit 7"), supervision="caller", stdin=PIPE
    )
    init = init_of(container, engine.root)
    assert (await container.view()).status is Status.CREATED
    await container.start()
    assert (await container.view()).status is Status.RUNNING
    assert [each.pid for each in await container.processes()] == [init]
    waiting = asyncio.create_task(container.wait())
    users = engine._context.watches._users
    await until(lambda: bool(users), "it waits")
    assert container.stdin is not None
    container.stdin.write(b"go\n")
    result = await waiting
    if tells_exits():
        assert (result.exit_code, result.signal, result.reason) == (7, None, "exit")
        assert result.started_at is not None
    assert await container.wait() == result
    assert (await container.view()).status is Status.STOPPED
    async with asyncrt.Engine(engine.root) as other:
        assert await (await other.load("web")).wait() == result
    assert os.listdir(directory_of(container, engine.root)) in (
        ["config.json", "gate.sock"],
        ["gate.sock", "config.json"],
    )
    await container.destroy()
    assert names(engine.root) == []


async def test_descriptors_are_passed_to_it_and_nothing_else(engine: Engine, reaper: None) -> None:
    read, write = os.pipe()
    script = (
        'for i in $(seq 0 300); do [ -e /proc/$$/fd/$i ] && list="$list $i"; done; echo $list >&9'
    )
    web = await engine.create("web", spec=shell(script), supervision="caller", pass_fds={9: write})
    async with destroyed(web):
        await web.start()
        await web.wait()
    os.close(write)
    with open(read, "rb") as said:
        assert said.read() == b"0 1 2 9\n"


async def test_both_supervisions_have_the_same_gate_and_record_fields(
    engine: Engine, reaper: None
) -> None:
    own = await engine.create("own", spec=sleeper())
    caller = await engine.create("caller", spec=sleeper(), supervision="caller")
    one, two = (raw_record(engine.root, id) for id in ("own", "caller"))
    assert one.keys() == two.keys()
    assert (one["supervision"], two["supervision"]) == ("own", "caller")
    assert (one["supervisor"] is None, two["supervisor"] is None) == (False, True)
    for container in (own, caller):
        assert "gate.sock" in os.listdir(directory_of(container, engine.root))
        await container.start()
        assert (await container.view()).status is Status.RUNNING
    one, two = (raw_record(engine.root, id) for id in ("own", "caller"))
    assert one.keys() == two.keys()
    assert set(os.listdir(directory_of(own, engine.root))) - set(
        os.listdir(directory_of(caller, engine.root))
    ) == {"control.sock"}
    await own.destroy()
    await caller.destroy()


async def test_nothing_of_ours_stands_between_the_caller_and_init(
    engine: Engine, reaper: None
) -> None:
    container = await started(engine, "web", sleeper(), supervision="caller")
    init = init_of(container, engine.root)

    def ours() -> bool:
        parent = Path(f"/proc/{init}/stat").read_text().rpartition(") ")[2].split()[1]
        return int(parent) == os.getpid()

    await until(ours, "init's parent is the caller's sub-reaper")
    with pytest.raises(asyncrt.SandboxUnresponsive) as caught:
        await container.exec(["/bin/true"])
    assert "no supervisor of its own" in str(caught.value)
    await container.destroy()


@pytest.mark.parametrize(
    ("program", "number"),
    [("/no/such", errno.ENOENT), ("/tmp", errno.EISDIR), ("/etc/passwd", errno.EACCES)],
)
async def test_a_program_that_cannot_be_executed_makes_create_fail(
    program: str, number: int, engine: Engine, reaper: None
) -> None:
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("web", spec=asyncrt.Spec.command([program]), supervision="caller")
    assert (caught.value.errno, caught.value.path) == (number, program)
    assert names(engine.root) == []


async def test_every_verb_that_needs_no_supervisor_works(engine: Engine, reaper: None) -> None:
    script = "trap 'echo got' USR1; sleep 1000 & echo up; while :; do wait; done"
    container = await started(engine, "web", shell(script), supervision="caller", stdout=PIPE)
    assert await line(container.stdout) == "up"
    init = init_of(container, engine.root)
    (child,) = [each.pid for each in await container.processes() if each.pid != init]
    await container.kill("USR1")
    assert await line(container.stdout) == "got"
    await container.pause()
    await in_state(init, "T")
    await in_state(child, "T")
    assert (await container.view()).status is Status.PAUSED
    await container.kill("CONT", all=True)
    await in_state(init, "T")
    await container.resume()
    await in_state(init, "S")
    await container.kill("USR1", all=True)
    await gone(child)
    await container.stop(0)
    result = await container.wait()
    assert result.signal == 9 or result.reason == "unknown"
    assert not is_alive(init)
    await container.destroy()
    assert names(engine.root) == []


async def test_stop_lets_the_program_end_by_itself(engine: Engine, reaper: None) -> None:
    script = "trap 'exit 3' TERM; sleep 1000 & echo up; wait"
    container = await started(engine, "web", shell(script), supervision="caller", stdout=PIPE)
    assert await line(container.stdout) == "up"
    sleep = [each.pid for each in await container.processes()][1]
    await container.stop()
    result = await container.wait()
    assert result.exit_code == 3 or result.reason == "unknown"
    await container.destroy()
    # Without a cgroup and a supervisor, what a program leaves behind goes to the caller's reaper.
    if is_alive(sleep):
        os.kill(sleep, signal.SIGKILL)


async def test_destroy_ends_a_whole_tree(engine: Engine, reaper: None) -> None:
    script = "setsid sleep 1000 & sleep 1000 & echo up; wait"
    container = await started(engine, "web", shell(script), supervision="caller", stdout=PIPE)
    assert await line(container.stdout) == "up"
    pids = [each.pid for each in await container.processes()]
    assert len(pids) == 3
    await container.destroy()
    assert not [pid for pid in pids if is_alive(pid)]
    assert names(engine.root) == []


async def test_a_created_one_lives_on_without_its_launcher_and_starts(
    engine: Engine, reaper: None
) -> None:
    async with asyncrt.Engine(engine.root) as first:
        await first.create("web", spec=sleeper(), supervision="caller")
    async with destroyed(await engine.load("web")) as container:
        assert (await container.view()).status is Status.CREATED
        await container.start()
        assert (await container.view()).status is Status.RUNNING


async def test_init_ends_with_a_launcher_whose_launch_was_never_acknowledged(
    engine: Engine, reaper: None
) -> None:
    """HAZARDS 13: no unrecorded init."""
    hook = asyncrt.Hook(path="/bin/false")
    with pytest.raises(asyncrt.HookFailed):
        await engine.create(
            "web", spec=sleeper(hooks={"createRuntime": [hook]}), supervision="caller"
        )
    assert names(engine.root) == []


async def test_a_start_that_fails_after_the_gate_is_a_stopped_container(
    engine: Engine, reaper: None, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/sh\n")
    program.chmod(0o755)
    container = await engine.create(
        "web", spec=asyncrt.Spec.command([program]), supervision="caller"
    )
    program.unlink()
    with pytest.raises(asyncrt.StartFailed) as caught:
        await container.start()
    assert caught.value.errno == errno.ENOENT
    result = await container.wait()
    assert (result.exit_code, result.reason) == (None, "start failed")
    assert record_of(container, engine.root).status is Status.STOPPED
    await container.destroy()


async def test_a_deadline_that_nobody_would_keep_is_refused(engine: Engine) -> None:
    with pytest.raises(asyncrt.SpecInvalid, match="supervision"):
        await engine.create("web", spec=sleeper(), supervision="caller", deadline_seconds=60)
    assert names(engine.root) == []
