"""exec: one more process beside init, told, bounded and reaped as its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import json
import os
import pwd
import signal
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import asyncrt
from asyncrt import PIPE, Engine, Status
from asyncrt.oci import homes
from tests.helpers.capabilities import User
from tests.helpers.containers import (
    Fifo,
    destroyed,
    gone,
    in_state,
    init_of,
    is_alive,
    line,
    rest,
    shell,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import Interpreter, until


@pytest.fixture
async def web(engine: Engine) -> AsyncIterator[asyncrt.Container]:
    spec = sleeper(env={"A": "1", "B": "2"}, cwd="/tmp")
    async with destroyed(await started(engine, "web", spec)) as container:
        yield container


async def say(container: asyncrt.Container, script: str, *args: str, **options: object) -> str:
    """What an exec'd script prints; it must succeed."""
    command = ["/bin/sh", "-c", script, "sh", *args]
    process = await container.exec(command, stdout=PIPE, **options)  # type: ignore[arg-type]  # options are any of exec's
    try:
        found = await rest(process.stdout)
        assert (await process.wait()).exit_code == 0
        return found
    finally:
        process.close()


async def test_arguments_arrive_untouched(web: asyncrt.Container) -> None:
    """HAZARDS 27."""
    args = ["--detach", "-d", "detach", "", " ", "a\nb", "*", "$HOME", "'", '"', "\\", "é", "--"]
    found = await say(web, 'for each; do printf "%s|" "$each"; done', *args)
    assert found.split("|")[:-1] == args


async def test_it_runs_in_the_containers_environment_and_directory_unless_told_otherwise(
    web: asyncrt.Container,
) -> None:
    assert await say(web, "echo $A $B; pwd") == "1 2\n/tmp\n"
    found = await say(web, "echo $A $B $C; pwd", env={"B": "3", "C": "4"}, cwd="/usr")
    assert found == "1 3 4\n/usr\n"
    assert "HOME=" in await say(web, "env")


@pytest.mark.needs_root
async def test_it_runs_as_the_user_and_groups_asked_for(
    web: asyncrt.Container, ordinary_user: User
) -> None:
    ids = "id -u; id -g; id -G"
    uid, gid = ordinary_user.uid, ordinary_user.gid
    found = await say(web, ids, user=f"{uid}:{gid}")
    assert found.split() == [str(uid), str(gid), str(gid)]
    found = await say(web, ids, user=ordinary_user.name)
    assert found.split()[:2] == [str(uid), str(gid)]
    process = await web.exec(["/bin/sleep", "1000"], user=uid)
    infos = {each.pid: each for each in await web.processes()}
    assert (infos[process.pid].uid, infos[process.pid].user) == (uid, ordinary_user.name)
    await process.kill()
    await process.wait()


async def test_a_missing_file_is_named_and_nothing_runs(
    web: asyncrt.Container, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no program")
    for program, number in (
        ("/no/such/program", errno.ENOENT),
        ("no-such-program", errno.ENOENT),
        (str(tmp_path), errno.EISDIR),
        (str(tmp_path / "file"), errno.EACCES),
    ):
        with pytest.raises(asyncrt.StartFailed) as caught:
            await web.exec([program])
        assert caught.value.errno == number
        assert program in str(caught.value)
    with pytest.raises(asyncrt.StartFailed) as caught:
        await web.exec(["/bin/true"], cwd="/no/such/directory")
    assert (caught.value.what, caught.value.path) == ("process.cwd", "/no/such/directory")
    assert len(await web.processes()) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"args": []},
        {"args": [""]},
        {"args": "/bin/true"},
        {"args": ["a\0b"]},
        {"cwd": "relative"},
        {"env": {"A=B": "1"}},
        {"env": {"": "1"}},
        {"env": {"A": "\0"}},
        {"user": "no-such-user"},
        {"user": -1},
        {"user": "1:2:3"},
        {"user": ""},
    ],
    ids=repr,
)
async def test_bad_input_is_one_clear_error(
    options: dict[str, object], web: asyncrt.Container
) -> None:
    """HAZARDS 43."""
    with pytest.raises((asyncrt.SpecInvalid, asyncrt.SpecUnsupported)) as caught:
        await web.exec(**{"args": ["/bin/true"], **options})  # type: ignore[arg-type]  # options are any of exec's
    assert str(caught.value)
    assert "\n" not in str(caught.value)


