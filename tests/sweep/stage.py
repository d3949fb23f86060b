"""The process that does one verb while it is traced: an engine forked for one point."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import select
import signal
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import asyncrt
from asyncrt.launch import process
from tests.sweep import tracer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sweep.verb import Verb


class Outcome(NamedTuple):
    """How a verb ended: the error's class and text, "" for none; the errno it carries."""

    error: str = ""
    text: str = ""
    errno: int = 0
    path: str = ""
    ours: bool = True  # an AsyncrtError, or none


def outcome_of(error: BaseException) -> Outcome:
    """An error as it crosses processes."""
    return Outcome(
        type(error).__name__,
        str(error),
        getattr(error, "errno", 0) or 0,
        str(getattr(error, "path", "") or ""),
        isinstance(error, asyncrt.AsyncrtError),
    )


class Stage:
    """A forked engine's handle: told to go on by bytes, it answers with lines."""

    def __init__(self, root: str, verb: Verb, stderr: str) -> None:
        """Fork it; it makes its container ready and then waits."""
        commands, self._commands = os.pipe()
        self._lines, lines = os.pipe()
        self._unread = b""
        self.pid = os.fork()
        if self.pid == 0:
            _live(root, verb, stderr, commands, lines)
        os.close(commands)
        os.close(lines)

    def go(self) -> None:
        """Let it do what comes next."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._commands, b"g")

    def answers(self, seconds: float) -> bool:
        """Whether it says something, or has ended, within that time."""
        poller = select.poll()
        poller.register(self._lines, select.POLLIN)
        return b"\n" in self._unread or bool(poller.poll(seconds * 1000))

    def line(self) -> Any:
        """Its next line, None when it has ended without one."""
        while b"\n" not in self._unread:
            data = os.read(self._lines, 65536)
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        """Let go of it; what waits for a command ends."""
        os.close(self._commands)
        os.close(self._lines)


def _live(root: str, verb: Verb, stderr: str, commands: int, lines: int) -> NoReturn:
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        process.close_all_but((commands, lines))
        logging.disable()  # what is repaired is warned of, here all the time
        _show_stderr_of_ours(stderr)

        def say(message: object) -> None:
            os.write(lines, json.dumps(message).encode() + b"\n")

        asyncio.run(_do(root, verb, commands, say))
    except BaseException:  # the driver hears of it by the text, and ends
        with open(stderr, "a") as file:
            traceback.print_exc(file=file)
    finally:
        os._exit(0)


def _show_stderr_of_ours(path: str) -> None:
    """Have what an engine starts write its standard error to a file and not to nowhere."""
    spawn = os.posix_spawn

    def spawning(program: Any, args: Any, env: Any, **options: Any) -> int:
        actions = [
            (os.POSIX_SPAWN_OPEN, 2, path, os.O_WRONLY | os.O_APPEND, 0)
            if action[:2] == (os.POSIX_SPAWN_OPEN, 2)
            else action
            for action in options.pop("file_actions", ())
        ]
        return spawn(program, args, env, file_actions=actions, **options)

    os.posix_spawn = spawning


async def _told(commands: int) -> None:
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(commands, ready.set)
    await ready.wait()
    loop.remove_reader(commands)
    os.read(commands, 1)


async def _do(root: str, verb: Verb, commands: int, say: Callable[[object], None]) -> None:
    before = _descriptors()
    async with asyncrt.Engine(root) as engine:
        state = await verb.prepare(engine)
        say("ready")
        await _told(commands)
        tracer.mark(tracer.BEGIN)
        outcome = Outcome()
        try:
            await verb.act(engine, state)
        except Exception as error:  # whatever it is, it is judged
            outcome = outcome_of(error)
        tracer.mark(tracer.END)
        say(outcome)
        await _told(commands)
        if isinstance(state, tuple):
            with contextlib.suppress(OSError):
                os.close(state[1])
    gc.collect()  # an error's frames are let go of late where a task is among them
    left = {fd: to for fd, to in _descriptors().items() if before.get(fd) != to}
    say(sorted(left.values()))


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found
