"""The verbs that are swept: how their container is made ready, and what is then done to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from asyncrt.state import read_record
from tests.helpers.containers import shell_hook
from tests.sweep import boxes, leftovers, outputs, owned, pods
from tests.sweep.verb import ID, Verb, by_another, cold, ended, execute, null, spec, warm

if TYPE_CHECKING:
    from asyncrt import Container, Engine

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
        self._options = {**null(), "supervision": supervision}

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
        await ended(record.init, record.supervisor)

    async def run(self, engine: Engine, _: None) -> None:
        """Engine.run has the one supervision only; by hand the steps are the same."""
        if self._options["supervision"] == "own":
            await engine.run(ID, spec=spec("/bin/true"), **null())
            return
        container = await engine.create(ID, spec=spec("/bin/true"), **self._options)
        await container.start()
        await container.wait()
        await container.destroy()

    def verbs(self) -> dict[str, Verb]:
        created, running = self.created, self.running
        return {
            "create cold": Verb(cold, lambda e, _: created(e), creates=True),
            "create": Verb(warm, lambda e, _: created(e), creates=True),
            "create hooks": Verb(warm, lambda e, _: self.hooked(e), creates=True),
            "start": Verb(created, lambda e, c: c.start()),
            "start hooks": Verb(self.hooked, lambda e, c: c.start()),
            "pause": Verb(running, lambda e, c: c.pause()),
            "pause created": Verb(created, lambda e, c: c.pause()),
            "resume": Verb(self.paused, lambda e, c: c.resume()),
            "kill": Verb(running, lambda e, c: c.kill("TERM")),
            "kill all": Verb(running, lambda e, c: c.kill("KILL", all=True)),
            "stop": Verb(running, lambda e, c: c.stop()),
            "exec": Verb(running, lambda e, c: execute(c)),
            "wait": Verb(self.ready, self.end, feeds=True),
            "natural exit": Verb(self.ready, self.end_alone, feeds=True),
            "destroy": Verb(running, lambda e, c: c.destroy(), stops=True),
            "destroy created": Verb(created, lambda e, c: c.destroy(), stops=True),
            "destroy paused": Verb(self.paused, lambda e, c: c.destroy(), stops=True),
            "destroy hooks": Verb(self.hooked, lambda e, c: c.destroy(), stops=True),
            "delete": Verb(self.stopped, lambda e, c: c.delete()),
            "delete force": Verb(running, lambda e, _: e.delete(ID, force=True), stops=True),
            "pause loaded": Verb(by_another(running), lambda e, c: c.pause()),
            "stop loaded": Verb(by_another(running), lambda e, c: c.stop()),
            "destroy loaded": Verb(by_another(running), lambda e, c: c.destroy(), stops=True),
            "run": Verb(warm, self.run, creates=True, in_steps=True),
        }


def every() -> dict[str, Verb]:
    """All verbs, by name and supervision."""
    found = {
        f"{name}, {supervision}": verb
        for supervision in ("own", "caller")
        for name, verb in {
            **_Kind(supervision).verbs(),
            "create console": outputs.console(supervision),
        }.items()
        if (name, supervision) != ("exec", "caller")  # refused: nobody would reap it
    }
    for family in (owned, outputs, leftovers):
        found |= {f"{name}, own": verb for name, verb in family.verbs().items()}
    for family in (boxes, pods) if boxes.can_be_swept() else ():
        found |= {f"{name}, own": verb for name, verb in family.verbs().items()}
    return found
