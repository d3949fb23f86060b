"""The verbs of output: logs and their pump, terminals, streams of an exec."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from asyncrt import PIPE, ConsoleSocket, Log
from asyncrt.state import read_record
from tests.helpers import reality
from tests.sweep.verb import ID, MARK, Verb, by_another, ended, null, spec, warm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncrt import Container, Engine
    from tests.sweep.verb import Act, Prepare

_SMALL = Log(max_bytes=200, files=2)  # of the lines below three make a file
_LINES = 7
_LOST_SECONDS = 2.0  # what a killed pump had read already never comes
_TRIES = 3
_LOGGED: Any = {"stdin": PIPE, "stdout": _SMALL, "stderr": _SMALL}


def line(number: int) -> str:
    """One of the lines that the logged containers write, in the order of their numbers."""
    return f"{number:06} {'.' * 20}"


def is_in_order(lines: list[str]) -> bool:
    """Whether these are such lines, whole, none twice: some may have been rotated away or lost."""
    numbers = [int(each[:6]) if each[:6].isdecimal() else -1 for each in lines]
    return lines == [line(each) for each in numbers] and numbers == sorted(set(numbers))


async def _logged(engine: Engine) -> Container:
    """It says on both streams what it is told."""
    container = await engine.create(ID, spec=spec("/usr/bin/tee", "/dev/stderr"), **_LOGGED)
    await container.start()
    return container


async def _orphaned(engine: Engine) -> Container:
    """Its supervisor was killed, and nobody has looked since."""
    container = await _logged(engine)
    supervisor = read_record(engine.root, ID).supervisor
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    await ended(supervisor)
    return container


async def _write(_: Engine, container: Container) -> None:
    """Have it write, and see the last line of both streams come, in a log that is followed."""
    assert container.stdin is not None
    for number in range(0, _LINES * _TRIES, _LINES):
        lines = [line(number + each) for each in range(_LINES)]
        container.stdin.write("".join(f"{each}\n" for each in lines).encode())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOST_SECONDS):
                await container.stdin.drain()
                await _see(container, lines[-1])
                return


async def _see(container: Container, last: str) -> None:
    waiting = {"stdout", "stderr"}
    async with contextlib.aclosing(container.logs(follow=True)) as lines:
        async for each in lines:
            if each.text == last:
                waiting.discard(each.stream)
            if not waiting:
                return


async def _write_and_end(engine: Engine, container: Container) -> None:
    """Whoever pumps writes the last of it down and ends."""
    await engine.load(ID)  # and have somebody pump on
    with contextlib.suppress(ConnectionError):
        await _write(engine, container)
    assert container.stdin is not None
    container.stdin.close()
    await container.wait()
    await _read(engine, container)


async def _read(_: Engine, container: Container) -> None:
    """To the end of what there is."""
    async with contextlib.aclosing(container.logs()) as lines:
        async for _line in lines:
            pass


async def _at_terminal(engine: Engine, *args: str, **options: Any) -> Container:
    return await engine.create(ID, spec=spec(*args), terminal=True, **options)


async def _catting(engine: Engine) -> Container:
    container = await _at_terminal(engine, "/bin/cat", stdout=Log(timestamps=False))
    await container.start()
    return container


async def _asking(engine: Engine) -> Container:
    container = await _at_terminal(engine, "/bin/sh", "-c", "read line; exit 3")
    await container.start()
    return container


async def _type(_: Engine, container: Container) -> None:
    """What is typed is echoed, and comes back."""
    async with await container.attach() as attached:
        await attached.resize(30, 90)
        await attached.write(b"hello\n")
        seen = b""
        while seen.count(b"hello") < 2:
            part = await attached.read()
            if not part:
                return  # it was hung up
            seen += part


async def _answer(_: Engine, container: Container) -> None:
    async with await container.attach() as attached:
        await attached.write(b"line\n")
        await container.wait()


def at_console(prepare: Prepare) -> Prepare:
    """And the descriptor that becomes the terminal: closed, it hangs up."""

    async def at(engine: Engine) -> tuple[Any, int]:
        state = await prepare(engine)
        return state, os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    return at


async def over_console(
    engine: Engine, held: int, create: Callable[[str], Awaitable[Container]]
) -> None:
    """Its terminal goes to us, by the console socket of that path."""
    path = f"{engine.root}-console-{os.getpid()}"
    async with ConsoleSocket(path) as console:
        await create(path)
        async with await console.receive() as attached:
            os.dup2(attached.fileno(), held, inheritable=False)


async def _exec(container: Container, *args: str, **options: Any) -> None:
    env = reality.marking(MARK, "exec")
    process = await container.exec(args, env=env, **{**null(), **options})
    try:
        if process.stdin is not None:
            process.stdin.write(b"hello")
            process.stdin.close()
        if process.terminal is not None:
            while await process.terminal.read():
                pass
        if process.stdout is not None:
            await process.stdout.read()
        await process.wait()
    finally:
        process.close()


async def _exec_and_kill(container: Container) -> None:
    process = await container.exec(
        ["/bin/sleep", "1000"], env=reality.marking(MARK, "exec"), **null()
    )
    await process.kill("KILL")
    await process.wait()


async def _running(engine: Engine) -> Container:
    container = await engine.create(ID, spec=spec(), **null())
    await container.start()
    return container


async def _feed_a_run(engine: Engine, _: None) -> None:
    await engine.run(ID, spec=spec("/bin/cat"), input=b"hello", stdout=PIPE, stderr=PIPE)


def verbs() -> dict[str, Verb]:
    """By name; they need a supervisor."""
    piped: Any = {"stdin": PIPE, "stdout": PIPE}
    return {
        "create log": Verb(warm, lambda e, _: e.create(ID, spec=spec(), **_LOGGED), creates=True),
        "log": Verb(_logged, _write, again=_read),
        "log exit": Verb(_logged, _write_and_end, again=_read),
        "log pump": Verb(_orphaned, _write_and_end, again=_read, orphaned=True),
        "create terminal": Verb(warm, lambda e, _: _at_terminal(e), creates=True),
        "attach": Verb(_catting, _type),
        "attach loaded": Verb(by_another(_catting), _type),
        "exec loaded": Verb(by_another(_running), lambda e, c: _exec(c, "/bin/true")),
        "terminal exit": Verb(_asking, _answer),
        "exec pipes": Verb(_running, lambda e, c: _exec(c, "/bin/cat", **piped)),
        "exec terminal": Verb(_running, lambda e, c: _exec(c, "/bin/echo", "hello", terminal=True)),
        "exec deadline": Verb(
            _running, lambda e, c: _exec(c, "/bin/sleep", "1000", deadline_seconds=0.05)
        ),
        "exec kill": Verb(_running, lambda e, c: _exec_and_kill(c)),
        "run input": Verb(warm, _feed_a_run, creates=True, in_steps=True),
    }


def console(supervision: str) -> Verb:
    """A create whose terminal goes over a console socket."""

    async def act(engine: Engine, state: tuple[None, int]) -> None:
        options: Any = {"supervision": supervision}
        await over_console(
            engine, state[1], lambda path: _at_terminal(engine, console_socket=path, **options)
        )

    return of_console(warm, act)


def of_console(prepare: Prepare, act: Act) -> Verb:
    """What makes a container whose terminal is sent away."""
    return Verb(at_console(prepare), act, creates=True, feeds=True, in_steps=True)
