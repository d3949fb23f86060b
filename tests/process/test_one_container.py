"""One container's life, the same on each platform: what engines of this kind have always promised."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import PIPE, Engine, Status
from tests.helpers import sandboxes
from tests.helpers.containers import (
    SECONDS,
    destroyed,
    gone,
    init_of,
    is_alive,
    line,
    rest,
    started,
    supervisor_of,
)
from tests.helpers.platforms import LINUX, Making, making, on_each
from tests.helpers.processes import Interpreter
from tests.helpers.records import names
from tests.helpers.terminals import seen, to_the_end

__all__ = ["making"]  # a fixture

pytestmark = on_each

SLEEP = ["/bin/sleep", "1000"]
SH = "/bin/sh"

ELSEWHERE = """
import asyncio, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        container = await engine.load("web")
        waiting = asyncio.create_task(container.wait())
        for line in sys.stdin:
            print((await container.view()).status, [each.id for each in await engine.list()])
            if line == "ended\\n":
                break
        first, second = await waiting, await container.wait()
        print(first.exit_code, first.signal, first == second, first.finished_at.isoformat())
        sys.stdin.readline()
        print(await engine.list())
        try:
            await engine.load("web")
        except asyncrt.ContainerNotFound:
            print("not found")

asyncio.run(main())
"""


@pytest.fixture
async def web(engine: Engine, making: Making) -> AsyncIterator[asyncrt.Container]:
    """A container that runs."""
    async with destroyed(await started(engine, "web", making.spec(SLEEP))) as container:
        yield container


async def say(container: asyncrt.Container, script: str, **options: Any) -> str:
    """What an exec'd script prints; it must succeed."""
    process = await container.exec([SH, "-c", script], stdout=PIPE, **options)
    try:
        found = await rest(process.stdout)
        assert (await process.wait()).exit_code == 0
        return found
    finally:
        process.close()


async def test_another_process_sees_each_step_and_hears_the_end(
    engine: Engine, making: Making
) -> None:
    spec = making.spec(SLEEP, pid_namespace=False)
    container = await engine.create("web", spec=spec)
    with Interpreter(ELSEWHERE, engine.root) as other:
        other.say("created")
        assert await other.next_line() == "created ['web']"
        await container.start()
        other.say("started")
        assert await other.next_line() == "running ['web']"
        await container.kill("TERM")
        result = await container.wait()
        assert (result.exit_code, result.signal, result.reason) == (None, 15, "signal")
        other.say("ended")
        assert await other.next_line() == "stopped ['web']"
        assert result.finished_at is not None
        assert await other.next_line() == f"None 15 True {result.finished_at.isoformat()}"
        await container.destroy()
        other.say("destroyed")
        assert await other.next_line() == "[]"
        assert await other.next_line() == "not found"
        assert other.wait() == 0


async def test_an_end_is_exactly_the_programs(engine: Engine, making: Making) -> None:
    for code in (0, 1, 123):
        done = await engine.run("web", spec=making.shell(f"exit {code}"))
        assert (done.exit.exit_code, done.exit.status_code) == (code, code)
    done = await engine.run("web", spec=making.shell("kill -KILL $$", pid_namespace=False))
    assert (done.exit.exit_code, done.exit.signal, done.exit.status_code) == (None, 9, 137)


async def test_a_program_is_found_or_its_own_error_is_told(
    engine: Engine, making: Making, open_directory: Path
) -> None:
    for name, text, mode in (
        ("program", "#!/bin/sh\necho ran", 0o755),
        ("plain", "#!/bin/sh\necho ran", 0o644),
        ("lost", "#!/no/such/interpreter\n", 0o755),
    ):
        (open_directory / name).write_text(text)
        (open_directory / name).chmod(mode)
    (open_directory / "link").symlink_to("program")

    def spec(program: str) -> asyncrt.Spec:
        made = making.config([program], cwd="/tmp", env=["PATH=/nowhere:/tmp:/bin"])
        if making.platform == LINUX:
            made["mounts"].append(
                sandboxes.mount("/tmp", "bind", "rbind", source=str(open_directory))
            )
        else:
            made["process"]["cwd"] = str(open_directory)
            made["process"]["env"] = [f"PATH=/nowhere:{open_directory}:/bin"]
        return sandboxes.spec(made)

    absolute = "/tmp" if making.platform == LINUX else str(open_directory)
    for program in ("program", "./program", f"{absolute}/program", "link", f"{absolute}/link"):
        done = await engine.run("web", spec=spec(program), stdout=PIPE)
        assert done.stdout == b"ran\n", program
    for program, number in (
        ("missing", errno.ENOENT),
        ("./missing", errno.ENOENT),
        ("./plain", errno.EACCES),
        (absolute, errno.EISDIR),
        ("./lost", errno.ENOENT),
    ):
        container = await engine.create("web", spec=spec(program))
        async with destroyed(container):
            with pytest.raises(asyncrt.StartFailed) as caught:
                await container.start()
            assert caught.value.errno == number, program
            assert ("interpreter" in caught.value.what) == (program == "./lost")
            assert (await container.wait()).reason == "start failed"


