"""Engines, fork servers and supervisors die; containers and the truth about them stay."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

import asyncrt
from asyncrt import Engine, Status, _paths
from asyncrt.engine import delete
from asyncrt.sandbox import Channel
from asyncrt.state import read_exit
from tests.helpers.containers import (
    Fifo,
    directory_of,
    gone,
    in_state,
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
from tests.helpers.processes import Interpreter, until
from tests.helpers.records import names

ORCHESTRATOR = """
import asyncio, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        spec = asyncrt.Spec.command(["/bin/sh", "-c", "trap 'exit 3' TERM; echo up >$1; while :; do sleep 1000 & wait; done", "sh", sys.argv[2]])
        for id in ("web", "idle"):
            container = await engine.create(id, spec=spec, stdout=asyncrt.DEVNULL)
            if id == "web":
                await container.start()
        print("ready", engine._context.launcher.server.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_containers_survive_their_engine_and_another_engine_adopts_them(
    engine: Engine, tmp_path: Path
) -> None:
    with Fifo(tmp_path / "up") as up, Interpreter(ORCHESTRATOR, engine.root, up.path) as first:
        word, fork_server = (await first.next_line()).split()
        assert word == "ready"
        assert await up.line() == "up"
        first.kill()
        await gone(int(fork_server))
        views = {str(view.id): view for view in await engine.list()}
        assert views["web"].status is Status.RUNNING
        assert views["idle"].status is Status.CREATED
        web = await engine.load("web")
        waiting = asyncio.create_task(web.wait())
        process = await web.exec(["/bin/echo", "adopted"], stdout=asyncrt.PIPE)
        assert await rest(process.stdout) == "adopted\n"
        assert (await process.wait()).exit_code == 0
        process.close()
        await web.pause()
        await web.resume()
        await web.stop()
        result = await waiting
        assert (result.exit_code, result.reason) == (3, "exit")
        idle = await engine.load("idle")
        await idle.start()
        assert await up.line() == "up"
        await idle.destroy()
        await web.destroy()


async def test_an_engine_killed_while_creating_leaves_a_stopped_container_and_no_process(
    engine: Engine, tmp_path: Path
) -> None:
    """HAZARDS 13."""
    code = """
import asyncio, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        hook = asyncrt.Hook(path="/bin/sh", args=("sh", "-c", "echo $$ >$1; sleep 1000", "sh", sys.argv[2]))
        spec = asyncrt.Spec.command(["sleep", "1000"], hooks={"createRuntime": [hook]})
        await engine.create("web", spec=spec)

asyncio.run(main())
"""
    with Fifo(tmp_path / "hook") as told, Interpreter(code, engine.root, told.path) as creator:
        hook = int(await told.line())
        creator.kill()
        await gone(hook)
    (view,) = await engine.list()
    assert view.status is Status.STOPPED
    assert view.exit is not None
    assert view.exit.reason == "creation interrupted"
    # Its supervisor tells of that, and so does everybody. No program had any exit code.
    await until(lambda: read_exit(engine.root, "web", view.instance) is not None, "it is told")
    end = read_exit(engine.root, "web", view.instance)
    assert end is not None
    assert (end.exit_code, end.signal, end.reason) == (None, None, "creation interrupted")
    container = await engine.load("web")
    assert await container.wait() == end
    with pytest.raises(asyncrt.ContainerExists):
        await engine.create("web", spec=sleeper())
    await engine.delete("web")
    assert names(engine.root) == []


async def test_a_killed_fork_server_is_replaced_by_the_next_create(engine: Engine) -> None:
    first = await started(engine, "one", sleeper())
    server = engine._context.launcher.server.pid
    os.kill(server, signal.SIGKILL)
    await until(lambda: not is_alive(server), "the fork server has ended")
    for id in ("two", "three", "four"):
        container = await started(engine, id, sleeper())
        assert (await container.view()).status is Status.RUNNING
        await container.destroy()
    assert (await first.view()).status is Status.RUNNING
    assert engine._context.launcher.server.pid not in {0, server}
    await first.destroy()


async def test_a_running_container_outlives_its_supervisor(
    engine: Engine,
) -> None:
    container = await started(
        engine, "web", shell("read x; exit 5"), stdin=asyncrt.PIPE, stdout=asyncrt.DEVNULL
    )
    supervisor, init = supervisor_of(container, engine.root), init_of(container, engine.root)
    waiting = asyncio.create_task(container.wait())
    os.kill(supervisor, signal.SIGKILL)
    await gone(supervisor)
    assert is_alive(init)
    assert (await container.view()).status is Status.RUNNING
    assert [each.pid for each in await container.processes()] == [init]
    with pytest.raises(asyncrt.SandboxUnresponsive) as caught:
        await container.exec(["/bin/true"])
    assert "supervisor is gone" in str(caught.value)
    await container.pause()
    assert (await container.view()).status is Status.PAUSED
    await container.resume()
    late = asyncio.create_task((await engine.load("web")).wait())
    users = engine._context.watches._users
    await until(lambda: sum(users.values()) == 2, "both wait")
    assert container.stdin is not None
    container.stdin.write(b"go\n")
    await gone(init)
    os.waitpid(init, 0)  # it came to us, its sub-reaper: the kernel tells the status from now on
    result = await waiting
    if result.reason != "unknown":  # kernels before 6.15 don't tell anybody but the parent
        assert (result.exit_code, result.reason) == (5, "exit")
    assert await late == result
    assert await container.wait() == result
    view = await container.view()
    assert (view.status, view.exit) == (Status.STOPPED, result)
    await container.destroy()
    assert names(engine.root) == []


async def test_destroy_needs_no_supervisor(engine: Engine) -> None:
    script = "sleep 1000 & sleep 1000 & echo $!; wait"
    container = await started(engine, "web", shell(script), stdout=asyncrt.PIPE)
    child = int(await line(container.stdout))
    supervisor = supervisor_of(container, engine.root)
    os.kill(supervisor, signal.SIGKILL)
    await gone(supervisor)
    await container.destroy()
    await gone(child)
    assert names(engine.root) == []


async def test_an_exit_nobody_saw_is_unknown_and_never_invented(engine: Engine) -> None:
    """HAZARDS 23."""
    container = await started(engine, "web", sleeper())
    supervisor, init = supervisor_of(container, engine.root), init_of(container, engine.root)
    os.kill(supervisor, signal.SIGKILL)
    os.kill(init, signal.SIGKILL)
    await gone(supervisor)
    await gone(init)
    await until(lambda: not is_alive(init), "init has ended")
    result = await (await engine.load("web")).wait()
    assert (result.exit_code, result.signal, result.reason) == (None, None, "unknown")
    assert result.status_code == 255
    await container.destroy()


async def test_a_hung_supervisor_is_told_as_such_and_destroyed_all_the_same(
    engine: Engine,
) -> None:
    container = await started(engine, "web", sleeper())
    supervisor = supervisor_of(container, engine.root)
    os.kill(supervisor, signal.SIGSTOP)
    await in_state(supervisor, "T")
    for verb in (container.exec(["/bin/true"], timeout=0.05), container.pause(timeout=0.05)):
        with pytest.raises(asyncrt.SandboxUnresponsive):
            await verb
    with pytest.raises(TimeoutError):
        await container.wait(0.05)
    assert (await container.view()).status is Status.RUNNING
    from asyncrt.container import destroy

    waits = destroy._ASKED_SECONDS
    destroy._ASKED_SECONDS = 0.1  # how long one that is only slow is given
    try:
        await container.destroy()
    finally:
        destroy._ASKED_SECONDS = waits
    await gone(supervisor)
    assert names(engine.root) == []


async def test_an_exec_whose_supervisor_is_killed_meanwhile_does_not_call_the_container_stopped(
    engine: Engine,
) -> None:
    container = await started(engine, "web", sleeper())
    supervisor = supervisor_of(container, engine.root)
    os.kill(supervisor, signal.SIGSTOP)
    await in_state(supervisor, "T")
    asking = asyncio.create_task(container.exec(["/bin/true"]))
    (channel,) = engine._context.watches._open.values()
    assert isinstance(channel, Channel)
    await until(lambda: bool(channel._pending), "the exec is asked for")
    os.kill(supervisor, signal.SIGKILL)
    with pytest.raises(asyncrt.SandboxUnresponsive):
        await asking
    assert (await container.view()).status is Status.RUNNING
    await container.destroy()


async def test_the_exit_record_is_there_before_any_waiter_is_answered(engine: Engine) -> None:
    for code in range(5):
        container = await started(engine, "web", shell(f"exit {code}"))
        result = await container.wait()
        path = Path(directory_of(container, engine.root), _paths.EXIT)
        record = json.loads(path.read_bytes())
        assert record["instance"] == container.instance
        assert record["exit_code"] == result.exit_code == code
        assert record["reason"] == "exit"
        await container.destroy()


async def test_no_process_or_socket_of_ours_stays_after_an_exit(engine: Engine) -> None:
    container = await started(engine, "web", shell("exit 0"))
    supervisor = supervisor_of(container, engine.root)
    await container.wait()
    await gone(supervisor)
    assert sorted(os.listdir(directory_of(container, engine.root))) == ["config.json", "exit.json"]
    await container.destroy()


async def test_the_supervisor_is_a_session_of_its_own_and_holds_nothing_of_its_engines(
    engine: Engine,
) -> None:
    """HAZARDS 7: no lock descriptor ever."""
    container = await started(engine, "web", sleeper())
    supervisor = supervisor_of(container, engine.root)
    await in_state(supervisor, "S")  # it has closed what it was forked with
    assert os.getsid(supervisor) != os.getsid(0)
    targets = [
        os.readlink(f"/proc/{supervisor}/fd/{fd}") for fd in os.listdir(f"/proc/{supervisor}/fd")
    ]
    assert not [each for each in targets if each.endswith((_paths.LOCK, _paths.QUEUE))]
    files = {each for each in targets if each.startswith("/")}
    assert files <= {"/dev/null", directory_of(container, engine.root)}
    assert os.readlink(f"/proc/{supervisor}/cwd") == "/"
    async with asyncrt.Engine(engine.root) as other:
        locked = asyncrt.FileLock(f"{engine.root}/web.lock", create=False)
        assert locked.try_acquire()
        locked.release()
        locked.close()
        assert (await (await other.load("web")).view()).status is Status.RUNNING
    await container.destroy()


async def test_a_ctrl_c_at_the_engine_does_not_reach_containers(
    engine: Engine, tmp_path: Path
) -> None:
    code = """
import asyncio, os, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        container = await engine.create("web", spec=asyncrt.Spec.command(["sleep", "1000"]))
        await container.start()
        print("ready", flush=True)
        await asyncio.Event().wait()

os.setsid()
asyncio.run(main())
"""
    with Interpreter(code, engine.root) as orchestrator:
        await orchestrator.next_line()
        os.killpg(orchestrator.pid, signal.SIGKILL)
    container = await engine.load("web")
    assert (await container.view()).status is Status.RUNNING
    assert is_alive(supervisor_of(container, engine.root))
    assert record_of(container, engine.root).owner
    await container.destroy()


async def test_a_broken_record_stays_while_a_hung_supervisor_keeps_its_container_alive(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HAZARDS 14: nothing but the directory leads to these processes any more."""
    container = await started(engine, "web", sleeper())
    init, supervisor = init_of(container, engine.root), supervisor_of(container, engine.root)
    Path(engine.root, "web.state").write_text("{")
    os.kill(supervisor, signal.SIGSTOP)
    await in_state(supervisor, "T")
    with monkeypatch.context() as patch:
        patch.setattr(delete, "_END_SECONDS", 0.2)
        with pytest.raises(asyncrt.DestroyFailed, match="supervisor"):
            await engine.delete("web", force=True)
    assert is_alive(init)
    assert {"web.state", "web.d"} <= set(names(engine.root))
    os.kill(supervisor, signal.SIGCONT)
    await engine.delete("web", force=True)
    assert not is_alive(init)
    assert names(engine.root) == []
