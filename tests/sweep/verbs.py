"""The verbs that are swept: how their container is made ready, and what is then done to it."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncrt
from asyncrt import _procid
from asyncrt.state import read_record
from tests.helpers import reality
from tests.helpers.containers import shell_hook
from tests.helpers.processes import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncrt import Container, Engine
    from asyncrt.state import Identity

    Prepare = Callable[[Engine], Awaitable[Any]]
    Act = Callable[[Engine, Any], Awaitable[Any]]

ID = "web"
MARK = "sweep"
_NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}


def null() -> Any:
    """Output that goes nowhere."""
    return _NULL


class Verb(NamedTuple):
    """A verb under a supervision: `prepare` makes what `act` is done to."""

    prepare: Prepare
    act: Act
    creates: bool = False  # there is no container before
    feeds: bool = False  # its container comes with the descriptor that keeps it from ending


def spec(*args: str, **options: Any) -> asyncrt.Spec:
    """What the containers run: until killed, unless told otherwise."""
    return asyncrt.Spec.command(
        args or ("/bin/sleep", "1000"), env=reality.marking(MARK), **options
    )


async def _warm(engine: Engine) -> None:
    """No container, but the fork server is up."""
    await engine.run("warm", spec=spec("/bin/true"), **_NULL)


async def _cold(engine: Engine) -> None:
    """No container and no fork server."""


_HOOKS = {
    kind: [shell_hook("exit 0")]
    for kind in (
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    )
}


class _Kind:
    """The verbs of one supervision."""

    def __init__(self, supervision: str) -> None:
        self._options = {**_NULL, "supervision": supervision}

    async def created(self, engine: Engine) -> Container:
        return await engine.create(ID, spec=spec(), **self._options)

    async def hooked(self, engine: Engine) -> Container:
        return await engine.create(ID, spec=spec(hooks=_HOOKS), **self._options)

    async def running(self, engine: Engine) -> Container:
        container = await self.created(engine)
        await container.start()
        return container

    async def paused(self, engine: Engine) -> Container:
        container = await self.running(engine)
        await container.pause()
        return container

    async def stopped(self, engine: Engine) -> Container:
        container = await self.running(engine)
        await container.kill("KILL")
        await container.wait()
        return container

    async def ready(self, engine: Engine) -> tuple[Container, int]:
        """One whose program ends by itself once its input does."""
        theirs, ours = os.pipe()
        try:
            waiting = spec("/bin/sh", "-c", "read line; exit 3")
            container = await engine.create(ID, spec=waiting, stdin=theirs, **self._options)
        finally:
            os.close(theirs)
        await container.start()
        return container, ours

    async def end(self, engine: Engine, ready: tuple[Container, int]) -> None:
        container, ours = ready
        os.close(ours)
        await container.wait()

    async def end_alone(self, engine: Engine, ready: tuple[Container, int]) -> None:
        """Nobody waits: what is to be done is the supervisor's alone."""
        _, ours = ready
        record = read_record(engine.root, ID)
        os.close(ours)
        assert record.init is not None
        for each in filter(None, (record.init, record.supervisor)):
            await until(partial(_is_gone, each), "it has ended")

    async def run(self, engine: Engine, _: None) -> None:
        """Engine.run has the one supervision only; by hand the steps are the same."""
        if self._options["supervision"] == "own":
            await engine.run(ID, spec=spec("/bin/true"), **_NULL)
            return
        container = await engine.create(ID, spec=spec("/bin/true"), **self._options)
        await container.start()
        await container.wait()
        await container.destroy()

    def verbs(self) -> dict[str, Verb]:
        created, running = self.created, self.running
        return {
            "create cold": Verb(_cold, lambda e, _: created(e), creates=True),
            "create": Verb(_warm, lambda e, _: created(e), creates=True),
            "create hooks": Verb(_warm, lambda e, _: self.hooked(e), creates=True),
            "start": Verb(created, lambda e, c: c.start()),
            "start hooks": Verb(self.hooked, lambda e, c: c.start()),
            "pause": Verb(running, lambda e, c: c.pause()),
            "pause created": Verb(created, lambda e, c: c.pause()),
            "resume": Verb(self.paused, lambda e, c: c.resume()),
            "kill": Verb(running, lambda e, c: c.kill("TERM")),
            "kill all": Verb(running, lambda e, c: c.kill("KILL", all=True)),
            "stop": Verb(running, lambda e, c: c.stop()),
            "exec": Verb(running, lambda e, c: _execute(c)),
            "wait": Verb(self.ready, self.end, feeds=True),
            "natural exit": Verb(self.ready, self.end_alone, feeds=True),
            "destroy": Verb(running, lambda e, c: c.destroy()),
            "destroy created": Verb(created, lambda e, c: c.destroy()),
            "destroy paused": Verb(self.paused, lambda e, c: c.destroy()),
            "destroy hooks": Verb(self.hooked, lambda e, c: c.destroy()),
            "delete": Verb(self.stopped, lambda e, c: c.delete()),
            "delete force": Verb(running, lambda e, _: e.delete(ID, force=True)),
            "run": Verb(_warm, self.run, creates=True),
        }


def _is_gone(identity: Identity) -> bool:
    return not _procid.alive(identity)


async def _execute(container: Container) -> None:
    """One exec'd program, to its end."""
    process = await container.exec(["/bin/true"], env=reality.marking(MARK, "exec"), **_NULL)
    await process.wait()


def every() -> dict[str, Verb]:
    """All verbs, by name and supervision."""
    return {
        f"{name}, {supervision}": verb
        for supervision in ("own", "caller")
        for name, verb in _Kind(supervision).verbs().items()
        if (name, supervision) != ("exec", "caller")  # refused: nobody would reap it
    }
