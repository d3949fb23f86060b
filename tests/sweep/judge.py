"""The second process: another engine on the same root, that tells what it sees and cleans up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any, NoReturn

import asyncrt
from tests.helpers import records
from tests.sweep.outputs import is_in_order
from tests.sweep.stage import Outcome, outcome_of
from tests.sweep.verb import ID, null, spec

if TYPE_CHECKING:
    from tests.sweep.verb import Verb

# What doing it once more may say, when it was done already or undone.
_DONE_ALREADY = ("InvalidTransition", "ContainerExists", "ContainerNotFound")
_SECONDS = 20.0
_RECOVERIES = 20  # what has just been killed may still be ending


class Judge:
    """The handle of the judging process, for the driver, which runs no event loop."""

    def __init__(self, root: str, verbs: dict[str, Verb]) -> None:
        commands, self._commands = os.pipe()
        self._lines, lines = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._commands)
            _live(root, verbs, commands, lines)
        os.close(commands)
        os.close(lines)
        self._file = os.fdopen(self._lines, "rb")

    def ask(self, question: str, name: str = "") -> Any:
        """Have it do something; its answer."""
        os.write(self._commands, f"{question}\t{name}\n".encode())
        line = self._file.readline()
        if not line:
            raise EOFError("the judging process has ended")
        return json.loads(line)

    def close(self) -> None:
        """End it and reap it."""
        os.close(self._commands)
        with contextlib.suppress(ChildProcessError):  # an interrupt may have ended it before
            os.waitpid(self.pid, 0)
        self._file.close()


def _live(root: str, verbs: dict[str, Verb], commands: int, lines: int) -> NoReturn:
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        asyncio.run(_serve(root, verbs, commands, lines))
    finally:
        os._exit(0)


async def _serve(root: str, verbs: dict[str, Verb], commands: int, lines: int) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(commands, "rb", buffering=0)
    )
    async with asyncrt.Engine(root, lock_timeout=_SECONDS) as engine:
        while line := await reader.readline():
            question, name = line.decode().rstrip("\n").split("\t")
            try:
                async with asyncio.timeout(2 * _SECONDS):
                    answer = await _answer(engine, question, verbs.get(name))
            except Exception as error:  # whatever it is, the driver hears it
                answer = {"error": outcome_of(error)}
            os.write(lines, json.dumps(answer).encode() + b"\n")


async def _answer(engine: asyncrt.Engine, question: str, verb: Verb | None) -> Any:
    match question:
        case "list":
            return await _list(engine)
        case "again":
            assert verb is not None
            return await _again(engine, verb)
        case "destroy":
            for view in await engine.list():
                await (await engine.load(view.id)).destroy()
        case "delete":
            for each in sorted({ID} | _ids(engine.root)):
                await engine.delete(each, force=True)
        case "gc":
            return await _recover(engine)
        case "ends":
            views = await engine.list(status="stopped")
            return [each.exit.reason if each.exit is not None else "" for each in views]
        case "run":
            done = await engine.run(ID, spec=spec("/bin/true"), **null())
            return done.exit.exit_code
        case _:
            raise ValueError(question)
    return None


async def _list(engine: asyncrt.Engine) -> list[str]:
    """Status by list, which state and view must agree with."""
    found = []
    for view in await engine.list():
        container = await engine.load(view.id)
        state = await container.state()
        if view.broken is not None or state["status"] != view.status:
            found.append(f"list says {view.status} {view.broken}, state {state['status']}")
        if container.logged and not container.terminal:
            async with contextlib.aclosing(container.logs()) as lines:
                logged = [(each.stream, each.text) async for each in lines]
            for stream in ("stdout", "stderr"):
                texts = [text for name, text in logged if name == stream]
                if not is_in_order(texts):
                    found.append(f"{stream} is {texts}")
        found.append(str(view.status))
    return found


def _ids(root: str) -> set[str]:
    """Of all that has a file there, whether or not a record tells of it."""
    return {name.lstrip(".").partition(".")[0] for name in records.names(root)}


async def _recover(engine: asyncrt.Engine) -> str:
    """Recover until there is nothing more to mend; what went wrong."""
    report = await engine.recover()
    for _ in range(_RECOVERIES):
        if not report.complete:
            return f"failed: {report.findings}"
        if not report.findings:
            return ""
        report = await engine.recover()
    return f"still: {report.findings}"


async def _again(engine: asyncrt.Engine, verb: Verb) -> Outcome:
    """The verb by another process: it works, or says that it is done or undone already."""
    fed = -1
    try:
        state: Any = None if verb.creates else await engine.load(ID)
        if verb.feeds:
            fed = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            state = state, fed
        await (verb.again or verb.act)(engine, state)
    except asyncrt.AsyncrtError as error:
        outcome = outcome_of(error)
        return Outcome() if outcome.error in _DONE_ALREADY else outcome
    finally:
        if verb.creates and verb.feeds:  # else its act closes it
            os.close(fed)
    return Outcome()