async def test_what_is_execd_is_as_asked_for(web: asyncrt.Container, making: Making) -> None:
    process = await web.exec(
        [SH, "-c", 'printf "%s|" "$@"; echo "$A"; pwd', "sh", "a b", "", "--detach", "*"],
        env={"A": "1"},
        cwd="/tmp",
        stdout=PIPE,
    )
    assert await rest(process.stdout) == "a b||--detach|*|1\n/tmp\n"
    process.close()
    async with await web.exec([SH, "-c", "tty; stty size"], terminal=(11, 22)) as process:
        assert process.terminal is not None
        first, second = (await to_the_end(process.terminal)).decode().split("\r\n")[:2]
        assert first.startswith("/dev/")
        assert second == "11 22"
    with pytest.raises(asyncrt.StartFailed) as caught:
        await web.exec(["/no/such/program"])
    assert (caught.value.path, caught.value.errno) == ("/no/such/program", errno.ENOENT)


@pytest.mark.needs_root
async def test_what_is_execd_as_another_user_is_so_and_ps_shows_it(
    web: asyncrt.Container, making: Making
) -> None:
    ids = "id -u; id -g; id -G"
    found = (await say(web, ids, user="1000:1001", additional_gids=[1002])).split()
    assert (found[:2], {*found[2:]}) == (["1000", "1001"], {"1001", "1002"})
    process = await web.exec(SLEEP, user="1000:1001")
    listed = {each.pid: each for each in await web.processes()}
    assert listed[process.pid].uid == 1000
    assert listed[init_of(web, web._context.root)].uid == 0
    await process.kill()
    await process.wait()
    process.close()


async def _sleeps(container: asyncrt.Container, parent: int) -> dict[str, int]:
    """The pids of a shell's two children by what they sleep, once they do."""
    async with asyncio.timeout(SECONDS):
        while True:
            infos = [each for each in await container.processes() if each.ppid == parent]
            found = {each.command[-1]: each.pid for each in infos}
            if found.keys() == {"1001", "1002"}:
                return found


async def test_kill_by_pid_hits_that_process_and_kill_by_group_that_group(
    web: asyncrt.Container, making: Making
) -> None:
    script = "sleep 1001 & sleep 1002 & echo here; wait"
    one = await web.exec([SH, "-c", script], stdout=PIPE)
    other = await web.exec([SH, "-c", script], stdout=PIPE)
    for each in (one, other):
        assert await line(each.stdout) == "here"
    first, second = [await _sleeps(web, each.pid) for each in (one, other)]
    await web.kill("KILL", pid=first["1001"])
    await gone(first["1001"])
    assert all(is_alive(pid) for pid in (first["1002"], one.pid, *second.values(), other.pid))
    await web.kill("KILL", pgid=one.pid)
    await gone(first["1002"])
    assert (await one.wait()).signal == 9
    assert all(is_alive(pid) for pid in (*second.values(), other.pid))
    assert (await web.view()).status is Status.RUNNING
    await web.kill("KILL", pgid=other.pid)
    await other.wait()
    for each in (one, other):
        each.close()


async def test_a_pause_holds_and_a_second_one_or_a_second_resume_changes_nothing(
    engine: Engine, making: Making
) -> None:
    spec = making.shell("while read word; do echo $word; done")
    container = await started(engine, "web", spec, stdin=PIPE, stdout=PIPE)
    async with destroyed(container):
        assert container.stdin is not None
        await container.pause()
        container.stdin.write(b"one\n")
        with pytest.raises(asyncrt.InvalidTransition):
            await container.pause()
        assert (await container.view()).status is Status.PAUSED
        assert container.stdout is not None
        reading = asyncio.ensure_future(container.stdout.readline())
        await asyncio.wait((reading,), timeout=0.2)  # what is to stand still says nothing
        assert not reading.done()
        await container.resume()
        assert await reading == b"one\n"
        with pytest.raises(asyncrt.InvalidTransition):
            await container.resume()
        assert (await container.view()).status is Status.RUNNING
        container.stdin.write(b"two\n")
        assert await line(container.stdout) == "two"


