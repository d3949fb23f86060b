"""wait: every waiter, in any process, before or after the exit, hears the same."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

import asyncrt
from asyncrt import Engine, Status
from tests.helpers.capabilities import User, is_root
from tests.helpers.containers import (
    Fifo,
    destroyed,
    directory_of,
    gone,
    in_state,
    shell,
    shell_hook,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import Gate, Interpreter, until
from tests.helpers.records import names

WAITER = """
import asyncio, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        container = await engine.load("web")
        waiting = asyncio.create_task(container.wait())
        while not engine._context.watches._users:
            await asyncio.sleep(0)
        print("waits", flush=True)
        result = await waiting
        print(result.exit_code, result.signal, result.reason, result.finished_at, flush=True)

asyncio.run(main())
"""


def told(result: asyncrt.ExitResult) -> str:
    return f"{result.exit_code} {result.signal} {result.reason} {result.finished_at}"


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [
        ("exit 0", 0, None),
        ("exit 1", 1, None),
        ("exit 123", 123, None),
        ("exit 255", 255, None),
        ("kill -9 $$", None, 9),
        ("kill -11 $$", None, 11),
        ("exit $((128 + 15))", 143, None),
    ],
)
async def test_the_programs_own_status_is_told(
    script: str, code: int | None, number: int | None, engine: Engine
) -> None:
    """HAZARDS 23."""
    container = await started(engine, "web", shell(script))
    result = await container.wait()
    assert (result.exit_code, result.signal) == (code, number)
    assert result.reason == ("exit" if number is None else "signal")
    assert result.status_code == (code if number is None else 128 + number)
    assert result.oom_killed is None
    assert await container.wait() == result
    await container.destroy()


async def test_twenty_waiters_of_one_engine_share_one_descriptor(engine: Engine) -> None:
    container = await started(engine, "web", sleeper())
    before = len(os.listdir("/proc/self/fd"))
    waiters = [asyncio.create_task(container.wait()) for _ in range(10)]
    other = await engine.load("web")
    waiters += [asyncio.create_task(other.wait()) for _ in range(10)]
    users = engine._context.watches._users
    await until(lambda: 20 in users.values(), "all wait")
    assert len(os.listdir("/proc/self/fd")) == before
    await container.kill("USR1")
    results = await asyncio.gather(*waiters)
    assert {told(each) for each in results} == {told(results[0])}
    assert results[0].signal == signal.SIGUSR1
    await container.destroy()


async def test_waiters_in_other_processes_hear_the_same_though_a_destroy_follows_at_once(
    engine: Engine,
) -> None:
    container = await started(engine, "web", shell("read x; exit 42"), stdin=asyncrt.PIPE)
    others = [Interpreter(WAITER, engine.root) for _ in range(3)]
    try:
        for each in others:
            assert await each.next_line() == "waits"
        here = asyncio.create_task(container.wait())
        assert container.stdin is not None
        container.stdin.write(b"go\n")
        result = await here
        await container.destroy()
        assert names(engine.root) == []
        assert result.exit_code == 42
        for each in others:
            assert await each.next_line() == told(result)
            assert each.wait() == 0
    finally:
        for each in others:
            each.kill()


async def test_waiters_hear_of_a_destroy_by_another_process_as_an_end_by_kill(
    engine: Engine,
) -> None:
    container = await started(engine, "web", sleeper())
    with Interpreter(WAITER, engine.root) as other:
        assert await other.next_line() == "waits"
        here = asyncio.create_task((await engine.load("web")).wait())
        await asyncio.sleep(0)
        await container.destroy()
        result = await here
        assert result.signal == 9
        assert await other.next_line() == told(result)


async def test_a_wait_after_the_exit_in_another_process_gives_the_same(engine: Engine) -> None:
    container = await started(engine, "web", shell("exit 9"))
    result = await container.wait()
    await gone(supervisor_of(container, engine.root))
    async with asyncrt.Engine(engine.root) as second:
        assert await (await second.load("web")).wait() == result
        (view,) = await second.list()
        assert view.exit == result
    await container.destroy()


async def test_a_wait_that_takes_too_long_raises_and_the_next_one_works(engine: Engine) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as container:
        for seconds in (0, 0.02, -1):
            with pytest.raises(TimeoutError):
                await container.wait(seconds)
        assert (await container.view()).status is Status.RUNNING
        await container.kill("KILL")
        assert (await container.wait(20)).signal == 9


async def test_a_cancelled_wait_harms_no_other_waiter(engine: Engine) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as container:
        keeps, goes = (asyncio.create_task(container.wait()) for _ in range(2))
        users = engine._context.watches._users
        await until(lambda: 2 in users.values(), "both wait")
        goes.cancel()
        with pytest.raises(asyncio.CancelledError):
            await goes
        await container.kill("KILL")
        assert (await keeps).signal == 9


async def test_a_wait_begun_while_creating_goes_on_through_the_whole_life(
    engine: Engine, tmp_path: Path
) -> None:
    with Fifo(tmp_path / "began") as began, Fifo(tmp_path / "go") as go:
        hook = shell_hook('echo x >"$1"; read x <"$2"', began.path, go.path)
        creating = asyncio.create_task(
            engine.create("web", spec=shell("exit 6", hooks={"createRuntime": [hook]}))
        )
        await began.line()
        waiting = asyncio.create_task((await engine.load("web")).wait())
        with pytest.raises(TimeoutError):
            await (await engine.load("web")).wait(0.02)
        go.say()
        container = await creating
        await container.start()
        assert (await waiting).exit_code == 6
        await container.destroy()


async def test_a_wait_on_a_creation_that_is_rolled_back_says_there_is_none(
    engine: Engine, tmp_path: Path
) -> None:
    with Fifo(tmp_path / "began") as began, Fifo(tmp_path / "go") as go:
        hook = shell_hook('echo x >"$1"; read x <"$2"; exit 1', began.path, go.path)
        creating = asyncio.create_task(
            engine.create("web", spec=sleeper(hooks={"createRuntime": [hook]}))
        )
        await began.line()
        waiting = asyncio.create_task((await engine.load("web")).wait())
        await asyncio.sleep(0)
        go.say()
        with pytest.raises(asyncrt.HookFailed):
            await creating
        with pytest.raises(asyncrt.ContainerNotFound):
            await waiting
        assert names(engine.root) == []


async def test_a_container_ends_only_when_all_of_it_has(engine: Engine, tmp_path: Path) -> None:
    """Children that init leaves behind, daemonised ones too, end with it."""
    with Fifo(tmp_path / "pid") as pids:
        script = 'setsid sh -c \'echo $$ >"$1"; exec sleep 1000\' sh "$1" & read x; exit 4'
        container = await started(engine, "web", shell(script, pids.path), stdin=asyncrt.PIPE)
        orphan = int(await pids.line())
        assert container.stdin is not None
        container.stdin.write(b"go\n")
        result = await container.wait()
        assert result.exit_code == 4
        assert not os.path.exists(f"/proc/{orphan}/exe")
        await container.destroy()


async def test_waiting_costs_no_cpu(engine: Engine) -> None:
    made = [await started(engine, f"w{n}", sleeper()) for n in range(10)]
    waiters = [asyncio.create_task(each.wait()) for each in made]
    supervisors = [supervisor_of(each, engine.root) for each in made]
    for pid in supervisors:
        await in_state(pid, "S")
    before = sum(_switches(pid) for pid in supervisors)
    own = _switches(os.getpid())
    await asyncio.sleep(0.3)  # nothing to wait for: that nothing happens in this time is the point
    assert sum(_switches(pid) for pid in supervisors) == before
    assert _switches(os.getpid()) - own < 10
    await asyncio.gather(*(each.kill("KILL") for each in made))
    assert [each.signal for each in await asyncio.gather(*waiters)] == [9] * 10
    await asyncio.gather(*(each.destroy() for each in made))


def _switches(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    raise AssertionError


@pytest.mark.needs_root
async def test_an_exit_on_a_full_disk_is_recorded_once_there_is_room(
    tmp_path: Path,
) -> None:
    """HAZARDS 16."""
    assert is_root()
    mounted = tmp_path / "small"
    mounted.mkdir()
    if os.spawnlp(
        os.P_WAIT,
        "mount",
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=256k,mode=700",
        "tmpfs",
        str(mounted),
    ):
        from tests.helpers.capabilities import skip_lacking

        skip_lacking("leave to mount a tmpfs")
    try:
        async with asyncrt.Engine(mounted / "root") as engine:
            container = await started(engine, "web", shell("read x; exit 8"), stdin=asyncrt.PIPE)
            filler = mounted / "filler"
            with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"\0" * 4096)
            waiting = asyncio.create_task(container.wait())
            assert container.stdin is not None
            container.stdin.write(b"go\n")
            (pid,) = [each.pid for each in [await container.view()] if each.pid] or [0]
            if pid:
                await gone(pid)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiting), 0.1)
            (view,) = await engine.list()
            assert view.status is Status.STOPPED
            assert view.exit is None
            with pytest.raises(asyncrt.StorageFailed):
                await engine.create("other", spec=sleeper())
            assert names(engine.root) == ["web.d", "web.lock", "web.queue", "web.state"]
            filler.unlink()
            assert (await waiting).exit_code == 8
            assert "exit.json" in os.listdir(directory_of(container, engine.root))
            await container.destroy()
            assert names(engine.root) == []
    finally:
        os.spawnlp(os.P_WAIT, "umount", "umount", str(mounted))


async def test_waiters_of_another_process_and_gate_are_let_go_together(engine: Engine) -> None:
    """Many processes ask at the moment of the exit: before, during and after hear the same."""
    code = """
import asyncio, sys
import asyncrt
from tests.helpers.processes import Gate

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        container = await engine.load("web")
        print("ready", flush=True)
        Gate.wait(int(sys.argv[2]))
        result = await container.wait()
        print(result.exit_code, result.signal, result.reason, result.finished_at, flush=True)

asyncio.run(main())
"""
    gate = Gate()
    container = await started(engine, "web", shell("sleep 0.01; exit 3"))
    others = [Interpreter(code, engine.root, gate.fd, pass_fds=(gate.fd,)) for _ in range(3)]
    try:
        for each in others:
            assert await each.next_line() == "ready"
        gate.open()
        result = await container.wait()
        assert result.exit_code == 3
        for each in others:
            assert await each.next_line() == told(result)
    finally:
        for each in others:
            each.kill()
    await container.destroy()


async def test_a_stopped_container_of_an_ordinary_user_answers_its_owner(
    engine: Engine, ordinary_user: User
) -> None:
    spec = shell("id -u >&2; exit 5", user=ordinary_user.uid)
    done = await engine.run("web", spec=spec, stderr=asyncrt.PIPE)
    assert done.exit.exit_code == 5
    assert done.stderr == f"{ordinary_user.uid}\n".encode()