async def test_its_end_is_told_to_any_number_of_waiters_any_time(web: asyncrt.Container) -> None:
    process = await web.exec(["/bin/sh", "-c", "exit 42"])
    results = await asyncio.gather(*(process.wait() for _ in range(5)))
    assert {each.exit_code for each in results} == {42}
    assert results[0].reason == "exit"
    assert results[0].started_at is not None
    assert results[0].finished_at is not None
    assert await process.wait() == results[0]
    process = await web.exec(["/bin/sh", "-c", "kill -USR2 $$"])
    result = await process.wait()
    assert (result.exit_code, result.signal, result.reason) == (None, signal.SIGUSR2, "signal")


async def test_streams_go_where_they_are_told(web: asyncrt.Container, tmp_path: Path) -> None:
    script = ["/bin/sh", "-c", "cat; echo error >&2"]
    process = await web.exec(script, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert process.stdin is not None
    process.stdin.write(b"x" * 300_000)
    reading = asyncio.create_task(rest(process.stdout))
    await process.stdin.drain()
    process.stdin.close()
    assert await reading == "x" * 300_000
    assert await rest(process.stderr) == "error\n"
    assert (await process.wait()).exit_code == 0
    process.close()
    with (tmp_path / "in").open("wb+") as source, (tmp_path / "out").open("wb+") as target:
        source.write(b"from a file\n")
        source.seek(0)
        process = await web.exec(script, stdin=source, stdout=target.fileno(), stderr=target)
        assert (await process.wait()).exit_code == 0
        assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
        target.seek(0)
        assert target.read() == b"from a file\nerror\n"
    process = await web.exec(["/bin/sh", "-c", "readlink /proc/self/fd/0 >&2"], stderr=PIPE)
    assert await rest(process.stderr) == "/dev/null\n"
    await process.wait()
    process.close()


async def test_a_closed_descriptor_is_an_error_and_leaks_nothing(web: asyncrt.Container) -> None:
    with pytest.raises(asyncrt.SpecInvalid, match="stdout=4000"):
        await web.exec(["/bin/true"], stdin=PIPE, stdout=4000)
    assert len(await web.processes()) == 1


async def test_a_deadline_kills_its_whole_tree_double_forked_children_too(
    web: asyncrt.Container,
) -> None:
    """What users ask for: a timeout that kills inside the container, not the client."""
    script = "(sleep 1000 & echo $!) ; (trap '' TERM; sleep 1000) & echo $!; wait"
    pids: list[str] = []
    seconds = 0.1
    while len(pids) < 2:  # on a slow machine its time may be up before both are there
        process = await web.exec(["/bin/sh", "-c", script], stdout=PIPE, deadline_seconds=seconds)
        result = await process.wait()
        assert (result.exit_code, result.signal, result.reason) == (None, 9, "deadline")
        pids = (await rest(process.stdout)).split()  # to its end: nobody holds the pipe any more
        process.close()
        seconds *= 2
    for pid in pids:
        await gone(int(pid))
    assert len(await web.processes()) == 1


async def test_a_deadline_that_is_not_reached_changes_nothing(web: asyncrt.Container) -> None:
    process = await web.exec(["/bin/sh", "-c", "exit 5"], deadline_seconds=100)
    assert (await process.wait()).exit_code == 5
    process = await web.exec(["/bin/sleep", "1000"], deadline_seconds=0)
    assert (await process.wait()).reason == "deadline"


async def test_it_outlives_its_client(engine: Engine, tmp_path: Path) -> None:
    code = """
import asyncio, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        container = await engine.load("web")
        script = "read x <$1; echo done >$2"
        process = await container.exec(["/bin/sh", "-c", script, "sh", *sys.argv[2:]])
        print(process.pid, flush=True)
        await process.wait()

asyncio.run(main())
"""
    async with destroyed(await started(engine, "web", sleeper())) as container:
        with Fifo(tmp_path / "go") as go, Fifo(tmp_path / "done") as done:
            with Interpreter(code, engine.root, go.path, done.path) as client:
                pid = int(await client.next_line())
            assert pid in [each.pid for each in await container.processes()]
            go.say()
            assert await done.line() == "done"
            await gone(pid)
            await until(lambda: not os.path.exists(f"/proc/{pid}"), "it is reaped")


async def test_a_cancelled_exec_leaves_no_process(web: asyncrt.Container) -> None:
    supervisor = supervisor_of(web, web._context.root)
    for stopped in (False, True, True, False):
        if stopped:
            os.kill(supervisor, signal.SIGSTOP)
            await in_state(supervisor, "T")
        asking = asyncio.create_task(web.exec(["/bin/sleep", "1000"]))
        (channel,) = web._context.watches._open.values()
        while not channel._pending:  # type: ignore[union-attr]  # it is a channel
            await asyncio.sleep(0)  # every tick is looked at: the answer comes in a later one
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        if stopped:
            os.kill(supervisor, signal.SIGCONT)
    # Requests are served in order: once this one has run, the others are gone or being killed.
    assert await say(web, "echo well") == "well\n"
    init = init_of(web, web._context.root)

    def alone() -> bool:
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        return children == [str(init)]

    await until(alone, "init is alone")


async def test_an_exec_that_times_out_leaves_no_process(web: asyncrt.Container) -> None:
    supervisor = supervisor_of(web, web._context.root)
    os.kill(supervisor, signal.SIGSTOP)
    await in_state(supervisor, "T")
    with pytest.raises(asyncrt.SandboxUnresponsive):
        await web.exec(["/bin/sleep", "1000"], timeout=0.05)
    os.kill(supervisor, signal.SIGCONT)
    assert await say(web, "echo well") == "well\n"
    init = init_of(web, web._context.root)
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children")
    await until(lambda: children.read_text().split() == [str(init)], "init is alone")


async def test_an_exec_as_a_context_is_killed_at_its_end(web: asyncrt.Container) -> None:
    async with await web.exec(["/bin/sleep", "1000"]) as process:
        assert is_alive(process.pid)
    await gone(process.pid)


async def test_an_exec_racing_inits_exit_succeeds_or_says_why(engine: Engine) -> None:
    """HAZARDS 26."""
    for turn in range(8):
        container = await started(engine, f"r{turn}", shell("read x"), stdin=PIPE)
        assert container.stdin is not None
        asking = [
            asyncio.create_task(container.exec(["/bin/sleep", "1000"], stdout=asyncrt.DEVNULL))
            for _ in range(4)
        ]
        for _ in range(turn):
            await asyncio.sleep(0)
        container.stdin.write(b"go\n")
        for each in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(each, asyncrt.Process):
                assert (await each.wait()).signal == 9
            else:
                assert isinstance(each, asyncrt.InvalidTransition), repr(each)
                assert each.status == "stopped"
        assert (await container.wait()).exit_code == 0
        await container.destroy()


async def test_an_execd_process_dies_with_its_container_and_its_waiter_hears_it(
    engine: Engine,
) -> None:
    container = await started(engine, "web", sleeper())
    process = await container.exec(["/bin/sh", "-c", "trap '' TERM; setsid sleep 1000"])
    waiting = asyncio.create_task(process.wait())
    await container.kill("KILL")
    assert (await waiting).signal == 9
    await container.destroy()


async def test_orphans_come_to_the_supervisor_and_are_reaped(web: asyncrt.Container) -> None:
    """HAZARDS 26."""
    supervisor = supervisor_of(web, web._context.root)
    found = await say(web, "(setsid sh -c 'echo $$; read x' <&0 & ) ; :", stdin=PIPE)
    orphan = int(found)
    await gone(orphan)  # its standard input, our pipe, was closed
    await until(lambda: not os.path.exists(f"/proc/{orphan}"), "the orphan is reaped")
    long = int(await say(web, "(setsid sleep 1000 >/dev/null & echo $!)"))
    assert Path(f"/proc/{long}/stat").read_text().split(") ")[1].split()[1] == str(supervisor)
    assert long in [each.pid for each in await web.processes()]
    await web.kill("KILL", pid=long)
    await until(lambda: not os.path.exists(f"/proc/{long}"), "it is reaped")


async def test_a_created_container_can_be_execd_in(engine: Engine) -> None:
    async with destroyed(await engine.create("web", spec=sleeper())) as container:
        assert await say(container, "echo before") == "before\n"
        assert (await container.view()).status is Status.CREATED


async def test_in_a_paused_container_only_with_ignore_paused(engine: Engine) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as container:
        await container.pause()
        with pytest.raises(asyncrt.InvalidTransition) as caught:
            await container.exec(["/bin/true"])
        assert caught.value.status == "paused"
        assert await say(container, "echo inside", ignore_paused=True) == "inside\n"
        await in_state(init_of(container, engine.root), "T")


async def test_an_exec_by_another_process_is_serialised_with_pause_by_the_supervisor(
    engine: Engine,
) -> None:
    """A status read before a pause isn't acted on: HAZARDS 11."""
    async with destroyed(await started(engine, "web", sleeper())) as container:
        supervisor = supervisor_of(container, engine.root)
        os.kill(supervisor, signal.SIGSTOP)
        await in_state(supervisor, "T")
        pausing = asyncio.create_task(container.pause())
        (channel,) = engine._context.watches._open.values()
        await until(lambda: len(channel._pending) == 1, "pause is asked for")  # type: ignore[union-attr]  # it is a channel
        asking = asyncio.create_task(container.exec(["/bin/true"]))
        await until(lambda: len(channel._pending) == 2, "exec is asked for")  # type: ignore[union-attr]  # it is a channel
        os.kill(supervisor, signal.SIGCONT)
        await pausing
        with pytest.raises(asyncrt.InvalidTransition) as caught:
            await asking
        assert caught.value.status == "paused"


async def test_a_hundred_at_once_are_kept_apart(web: asyncrt.Container) -> None:
    async def one(number: int) -> tuple[str, int | None]:
        process = await web.exec(["/bin/sh", "-c", f"echo {number}; exit {number}"], stdout=PIPE)
        try:
            return await rest(process.stdout), (await process.wait()).exit_code
        finally:
            process.close()

    found = await asyncio.gather(*(one(number) for number in range(100)))
    assert found == [(f"{number}\n", number) for number in range(100)]


async def test_ps_tells_of_init_first_and_of_every_process(web: asyncrt.Container) -> None:
    process = await web.exec(["/bin/sh", "-c", "sleep 1000 & echo $!; wait"], stdout=PIPE)
    child = int(await line(process.stdout))
    comm = Path(f"/proc/{child}/comm")
    await until(lambda: comm.read_text() == "sleep\n", "the child has executed its program")
    infos = await web.processes()
    assert infos[0].pid == init_of(web, web._context.root)
    assert {each.pid for each in infos[1:]} == {process.pid, child}
    by_pid = {each.pid: each for each in infos}
    assert by_pid[child].ppid == process.pid
    assert by_pid[child].command == ["sleep", "1000"]
    assert infos[0].command == ["/bin/sleep", "1000"]
    assert infos[0].uid == os.geteuid()
    assert infos[0].rss_bytes > 0
    assert infos[0].cpu_seconds >= 0
    assert infos[0].started_at.tzinfo is not None
    await process.kill()
    await process.wait()
    process.close()


async def test_it_is_told_from_which_supervisor_messages_come(web: asyncrt.Container) -> None:
    """Nothing an exec'd process writes to its streams is taken for a message of its supervisor."""
    message = json.dumps({"event": "exit", "exit": {"exit_code": 0}})
    assert await say(web, 'printf "%s" "$1"', message) == message
    with contextlib.suppress(TimeoutError):
        await web.wait(0)
    assert (await web.view()).status is Status.RUNNING


async def test_no_user_database_is_asked_on_the_event_loop(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def watched(ask: Callable[..., object]) -> Callable[..., object]:
        def look_up(*args: object) -> object:
            asked.append(threading.current_thread() is threading.main_thread())
            return ask(*args)

        return look_up

    for module, name in ((pwd, "getpwuid"), (pwd, "getpwnam"), (grp, "getgrnam")):
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
    monkeypatch.setattr(homes, "_known", {})
    async with (
        Engine(root) as engine,
        destroyed(await started(engine, "web", sleeper())) as container,
        await container.exec(["/bin/true"], user=os.geteuid()) as process,
    ):
        await process.wait()
        await container.processes()
    assert asked
    assert not any(asked)
