"""Terminals: who sits at one sees all and can do all, and leaves the program alone when he goes."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from typing import Any

import pytest

import asyncrt
from asyncrt import LOG, PIPE, Engine
from tests.helpers.cgroups import limited
from tests.helpers.containers import (
    Client,
    destroyed,
    directory_of,
    gone,
    init_of,
    kill_now,
    shell,
    started,
    supervisor_of,
)
from tests.helpers.processes import until
from tests.helpers.records import names
from tests.helpers.terminals import seen, to_the_end

SHELL = asyncrt.Spec.command(["/bin/sh", "-i"], env={"PS1": "$ ", "TERM": "dumb"})


async def test_a_terminal_is_the_programs_own_with_session_and_size(engine: Engine) -> None:
    spec = asyncrt.Spec.decode(
        b'{"ociVersion": "1.2.0", "process": {"cwd": "/", "terminal": true,'
        b' "consoleSize": {"height": 11, "width": 22}, "args": ["/bin/sh", "-c",'
        b' "stty size; ps -o pid=,sid=,tpgid= -p $$; tty; echo >/dev/tty; echo all three >&2"],'
        b' "env": ["PATH=/usr/bin:/bin"]}}'
    )
    done = await engine.run("web", spec=spec)
    assert done.stdout is not None
    size, ids, name, _, last = done.stdout.decode().splitlines()
    assert size == "11 22"
    assert len(set(ids.split())) == 1
    assert name.startswith("/dev/pts/")
    assert last == "all three"
    assert done.stderr is None


@pytest.mark.needs_root
@pytest.mark.needs_cgroups("pids")
async def test_in_a_cgroup_too_the_program_leads_its_session(engine: Engine) -> None:
    """Who is born in one is a child of the process that waited, and so no leader of anything yet."""
    spec = limited(shell("ps -o pid=,sid=,tpgid= -p $$"), pids={"limit": 20})
    done = await engine.run("web", spec=spec, terminal=True)
    assert done.stdout is not None
    assert len(set(done.stdout.split())) == 1
    done = await engine.run("web", spec=spec, stdout=PIPE)
    assert done.stdout is not None
    pid, session, _ = done.stdout.split()
    assert pid == session


async def test_its_size_is_there_before_the_program_is(engine: Engine) -> None:
    done = await engine.run("web", spec=shell("stty size"), terminal=(33, 44))
    assert done.stdout == b"33 44\r\n"


async def test_a_short_runs_last_words_reach_whoever_is_attached(engine: Engine) -> None:
    for number in range(20):
        done = await engine.run("web", spec=shell(f"printf {number}"), terminal=True)
        assert done.stdout == b"%d" % number


async def test_ctrl_c_reaches_the_job_and_then_the_shell_goes_on(engine: Engine) -> None:
    container = await engine.create("web", spec=SHELL, terminal=True)
    async with destroyed(container), await container.attach() as attached:
        await container.start()
        await attached.write(
            b"trap '' INT; (trap - INT; echo go; exec sleep 1000); echo after $?\n"
        )
        await seen(attached, "go\r\n")
        await attached.write(b"\x03")
        await seen(attached, "after 130")
        await attached.write(b"exit 4\n")
        await to_the_end(attached)
        assert (await container.wait()).exit_code == 4


async def test_jobs_are_stopped_and_continued(engine: Engine) -> None:
    container = await engine.create("web", spec=SHELL, terminal=True)
    async with destroyed(container), await container.attach() as attached:
        await container.start()
        await attached.write(b"sh -c 'echo here; exec sleep 1000'\n")
        await seen(attached, "here\r\n")
        await attached.write(b"\x1a")
        await seen(attached, "Stopped")
        await attached.write(b"jobs; fg\n")
        await seen(attached, "sleep 1000")
        await attached.write(b"\x03echo all$((1+1))\n")
        await seen(attached, "all2")


async def test_a_change_of_size_arrives(engine: Engine) -> None:
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    container = await engine.create("web", spec=shell(script), terminal=True)
    async with destroyed(container), await container.attach() as attached:
        await container.start()
        await seen(attached, "ready")
        await attached.resize(33, 44)
        assert b"33 44" in await to_the_end(attached)
        for size in ((-1, 5), (5, 70000)):
            with pytest.raises(asyncrt.SpecInvalid):
                await attached.resize(*size)
        await attached.resize(1, 1)  # of what has ended: nothing


async def test_all_who_are_attached_see_all_and_any_may_type(engine: Engine, root: str) -> None:
    container = await engine.create("web", spec=SHELL, terminal=True)
    async with destroyed(container), asyncrt.Engine(root) as elsewhere:
        other = await elsewhere.load("web")
        assert other.terminal
        async with await container.attach() as one, await other.attach() as two:
            await container.start()
            await one.write(b"echo from-$((1))\n")
            for each in (one, two):
                await seen(each, "from-1")
            await two.write(b"echo from-$((2))\n")
            for each in (one, two):
                await seen(each, "from-2")
            one.close()  # detached: it goes on
            assert await one.read() == b""
            await two.write(b"echo from-$((3))\n")
            await seen(two, "from-3")
        async with await container.attach() as again:
            await again.write(b"exit 5\n")
            await to_the_end(again)
        assert (await container.wait()).exit_code == 5


async def test_nobody_attached_holds_nobody_up_and_a_log_keeps_it(engine: Engine) -> None:
    container = await started(
        engine, "web", shell("seq 1 100000; exit 3"), terminal=True, stdout=LOG
    )
    async with destroyed(container):
        assert (await container.wait()).exit_code == 3
        found = [each.text async for each in container.logs()]
        assert found == [f"{each}\r" for each in range(1, 100001)]


async def test_one_who_does_not_read_is_let_go_and_the_others_read_on(engine: Engine) -> None:
    container = await engine.create("web", spec=shell("seq 1 600000; read x"), terminal=True)
    async with destroyed(container), await container.attach() as slow:
        async with await container.attach() as quick:
            await container.start()
            await seen(quick, "600000")
        found = await to_the_end(slow)
        assert len(found) < 3_000_000


async def test_a_single_slow_reader_sets_the_pace_and_misses_nothing(engine: Engine) -> None:
    container = await engine.create("web", spec=shell("seq 1 300000"), terminal=True)
    async with destroyed(container), await container.attach() as attached:
        await container.start()
        async with asyncio.timeout(30):
            ended = asyncio.ensure_future(container.wait())
            done, _ = await asyncio.wait((ended,), timeout=0.2)
            assert not done  # it waits for us
            found = await to_the_end(attached)
        assert found.split() == [b"%d" % each for each in range(1, 300001)]
        await ended


async def test_an_end_of_input_is_no_end_of_attention(engine: Engine, root: str) -> None:
    container = await engine.create("web", spec=shell("read x; echo got $x"), terminal=True)
    async with destroyed(container):
        ours, theirs = socket.socketpair()
        with ours, theirs, Client(directory_of(container, root)) as client:
            assert "ok" in client.ask("attach", [theirs.fileno()])
            theirs.close()
            await container.start()
            ours.sendall(b"this\n")
            ours.shutdown(socket.SHUT_WR)
            found = b""
            while data := await asyncio.to_thread(ours.recv, 1000):  # noqa: TID251 - a test's own wait
                found += data
            assert found == b"this\r\ngot this\r\n"


async def test_a_container_on_a_terminal_ends_with_its_supervisor(
    engine: Engine, root: str
) -> None:
    container = await started(engine, "web", shell("sleep 1000; echo"), terminal=True)
    async with destroyed(container), await container.attach() as attached:
        init = init_of(container, root)
        kill_now(supervisor_of(container, root))
        await gone(init)
        await to_the_end(attached)
        assert (await container.wait()).reason in {"signal", "unknown"}


async def test_a_program_of_raw_mode_gets_every_key_as_it_is(engine: Engine) -> None:
    every = bytes(range(256))
    script = "stty raw -echo; echo ready; exec head -c 256"
    container = await engine.create("web", spec=shell(script), terminal=True)
    async with destroyed(container), await container.attach() as attached:
        await container.start()
        await seen(attached, "ready\n")
        await attached.write(every)
        assert await to_the_end(attached) == every


async def test_more_input_than_a_terminal_takes_waits(engine: Engine) -> None:
    script = "stty raw -echo; echo ready; read x <$1; exec head -c 1000000"
    fifo = f"{engine.root}/fifo"
    os.mkfifo(fifo)
    container = await engine.create("web", spec=shell(script, fifo), terminal=True)
    async with destroyed(container), await container.attach() as attached:
        await container.start()
        await seen(attached, "ready\n")
        writing = asyncio.create_task(attached.write(b"0123456789" * 100_000))
        done, _ = await asyncio.wait((writing,), timeout=0.1)
        assert not done
        with open(fifo, "wb") as told:
            told.write(b"go\n")
        os.unlink(fifo)
        assert await to_the_end(attached) == b"0123456789" * 100_000
        await writing


@pytest.mark.parametrize(
    "message",
    [
        {"op": "attach"},
        {"op": "resize", "rows": -1, "columns": 5},
        {"op": "resize", "rows": "x", "columns": 5},
        {"op": "resize"},
    ],
    ids=str,
)
async def test_a_bad_message_about_a_terminal_harms_nobody(
    engine: Engine, root: str, message: dict[str, Any]
) -> None:
    container = await started(engine, "web", SHELL, terminal=True)
    async with destroyed(container):
        with Client(directory_of(container, root)) as client, open("/dev/null", "rb") as null:
            assert "ok" in client.ask("resize", rows=10, columns=20)
            before = _open_files(supervisor_of(container, root))
            operation = message.pop("op")
            answer = client.ask(operation, [null.fileno()] * 1, **message)
            assert "error" in answer or "failed" in answer
            supervisor = supervisor_of(container, root)  # it answers first, then closes what came
            await until(lambda: _open_files(supervisor) == before, "nothing more is open")
        async with await container.attach() as attached:
            await attached.write(b"echo well-$((1))\n")
            await seen(attached, "well-1")


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def test_what_cannot_be_attached_to_is_one_clear_line(engine: Engine) -> None:
    async with engine.running("plain", spec=shell("sleep 1000")) as container:
        with pytest.raises(asyncrt.NoOutput, match="it has no terminal"):
            await container.attach()
    async with engine.running("log", spec=shell("sleep 1000"), stdout=LOG) as container:
        with pytest.raises(asyncrt.NoOutput, match="asyncrt logs -f"):
            await container.attach()
    container = await started(engine, "ended", shell(""), terminal=True)
    async with destroyed(container):
        await container.wait()
        with pytest.raises(asyncrt.InvalidTransition, match="stopped"):
            await container.attach()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"stdin": PIPE}, "its streams are the terminal"),
        ({"stdout": PIPE}, "its streams are the terminal"),
        ({"stderr": 2}, "its streams are the terminal"),
        ({"supervision": "caller"}, "needs a console_socket"),
        ({"terminal": (24, 65536)}, "columns of a terminal"),
        ({"terminal": (24,)}, "must be True, False or"),
        ({"terminal": ("a", "b")}, "must be True, False or"),
        ({"terminal": 5}, "must be True, False or"),
        ({"terminal": False, "console_socket": "/x"}, "is for a terminal"),
        ({"console_socket": "/x", "stdout": LOG}, "LOG with a console_socket"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_with_a_terminal_is_refused(
    engine: Engine, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(asyncrt.SpecInvalid, match=why):
        await engine.create("web", spec=SHELL, **{"terminal": True, **options})
    assert names(engine.root) == []


# An exec's own


async def test_an_exec_has_a_terminal_of_its_own(engine: Engine) -> None:
    container = await started(engine, "web", shell("sleep 1000"))
    async with destroyed(container):
        script = "stty size; tty; read x; stty size; echo $x; exit 3"
        async with await container.exec(["/bin/sh", "-c", script], terminal=(5, 6)) as process:
            assert process.terminal is not None
            assert (await seen(process.terminal, "/dev/pts/")).startswith("5 6\r\n")
            await process.terminal.resize(12, 34)
            await process.terminal.write(b"hello\n")
            found = await to_the_end(process.terminal)
            assert b"12 34\r\nhello\r\n" in found
            assert (await process.wait()).exit_code == 3
        process = await container.exec(["/bin/sleep", "1000"], terminal=True)
        process.close()  # hangs up
        assert (await process.wait()).signal == 1
        with pytest.raises(asyncrt.StartFailed, match="nothing-there"):
            await container.exec(["nothing-there"], terminal=True)
        with pytest.raises(asyncrt.SpecInvalid, match="isn't logged"):
            await container.exec(["true"], terminal=True, stdout=LOG)


# Console sockets


async def test_a_supervisor_with_an_idle_terminal_sleeps(engine: Engine, root: str) -> None:
    container = await started(engine, "web", shell("echo; sleep 1000"), terminal=True)
    async with destroyed(container):
        pid = supervisor_of(container, root)
        await until(lambda: _switches(pid) == _switches_later(pid), "it sleeps")


def _switches(pid: int) -> str:
    with open(f"/proc/{pid}/status") as file:
        return "".join(each for each in file if "ctxt_switches" in each)


def _switches_later(pid: int) -> str:
    select.select([], [], [], 0.1)
    return _switches(pid)
