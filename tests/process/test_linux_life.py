"""The life of a sandbox of the linux platform: gate, exec, pause, kill, and what is left of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import asyncrt
from asyncrt import _procid
from tests.helpers import reaping, sandboxes
from tests.helpers.capabilities import User
from tests.helpers.containers import (
    SECONDS,
    Fifo,
    destroyed,
    gone,
    init_of,
    rest,
    supervisor_of,
)
from tests.helpers.leaks import LeakCheck
from tests.helpers.processes import REPOSITORY, until
from tests.helpers.sandboxes import MAPPED, ROOT, config, spec

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

as_root = pytest.mark.parametrize("who", [ROOT, MAPPED])

_SLEEP = ["/bin/sleep", "1000"]
_SHOW = "id -u; hostname; pwd; echo $HOME; tr '\\0' ' ' < /proc/1/cmdline | head -c 10"


def _namespaces(pid: int) -> dict[str, int]:
    return {
        name: os.stat(f"/proc/{pid}/ns/{name}").st_ino for name in os.listdir(f"/proc/{pid}/ns")
    }


async def _exec(container: asyncrt.Container, *args: str, **options: object) -> list[str]:
    process = await container.exec(
        list(args),
        stdout=asyncrt.PIPE,
        stderr=asyncrt.PIPE,
        **options,  # type: ignore[arg-type]  # as given
    )
    try:
        out, err = await rest(process.stdout), await rest(process.stderr)
        assert (await process.wait()).exit_code == 0, (out, err)
    finally:
        process.close()
    return out.splitlines()


@as_root
async def test_an_exec_joins_all_namespaces_before_and_after_the_start(
    engine: asyncrt.Engine, root: str, rootfs: str, who: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP, who=who)))
    async with destroyed(container):
        found = await _exec(container, "/bin/sh", "-c", _SHOW)
        assert found[:4] == ["0", "box", "/work", "/root"]
        await container.start()
        found = await _exec(container, "/bin/sh", "-c", _SHOW)
        assert found == ["0", "box", "/work", "/root", "/bin/sleep"]
        names = "user mnt pid uts ipc net cgroup time"
        links = f"for n in {names}; do stat -Lc %i /proc/self/ns/$n; done"
        theirs = _namespaces(init_of(container, root))
        found = await _exec(container, "/bin/sh", "-c", links)
        assert [int(each) for each in found] == [theirs[name] for name in names.split()]


@as_root
async def test_an_exec_is_the_supervisors_child_and_shows_its_pid(
    engine: asyncrt.Engine, root: str, rootfs: str, who: str
) -> None:
    """An exec that init's namespace alone had as a child would hold up that namespace's end."""
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP, who=who)))
    async with destroyed(container):
        await container.start()
        process = await container.exec(_SLEEP)
        found = _procid.stat(process.pid)
        assert found is not None
        assert found.ppid == supervisor_of(container, root)
        both = {init_of(container, root), process.pid}
        async with asyncio.timeout(SECONDS):
            # Who joined the namespaces for it has ended, but may not be reaped yet.
            while {each.pid for each in await container.processes()} != both:
                pass
        await process.kill("KILL")
        assert (await process.wait()).signal == signal.SIGKILL
        process.close()


@as_root
async def test_an_exec_ends_with_its_supervisor(
    engine: asyncrt.Engine, root: str, rootfs: str, who: str
) -> None:
    """In its pid namespace the supervisor's pid can't be seen: it is known by a pidfd."""
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP, who=who)))
    async with destroyed(container):
        await container.start()
        process = await container.exec(_SLEEP)
        os.kill(supervisor_of(container, root), signal.SIGKILL)
        await gone(process.pid)
        reaping.reap_orphans()  # it has come to us, and holds up the end of its pid namespace
        process.close()


async def test_an_exec_that_cant_be_says_why(engine: asyncrt.Engine, rootfs: str) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)))
    async with destroyed(container):
        await container.start()
        with pytest.raises(asyncrt.StartFailed) as caught:
            await container.exec(["/bin/nothing"])
        assert caught.value.path == "/bin/nothing"
        with pytest.raises(asyncrt.StartFailed) as caught:
            await container.exec(["/bin/true"], cwd="/nowhere")
        assert caught.value.what == "process.cwd"


async def test_an_execs_user_is_one_of_the_containers(engine: asyncrt.Engine, rootfs: str) -> None:
    """The host's number of a name that both have would be another's inside."""
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)))
    async with destroyed(container):
        await container.start()
        found = await _exec(container, "/bin/sh", "-c", "id -u; id -g; echo $HOME", user="1000:7")
        assert found == ["1000", "7", "/home/app"]
        for name in ("nobody", "0:nogroup", "1000 ", "-1"):
            with pytest.raises(asyncrt.SpecInvalid):
                await container.exec(["/bin/true"], user=name)


async def test_an_execs_deadline_kills_what_it_started(engine: asyncrt.Engine, rootfs: str) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)))
    async with destroyed(container):
        await container.start()
        script = "sleep 1000 & echo started; wait"
        said, seconds = "", 0.1
        while not said:  # on a slow machine its time may be up before it says so
            process = await container.exec(
                ["/bin/sh", "-c", script], stdout=asyncrt.PIPE, deadline_seconds=seconds
            )
            assert (await process.wait()).reason == "deadline"
            said = await rest(process.stdout)  # to its end: nobody holds the pipe any more
            process.close()
            seconds *= 2
        assert said == "started\n"


@as_root
async def test_the_end_of_init_is_the_end_of_all(
    engine: asyncrt.Engine, root: str, rootfs: str, who: str
) -> None:
    script = "sleep 1000 & sleep 1000 & read line"
    made = config(rootfs, ["/bin/sh", "-c", script], who=who)
    container = await engine.create("box", spec=spec(made), stdin=asyncrt.PIPE)
    async with destroyed(container):
        await container.start()
        process = await container.exec(_SLEEP)
        pids = [each.pid for each in await container.processes()]
        await container.kill("KILL")
        assert (await container.wait()).signal == signal.SIGKILL
        for pid in [*pids, process.pid]:
            await gone(pid)
        process.close()


async def test_stop_kills_an_init_that_ignores_term(engine: asyncrt.Engine, rootfs: str) -> None:
    """The first process of a pid namespace gets no signal that it has no handler for."""
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)))
    async with destroyed(container):
        await container.start()
        await container.stop(grace_seconds=0.1)
        assert (await container.wait()).signal == signal.SIGKILL


async def test_a_pause_stops_what_is_inside_and_a_resume_lets_it_go_on(
    engine: asyncrt.Engine, tmp_path: Path, rootfs: str
) -> None:
    with Fifo(tmp_path / "lines") as lines, Fifo(tmp_path / "orders") as orders:
        script = "while read order; do echo $order; done < /data/orders > /data/lines"
        made = config(rootfs, ["/bin/sh", "-c", script])
        made["mounts"].append(sandboxes.mount("/data", "bind", "rbind", "rw", source=str(tmp_path)))
        container = await engine.create("box", spec=spec(made))
        async with destroyed(container):
            await container.start()
            orders.say("one")
            assert await lines.line() == "one"
            await container.pause()
            orders.say("two")
            assert lines.lines() == []
            await container.resume()
            assert await lines.line() == "two"


async def test_a_created_container_can_be_paused_killed_and_destroyed(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)))
    async with destroyed(container):
        await container.pause()
        assert (await container.view()).status == "paused"
        await container.resume()
        assert (await container.view()).status == "created"
        pid = init_of(container, root)
        await container.kill("KILL")
        await gone(pid)


@as_root
async def test_nobody_waits_at_its_gate_without_a_supervisor(
    engine: asyncrt.Engine, root: str, rootfs: str, who: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP, who=who)))
    async with destroyed(container):
        pid = init_of(container, root)
        os.kill(supervisor_of(container, root), signal.SIGKILL)
        await gone(pid)
        assert (await container.view()).status == "stopped"


async def test_a_program_that_isnt_there_is_told_by_start(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, ["nothing"])))
    async with destroyed(container):
        with pytest.raises(asyncrt.StartFailed) as caught:
            await container.start()
        assert caught.value.what == "program"


async def test_a_caller_that_supervises_itself_is_told_by_create(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("box", spec=spec(config(rootfs, ["nothing"])), supervision="caller")
    assert caught.value.what == "program"
    assert [view.id for view in await engine.list()] == []


async def test_a_callers_init_lives_without_anything_of_ours(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)), supervision="caller")
    async with destroyed(container):
        await container.start()
        pid = init_of(container, root)

        def ours() -> bool:
            found = _procid.stat(pid)
            return found is not None and found.ppid == os.getpid()

        await until(ours, "init's parent is the caller's sub-reaper")


async def test_a_terminal_is_one_of_the_containers_own(engine: asyncrt.Engine, rootfs: str) -> None:
    script = "tty; stty size; ls /dev/pts; [ -c /dev/console ] && echo console; read line"
    made = config(rootfs, ["/bin/sh", "-c", script])
    made["process"]["terminal"] = True
    made["process"]["consoleSize"] = {"height": 12, "width": 34}
    container = await engine.create("box", spec=spec(made))
    async with destroyed(container), await container.attach() as terminal:
        await container.start()
        said = b""
        while b"console" not in said:
            said += await terminal.read()
        assert said.split() == [b"/dev/pts/0", b"12", b"34", b"0", b"ptmx", b"console"]


async def test_an_execs_terminal_is_one_of_the_containers_too(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)))
    async with destroyed(container):
        await container.start()
        process = await container.exec(["/bin/tty"], terminal=(5, 6))
        assert process.terminal is not None
        assert (await process.terminal.read()).strip() == b"/dev/pts/0"
        assert (await process.wait()).exit_code == 0
        process.close()


_USERS_LIFE = """
import asyncio, json, sys
import asyncrt
async def main():
    root, config = sys.argv[1], json.loads(sys.argv[2])
    async with asyncrt.Engine(root) as engine:
        spec = asyncrt.Spec.decode(json.dumps(config).encode())
        container = await engine.create("box", spec=spec)
        for started in False, True:
            process = await container.exec(["/bin/sh", "-c", "hostname; id -u"], stdout=asyncrt.PIPE)
            print((await process.stdout.read()).decode().split(), (await process.wait()).exit_code)
            process.close()
            if not started:
                await container.start()
        await container.pause()
        await container.resume()
        await container.stop(grace_seconds=0)
        print((await container.wait()).signal)
        await container.destroy()
        print(await engine.list())
asyncio.run(main())
"""


@pytest.mark.needs_userns
def test_an_ordinary_user_lives_the_same_life(
    ordinary_user: User, rootfs: str, leak_check: LeakCheck, root: str
) -> None:
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    made = config(rootfs, _SLEEP, who=sandboxes.USER, user=ordinary_user)
    done = subprocess.run(
        [sys.executable, "-B", "-c", _USERS_LIFE, root, json.dumps(made)],
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        cwd="/",
        user=ordinary_user.uid,
        group=ordinary_user.gid,
        extra_groups=[],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        *("['box', '0'] 0", "['box', '0'] 0", str(int(signal.SIGKILL)), "[]")
    ]
    os.chown(root, 0, 0)
