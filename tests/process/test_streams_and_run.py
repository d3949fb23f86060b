"""Standard streams of containers, and run and running, which live as long as their call."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile

import pytest

import asyncrt
from asyncrt import DEVNULL, INHERIT, PIPE, Engine, Status
from tests.helpers.containers import gone, init_of, line, rest, shell, sleeper, started
from tests.helpers.processes import run_python, until
from tests.helpers.records import names

CAT = asyncrt.Spec.command(["/bin/cat"])


async def test_ten_megabytes_go_both_ways_unharmed(engine: Engine) -> None:
    data = os.urandom(1 << 20) * 10
    done = await engine.run("web", spec=CAT, input=data, stdout=PIPE)
    assert done.exit.exit_code == 0
    assert done.stdout == data
    assert done.stderr is None
    assert names(engine.root) == []


async def test_both_outputs_are_read_at_once(engine: Engine) -> None:
    script = "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero; echo end >&2"
    done = await engine.run("web", spec=shell(script), stdout=PIPE, stderr=PIPE)
    assert done.stdout == b"\0" * 1_000_000
    assert done.stderr == b"\0" * 1_000_000 + b"end\n"


async def test_a_program_need_not_read_its_input(engine: Engine) -> None:
    done = await engine.run("web", spec=shell("exit 3"), input=b"x" * 1_000_000)
    assert done.exit.exit_code == 3
    done = await engine.run("web", spec=shell("exec <&-; exit 4"), input=b"x" * 1_000_000)
    assert done.exit.exit_code == 4


async def test_no_input_is_an_end_of_file_at_once(engine: Engine) -> None:
    for options in ({}, {"stdin": PIPE}, {"input": b""}):
        done = await engine.run("web", spec=CAT, stdout=PIPE, **options)
        assert (done.exit.exit_code, done.stdout) == (0, b"")


async def test_what_a_child_that_outlives_init_wrote_does_not_hold_run_up(engine: Engine) -> None:
    script = "sleep 1000 & echo here"
    async with asyncio.timeout(20):
        done = await engine.run("web", spec=shell(script), stdout=PIPE)
    assert done.stdout == b"here\n"


async def test_inherited_streams_are_the_engines_own(root: str) -> None:
    code = """
import asyncio, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        spec = asyncrt.Spec.command(["/bin/sh", "-c", "echo out; echo err >&2; readlink /proc/self/fd/0"])
        await engine.run("web", spec=spec)

asyncio.run(main())
"""
    done = run_python(code, root)
    assert done.stdout == "out\n/dev/null\n"
    assert done.stderr == "err\n"
    assert done.returncode == 0


async def test_inheriting_a_closed_stream_is_devnull(root: str) -> None:
    code = """
import asyncio, os, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        script = "echo out; echo err >&2; cat; echo done >$1"
        spec = asyncrt.Spec.command(["/bin/sh", "-c", script, "sh", sys.argv[2]])
        for number in (0, 1, 2):
            os.close(number)
        done = await engine.run("web", spec=spec, stdin=asyncrt.INHERIT)
        os._exit(done.exit.exit_code)

asyncio.run(main())
"""
    with tempfile.NamedTemporaryFile("r+") as told:
        assert run_python(code, root, told.name).returncode == 0
        assert told.read() == "done\n"


async def test_any_descriptor_or_open_file_will_do(engine: Engine) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as errors:
        script = "read line; echo got $line; echo bad >&2"
        ours.sendall(b"this\n")
        done = await engine.run(
            "web", spec=shell(script), stdin=theirs, stdout=theirs.fileno(), stderr=errors
        )
        assert done.exit.exit_code == 0
        assert ours.recv(100) == b"got this\n"
        errors.seek(0)
        assert errors.read() == b"bad\n"
        assert theirs.fileno() > 0  # still the caller's


@pytest.mark.parametrize("bad", [4000, -1, "stdout", None, 1.5], ids=repr)
async def test_a_bad_stream_is_an_error_and_leaves_nothing(bad: object, engine: Engine) -> None:
    with pytest.raises((OSError, TypeError, ValueError, AttributeError)):
        await engine.create("web", spec=CAT, stdin=PIPE, stderr=bad)  # type: ignore[arg-type]  # wrong on purpose
    assert names(engine.root) == []


async def test_pipes_are_streams_of_the_container(engine: Engine) -> None:
    container = await started(
        engine, "web", shell("while read x; do echo $x $x; done"), stdin=PIPE, stdout=PIPE
    )
    assert container.stderr is None
    assert container.stdin is not None
    for word in ("one", "two"):
        container.stdin.write(word.encode() + b"\n")
        assert await line(container.stdout) == f"{word} {word}"
    container.stdin.close()
    assert await rest(container.stdout) == ""
    assert (await container.wait()).exit_code == 0
    await container.destroy()


async def test_a_pipe_can_be_opened_again_by_name(engine: Engine) -> None:
    done = await engine.run("web", spec=shell("echo x >/dev/stdout"), stdout=PIPE)
    assert done.stdout == b"x\n"


async def test_run_says_how_it_ended_and_leaves_nothing(engine: Engine) -> None:
    for code in (0, 1, 123):
        done = await engine.run("web", spec=shell(f"exit {code}"), stdout=DEVNULL, stderr=INHERIT)
        assert done.exit.status_code == code
    done = await engine.run("web", spec=shell("kill -TERM $$"))
    assert done.exit.status_code == 128 + 15
    assert names(engine.root) == []


async def test_a_run_that_cannot_start_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(asyncrt.StartFailed):
        await engine.run("web", spec=asyncrt.Spec.command(["/no/such"]), stdout=PIPE)
    with pytest.raises(asyncrt.StartFailed):
        await engine.run("web", spec=sleeper(cwd="/no/such"), stdout=PIPE, input=b"x")
    assert names(engine.root) == []


async def test_a_cancelled_run_leaves_nothing(engine: Engine) -> None:
    running = asyncio.create_task(engine.run("web", spec=sleeper(), stdout=PIPE))
    users = engine._context.watches._users
    await until(lambda: bool(users), "it waits for the end")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert names(engine.root) == []


@pytest.mark.parametrize("end", ["normal", "error", "cancel"])
async def test_running_destroys_at_the_end_of_its_block(end: str, engine: Engine) -> None:
    pids = []

    async def block() -> None:
        async with engine.running("web", spec=sleeper()) as container:
            assert (await container.view()).status is Status.RUNNING
            pids.append(init_of(container, engine.root))
            if end == "error":
                raise LookupError
            if end == "cancel":
                await asyncio.Event().wait()

    task = asyncio.create_task(block())
    if end == "cancel":
        await until(lambda: bool(pids), "it runs")
        task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    expected = {"normal": type(None), "error": LookupError, "cancel": asyncio.CancelledError}
    assert isinstance(outcome, expected[end])
    await gone(pids[0])
    assert names(engine.root) == []


async def test_a_hundred_runs_at_once_are_kept_apart(engine: Engine) -> None:
    async def one(number: int) -> tuple[int | None, bytes | None]:
        done = await engine.run(
            f"r{number}",
            spec=shell(f"read x; echo $x; exit {number}"),
            input=f"{number}\n".encode(),
            stdout=PIPE,
        )
        return done.exit.exit_code, done.stdout

    found = await asyncio.gather(*(one(number) for number in range(100)))
    assert found == [(number, f"{number}\n".encode()) for number in range(100)]
    assert names(engine.root) == []