async def test_a_destroy_that_races_a_start_or_comes_twice_never_fails(
    engine: Engine, making: Making
) -> None:
    unstarted = await engine.create("never", spec=making.spec(SLEEP))
    await unstarted.destroy()
    await unstarted.destroy()
    for turn in range(6):
        container = await engine.create(f"web{turn}", spec=making.spec(["/bin/true"]))
        other = await engine.load(f"web{turn}")
        verbs = [container.start(), other.destroy()]
        found = await asyncio.gather(*verbs[:: 1 if turn % 2 else -1], return_exceptions=True)
        start, destroy = found[:: 1 if turn % 2 else -1]
        assert destroy is None
        assert start is None or isinstance(
            start, asyncrt.ContainerNotFound | asyncrt.InvalidTransition
        )
        await container.destroy()
    assert names(engine.root) == []


async def test_without_its_supervisor_the_truth_is_told(
    engine: Engine, making: Making, web: asyncrt.Container
) -> None:
    supervisor = supervisor_of(web, engine.root)
    os.kill(supervisor, 9)
    await gone(supervisor)
    async with Engine(engine.root) as other:
        found = await other.load("web")
        assert (await found.view()).status is Status.RUNNING
        init = init_of(web, engine.root)
        await found.kill("KILL")
        await gone(init)
        result = await found.wait()
        assert (await found.view()).status is Status.STOPPED
        # Nobody saw it; the kernel may tell (Linux 6.15), and nothing is made up.
        assert (result.exit_code, result.signal) in {(None, 9), (None, None)}


async def test_limits_variables_and_home_reach_init_and_what_is_execd(
    engine: Engine, making: Making
) -> None:
    show = 'ulimit -Sn; ulimit -Hn; echo "$A $B"; [ -n "$HOME" ] && echo home'
    spec = making.shell(
        f"{show}; exec sleep 1000",
        env=["A=1", "B=2", "A=3", "PATH=/usr/bin:/bin"],
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}],
    )
    told = ["50", "60", "3 2", "home"]
    async with destroyed(await started(engine, "web", spec, stdout=PIPE)) as container:
        assert [await line(container.stdout) for _ in told] == told
        assert (await say(container, show)).splitlines() == told
        assert (await say(container, 'echo "$A"', env={"A": "4"})) == "4\n"


async def test_a_missing_working_directory_is_made_where_the_root_is_the_platforms(
    engine: Engine, making: Making
) -> None:
    made = making.config([SH, "-c", "pwd"], cwd="/tmp/not/there")
    if making.platform == LINUX:
        done = await engine.run("web", spec=sandboxes.spec(made), stdout=PIPE)
        assert done.stdout == b"/tmp/not/there\n"
        return
    made["process"]["cwd"] = "/no/such/directory"
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.run("web", spec=sandboxes.spec(made))
    assert (caught.value.what, caught.value.errno) == ("process.cwd", errno.ENOENT)


async def test_a_terminal_comes_over_the_console_socket_at_create_and_is_a_terminal(
    engine: Engine, making: Making, root: str
) -> None:
    shell = making.spec([SH, "-i"], env=["PS1=$ ", "TERM=dumb", "PATH=/usr/bin:/bin"])
    async with asyncrt.ConsoleSocket(f"{root}/console") as console:
        container = await engine.create(
            "web", spec=shell, terminal=True, console_socket=console.path
        )
        async with destroyed(container), asyncio.timeout(60):
            terminal = await console.receive()
            try:
                assert stat.S_ISCHR(os.fstat(terminal.fileno()).st_mode)
                await container.start()
                # To the job in the foreground; the shell, which catches it, goes on.
                job = b"(trap - INT; echo g''o; exec sleep 1000); echo after $?\n"
                await terminal.write(b"trap 'echo caught' INT\n" + job)
                await seen(terminal, "go\r\n")
                await terminal.write(b"\x03")
                await seen(terminal, "after 130")
                await terminal.resize(33, 44)
                await terminal.write(b"stty size\n")
                await seen(terminal, "33 44")
                await terminal.write(b"exit 4\n")
                await to_the_end(terminal)
            finally:
                terminal.close()
            assert (await container.wait()).exit_code == 4
