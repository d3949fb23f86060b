"""Console sockets: a terminal that is sent to whoever listens, as OCI runtimes send it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import resource
import signal
import socket
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine
from asyncrt.launch import frames, terminal
from asyncrt.launch.failure import Failure
from tests.helpers.containers import (
    destroyed,
    shell,
    started,
)
from tests.helpers.records import names
from tests.helpers.terminals import seen, to_the_end

SHELL = asyncrt.Spec.command(["/bin/sh", "-i"], env={"PS1": "$ ", "TERM": "dumb"})


@pytest.mark.parametrize("supervision", ["own", "caller"])
async def test_a_terminal_arrives_over_the_console_socket_at_create(
    engine: Engine, root: str, supervision: Any
) -> None:
    async with asyncrt.ConsoleSocket(f"{root}/console") as console:
        container = await engine.create(
            "web",
            spec=shell("echo hello; read x; echo $x"),
            terminal=True,
            console_socket=console.path,
            supervision=supervision,
        )
        async with destroyed(container):
            async with asyncio.timeout(20):
                ours = await console.receive()
            with contextlib.closing(ours):
                assert not container.terminal
                with pytest.raises(asyncrt.NoOutput):
                    await container.attach()
                await container.start()
                await seen(ours, "hello")
                await ours.write(b"you\n")
                assert b"you\r\nyou" in await to_the_end(ours)
    assert not os.path.exists(f"{root}/console")


async def test_an_execs_terminal_may_go_over_a_console_socket_too(
    engine: Engine, root: str
) -> None:
    container = await started(engine, "web", shell("sleep 1000"))
    async with destroyed(container), asyncrt.ConsoleSocket(f"{root}/console") as console:
        process = await container.exec(
            ["/bin/echo", "there"], terminal=True, console_socket=console.path
        )
        assert process.terminal is None
        with contextlib.closing(await console.receive()) as ours:
            assert await to_the_end(ours) == b"there\r\n"
        await process.wait()
        process.close()


async def test_a_dead_console_socket_fails_the_create_and_leaves_nothing(
    engine: Engine, root: str
) -> None:
    path = f"{root}/console"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    for where, number in ((path, 111), (f"{root}/missing", 2), ("/" + "x" * 200, 36)):
        with pytest.raises(asyncrt.StartFailed, match="console socket") as caught:
            await engine.create("web", spec=SHELL, terminal=True, console_socket=where)
        assert caught.value.errno == number
    os.unlink(path)
    assert names(engine.root) == []


def test_a_console_socket_that_hung_up_meanwhile_is_a_failure_of_the_launch() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, open("/dev/null", "rb") as null, pytest.raises(Failure) as caught:
        terminal.give(ours.fileno(), null.fileno())
    assert (caught.value.what, caught.value.errno) == ("console socket", errno.EPIPE)


async def test_a_console_socket_passes_over_what_is_no_terminal(root: str) -> None:
    async with asyncrt.ConsoleSocket(f"{root}/console") as console:
        receiving = asyncio.create_task(console.receive())
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(console.path)
        with socket.socket(socket.AF_UNIX) as wrong, open("/dev/null", "rb") as null:
            wrong.connect(console.path)
            frames.send(wrong, b"x", [null.fileno(), null.fileno()])
        master, slave = os.openpty()
        with socket.socket(socket.AF_UNIX) as right:
            right.connect(console.path)
            frames.send(right, b"/dev/ptmx", [master])
        os.close(master)
        async with asyncio.timeout(20):
            received = await receiving
        os.write(slave, b"hi")
        assert await received.read() == b"hi"
        os.close(slave)
        received.close()
        with pytest.raises(OSError, match="in use"):
            await asyncrt.ConsoleSocket(console.path).__aenter__()


async def test_who_connects_to_a_console_socket_and_says_nothing_holds_nobody_up(
    engine: Engine, root: str
) -> None:
    async with asyncrt.ConsoleSocket(f"{root}/console") as console, asyncio.timeout(20):
        silent = []
        for _ in range(100):
            silent.append(socket.socket(socket.AF_UNIX))
            silent[-1].connect(console.path)
        receiving = [asyncio.create_task(console.receive()) for _ in range(2)]
        for id in ("one", "two"):
            await engine.create(id, spec=SHELL, terminal=True, console_socket=console.path)
        for each in receiving:
            (await each).close()
        await engine.destroy_many(["one", "two"])
        for sock in silent:
            sock.close()
        waiting = asyncio.create_task(console.receive())
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="isn't open"):
        await waiting
    with pytest.raises(RuntimeError, match="isn't open"):
        await console.receive()


async def test_terminals_that_nobody_received_hang_up_with_the_console_socket(
    engine: Engine, root: str
) -> None:
    async with asyncrt.ConsoleSocket(f"{root}/console") as console:
        container = await engine.create(
            "web", spec=shell("sleep 1000"), terminal=True, console_socket=console.path
        )
        await container.start()
    async with destroyed(container):
        assert (await container.wait()).signal == signal.SIGHUP


async def test_a_console_socket_without_descriptors_says_so_and_goes_on(root: str) -> None:
    async with asyncrt.ConsoleSocket(f"{root}/console") as console, asyncio.timeout(20):
        with socket.socket(socket.AF_UNIX) as peer:
            master, slave = os.openpty()
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (slave + 1, before[1]))
            try:
                peer.connect(console.path)
                with pytest.raises(OSError, match="Too many open files"):
                    await console.receive()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            frames.send(peer, b"/dev/ptmx", [master])
            (await console.receive()).close()
        os.close(master)
        os.close(slave)


async def test_a_console_socket_that_cant_listen_names_its_path(root: str) -> None:
    with open(f"{root}/taken", "w"):
        pass
    for path in (f"{root}/taken", f"{root}/missing/x", f"{root}/{'x' * 200}"):
        with pytest.raises(asyncrt.StorageFailed, match=r"in use|No such|too long") as caught:
            await asyncrt.ConsoleSocket(path).__aenter__()
        assert caught.value.path == path
    with pytest.raises(asyncrt.SpecInvalid, match="NUL"):
        asyncrt.ConsoleSocket("a\0b")
    os.unlink(f"{root}/taken")


async def test_it_speaks_as_runc_does(engine: Engine, root: str) -> None:
    """One message: a name, with one descriptor, a terminal's master."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{root}/console")
        listener.listen()
        container = await engine.create(
            "web", spec=SHELL, terminal=True, console_socket=f"{root}/console"
        )
        async with destroyed(container):
            sock, _ = listener.accept()
            with sock:
                data, fds, _, _ = socket.recv_fds(sock, 4096, 10)
            assert data == b"/dev/ptmx"
            (master,) = fds
            assert os.isatty(master)
            assert re.fullmatch(r"/dev/(pts/)?ptmx", os.readlink(f"/proc/self/fd/{master}"))
            os.close(master)
    os.unlink(f"{root}/console")
