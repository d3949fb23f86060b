"""What an attacker found once: each stays found."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
from typing import Any

import msgspec
import pytest

import asyncrt
from asyncrt import Engine, Spec
from asyncrt.state import StateFile
from tests.helpers.containers import gone, shell_hook, spare_pair, supervisor_of
from tests.helpers.records import names


async def test_an_end_that_nobody_saw_still_has_its_known_start(engine: Engine) -> None:
    container = await engine.create("unseen", spec=Spec.command(["sleep", "60"]))
    await container.start()
    os.kill(supervisor_of(container, engine.root), signal.SIGKILL)
    async with Engine(engine.root) as other:
        again = await other.load("unseen")
        pid = (await again.view()).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        first = await again.wait()
        assert first.started_at is not None
        view = await again.view()
        assert view.exit is not None
        assert view.exit.started_at is not None
    await container.destroy()


async def test_a_killed_spare_fails_no_create(engine: Engine) -> None:
    spec = Spec.command(["true"])
    for _ in range(5):
        supervisor, _ = await spare_pair(engine)
        os.kill(supervisor, signal.SIGKILL)
        await gone(supervisor)  # or it might take the request and die with it
        assert (await engine.run("next", spec=spec)).exit.exit_code == 0


async def test_an_engine_refuses_another_loop_at_once(root: str) -> None:
    engine = Engine(root)
    await engine.__aenter__()

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await engine.list()
        with pytest.raises(RuntimeError, match="another event loop"):
            await engine.close()

    await asyncio.get_running_loop().run_in_executor(None, asyncio.run, elsewhere())
    await engine.close()


async def test_arguments_beyond_any_frame_are_refused_and_harm_nobody(engine: Engine) -> None:
    large = "x" * (17 << 20)
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("large", spec=Spec.command(["true", large]))
    assert "too long" in str(caught.value)
    async with engine.running("svc", spec=Spec.command(["sleep", "60"])) as container:
        with pytest.raises(asyncrt.StartFailed) as caught:
            await container.exec(["true", large])
        assert "too long" in str(caught.value)
        process = await container.exec(["true"])
        assert (await process.wait()).exit_code == 0
    assert await engine.list() == []


@pytest.mark.parametrize("bad", [9999, -5])
async def test_a_bad_descriptor_is_refused_by_name(engine: Engine, bad: int) -> None:
    with pytest.raises(asyncrt.SpecInvalid, match="stdout"):
        await engine.create("bad", spec=Spec.command(["true"]), stdout=bad)
    assert await engine.list() == []


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
async def test_a_bad_timeout_is_refused(engine: Engine, bad: float) -> None:
    with pytest.raises(asyncrt.SpecInvalid, match="timeout"):
        await engine.create("bad", spec=Spec.command(["true"]), timeout=bad)
    assert names(engine.root) == []


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
async def test_a_bad_timeout_is_refused_by_whatever_takes_one_and_nothing_is_done(
    engine: Engine, bad: float
) -> None:
    null = asyncrt.DEVNULL
    async with engine.running(
        "web", spec=Spec.command(["sleep", "60"]), stdout=null, stderr=null
    ) as container:
        for name, verb in inspect.getmembers(container, inspect.ismethod):
            if "timeout" not in inspect.signature(verb).parameters or name == "wait":
                continue  # a wait's time is up then, as asyncio has it
            given: dict[str, list[Any]] = {
                "renew": [None],
                "exec": [["true"]],
                "update": [{"pids": {"limit": 9}}],
            }
            with pytest.raises(asyncrt.SpecInvalid, match="timeout is"):
                called = verb(*given.get(name, []), timeout=bad)
                await (anext(called) if inspect.isasyncgen(called) else called)
        assert (await container.view()).status is asyncrt.Status.RUNNING


async def test_the_timeout_of_a_run_is_its_starts_too(engine: Engine) -> None:
    """What holds init up between its gate and its program: a hook that hangs."""
    hooks = {"startContainer": [shell_hook("exec sleep 1000")]}
    with pytest.raises(asyncrt.SandboxUnresponsive, match="start"):
        async with asyncio.timeout(20):
            await engine.run("hung", spec=Spec.command(["true"], hooks=hooks), timeout=0.5)
    assert await engine.list() == []


_CLOSED = """
import asyncio, os, sys
root = sys.argv[1]
for fd in (0, 1, 2):
    os.close(fd)
import asyncrt

async def main():
    async with asyncrt.Engine(root) as engine:
        done = await engine.run("out", spec=asyncrt.Spec.command(
            ["sh", "-c", "test -c /proc/self/fd/1 && readlink /proc/$$/fd/1 | grep -q ^/dev/null"]
        ))
        os._exit(done.exit.exit_code)

asyncio.run(main())
"""


async def test_where_standard_streams_are_closed_inherit_gives_none_of_the_loops_own(
    root: str,
) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CLOSED, root, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    assert await child.wait() == 0


async def test_a_supervisor_of_a_newer_protocol_is_let_be_and_everything_can_still_go(
    engine: Engine,
) -> None:
    container = await engine.create("newer", spec=Spec.command(["sleep", "60"]))
    await container.start()
    state = StateFile(engine.root, container.id)
    await state.lock()
    record = await state.load_locked()
    record.protocol = 99
    await state.save_locked(record)
    state.unlock()
    async with Engine(engine.root) as other:
        again = await other.load("newer")
        with pytest.raises(asyncrt.SandboxUnresponsive, match="protocol 99"):
            await again.exec(["true"])
        await again.destroy()
        assert await other.list() == []
    assert msgspec.to_builtins(record)["protocol"] == 99


async def test_a_directory_where_the_exit_record_is_to_be_keeps_nobody_from_knowing_the_end(
    engine: Engine,
) -> None:
    """A program of the same user's can make one; a supervisor tried to write over it for ever."""
    spec = Spec.command(
        ["sh", "-c", 'mkdir -p "$1/exit.json/full"; exit 3', "sh", f"{engine.root}/web.d"]
    )
    container = await engine.create("web", spec=spec, stdout=asyncrt.DEVNULL)
    await container.start()
    supervisor = supervisor_of(container, engine.root)
    await gone(supervisor)
    assert (await container.wait(20)).exit_code == 3
    await container.destroy()
    assert names(engine.root) == []
