"""What is done by the handles of an engine that was closed works, and keeps nothing open."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

import psutil
import pytest

import asyncrt
from asyncrt import Engine
from tests.helpers.containers import (
    in_state,
    line,
    shell,
    shell_hook,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import until

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}


def _open() -> int:
    return len(os.listdir("/proc/self/fd"))


def _pipes() -> int:
    found = 0
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{each}").startswith("pipe:")
    return found


def _living(root: str) -> list[int]:
    """Processes below us that a fork server of that root started, or that are one."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if root in each.cmdline():
                found.append(each.pid)
    return found


async def test_no_connection_is_kept_for_a_next_call(root: str, engine: Engine) -> None:
    async with Engine(root) as closed:
        container = await started(closed, "web", sleeper(), **NULL)
        pipes = _pipes()
        # libuv keeps a descriptor of its own from the first pipe of a loop on.
        async with await container.exec(["/bin/true"], stdout=asyncrt.PIPE) as process:
            assert process.stdout is not None
            assert await process.stdout.read() == b""
    await until(lambda: _pipes() == pipes, "its pipe is let go")
    before = _open()
    await container.pause()
    await container.resume()
    async with await container.exec(["/bin/echo", "hello"], stdout=asyncrt.PIPE) as process:
        assert await line(process.stdout) == "hello"
        assert (await process.wait()).exit_code == 0
    await container.pause()
    await until(lambda: _open() == before, "the pipe's transport is closed")
    await container.destroy()
    assert await engine.list() == []


async def test_what_has_to_be_forked_keeps_no_fork_server(root: str, engine: Engine) -> None:
    async with Engine(root) as closed:
        hooks = {"poststop": [shell_hook("exit 0")]}
        one = await started(closed, "one", sleeper(hooks=hooks), **NULL)
        two = await started(closed, "two", sleeper(hooks=hooks), **NULL)
    before = _open()
    await one.destroy()
    await two.destroy()
    await until(lambda: not _living(root), "all have ended")
    await until(lambda: _open() == before, "all are reaped")
    assert await engine.list() == []


async def test_what_was_typed_before_a_terminal_is_let_go_of_arrives(engine: Engine) -> None:
    """Its supervisor may hear of both at the same time."""
    spec = shell("read word; test $word = typed")
    container = await started(engine, "web", spec, terminal=True)
    supervisor = supervisor_of(container, engine.root)
    terminal = await container.attach()
    os.kill(supervisor, signal.SIGSTOP)
    await in_state(supervisor, "T")
    await terminal.write(b"typed\n")
    terminal.close()
    os.kill(supervisor, signal.SIGCONT)
    assert (await container.wait(20)).exit_code == 0
    await container.destroy()


async def test_an_engine_that_is_open_isnt_opened_again(root: str) -> None:
    """What it had so far, a fork server say, nobody would let go of."""
    async with Engine(root) as engine:
        with pytest.raises(RuntimeError, match="open already"):
            await engine.__aenter__()
        assert await engine.list() == []
    async with engine:
        assert await engine.list() == []
