"""Sandboxes of several containers: what is done to one beside the others, or to all by their root.

Most verbs are about the container ID, beside which the root container and a sibling run. These stay as
they are whatever is killed, by its supervisor's end too: their programs run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncrt
from asyncrt.state import read_record
from tests.helpers import reality, sandboxes
from tests.helpers.containers import shell_hook
from tests.sweep import boxes, outputs
from tests.sweep.verb import ID, MARK, Verb, ended, execute, null, warm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncrt import Container, Engine, Sandbox

NAME = "pod"
ROOT, SIBLING = "root", "sibling"
_HOST = "host"
_HOOKS = "createRuntime", "poststart", "poststop"


class _Kind:
    """The verbs of those that one platform makes, and of `linux` one who."""

    def __init__(self, who: str) -> None:
        self._who = who

    def _spec(self, engine: Engine, id: str, *, hooks: bool = False) -> asyncrt.Spec:
        marking = reality.marking(MARK, id)
        kinds = _HOOKS if hooks else ()
        if self._who == _HOST:
            found = {kind: [shell_hook("exit 0")] for kind in kinds}
            return asyncrt.Spec.command(("/bin/sleep", "1000"), env=marking, hooks=found)
        made = boxes.config(boxes.rootfs_beside(engine.root), self._who)
        made["process"]["env"] = [f"{name}={value}" for name, value in marking.items()]
        if id != ROOT:
            del made["linux"]["sysctl"]  # of a network that isn't its own
        made["hooks"] = boxes.hooks(*kinds)
        return sandboxes.spec(made)

    async def sandbox(self, engine: Engine) -> Sandbox:
        """Its root container stands at its gate."""
        return await engine.create_sandbox(ROOT, spec=self._spec(engine, ROOT), **null())

    async def alone(self, engine: Engine) -> Sandbox:
        """Its root container runs, and no other has been there."""
        found = await self.sandbox(engine)
        await found.root.start()
        return found

    async def shared(self, engine: Engine) -> Sandbox:
        """With the sibling."""
        found = await self.alone(engine)
        await (await self._create(engine, found, SIBLING)).start()
        return found

    async def full(self, engine: Engine) -> Sandbox:
        """With all of them, one not started."""
        found = await self.shared(engine)
        await self._create(engine, found, ID)
        return found

    async def _create(
        self,
        engine: Engine,
        sandbox: Sandbox,
        id: str = ID,
        *,
        hooks: bool = False,
        **options: Any,
    ) -> Container:
        spec = self._spec(engine, id, hooks=hooks)
        return await sandbox.create(id, spec=spec, **{**null(), **options})

    async def _create_layered(self, engine: Engine, sandbox: Sandbox) -> Container:
        overlay = asyncrt.Overlay.disk(boxes.layers_beside(engine.root))
        return await self._create(engine, sandbox, overlay=overlay)

    async def _create_kept(self, engine: Engine, sandbox: Sandbox) -> Container:
        overlay = asyncrt.Overlay.upper(boxes.kept_beside(engine.root))
        return await self._create(engine, sandbox, overlay=overlay)

    async def created(self, engine: Engine) -> Container:
        return await self._create(engine, await self.shared(engine))

    async def running(self, engine: Engine) -> Container:
        container = await self.created(engine)
        await container.start()
        return container

    async def paused(self, engine: Engine) -> Container:
        container = await self.running(engine)
        await container.pause()
        return container

    async def layered(self, engine: Engine) -> Container:
        return await self._create_layered(engine, await self.shared(engine))

    async def kept(self, engine: Engine) -> Container:
        return await self._create_kept(engine, await self.shared(engine))

    async def hooked(self, engine: Engine) -> Container:
        return await self._create(engine, await self.shared(engine), hooks=True)

    async def create(self, engine: Engine, sandbox: Sandbox | None) -> None:
        await self._create(engine, sandbox or await engine.load_sandbox(ROOT))

    async def create_layered(self, engine: Engine, sandbox: Sandbox | None) -> None:
        await self._create_layered(engine, sandbox or await engine.load_sandbox(ROOT))

    async def create_kept(self, engine: Engine, sandbox: Sandbox | None) -> None:
        await self._create_kept(engine, sandbox or await engine.load_sandbox(ROOT))

    async def create_hooked(self, engine: Engine, sandbox: Sandbox | None) -> None:
        await self._create(engine, sandbox or await engine.load_sandbox(ROOT), hooks=True)

    async def create_at_terminal(self, engine: Engine, state: tuple[Sandbox | None, int]) -> None:
        """Its terminal goes over a console socket."""
        sandbox = state[0] or await engine.load_sandbox(ROOT)
        options: Any = {"terminal": True, "stdout": asyncrt.INHERIT, "stderr": asyncrt.INHERIT}
        await outputs.over_console(
            engine,
            state[1],
            lambda path: self._create(engine, sandbox, console_socket=path, **options),
        )

    def verbs(self) -> dict[str, Verb]:
        created, running, paused, full = self.created, self.running, self.paused, self.full
        beside = {
            "create": Verb(self.shared, self.create, creates=True),
            "start": Verb(created, lambda e, c: c.start()),
            "exec": Verb(running, lambda e, c: execute(c)),
            "pause": Verb(running, lambda e, c: c.pause()),
            "resume": Verb(paused, lambda e, c: c.resume()),
            "kill all": Verb(running, lambda e, c: c.kill("KILL", all=True)),
            "destroy": Verb(running, lambda e, c: c.destroy(), stops=True),
            "destroy created": Verb(created, lambda e, c: c.destroy(), stops=True),
            "destroy paused": Verb(paused, lambda e, c: c.destroy(), stops=True),
            "create hooks": Verb(self.shared, self.create_hooked, creates=True),
            "start hooks": Verb(self.hooked, lambda e, c: c.start()),
            "destroy hooks": Verb(self.hooked, lambda e, c: c.destroy(), stops=True),
            "create console": outputs.of_console(self.shared, self.create_at_terminal),
        }
        first = Verb(self.alone, self.create, creates=True, untouched=(ROOT,))
        return {
            **_beside(beside),
            "create first": first,
            "sandbox": Verb(warm, lambda e, _: self.sandbox(e), creates=True),
            "end of root": _of_all(full, _end)._replace(unkept=True),
            "destroy root": _of_all(full, lambda e, s: s.root.destroy()),
            "destroy sandbox": _of_all(full, lambda e, s: s.destroy())._replace(in_steps=True),
        }

    def of_linux(self) -> dict[str, Verb]:
        """What there is on that platform only."""
        layered = self.layered
        beside = {
            "update": Verb(self.running, lambda e, c: c.update(boxes.change())),
            "create layered": Verb(self.shared, self.create_layered, creates=True),
            "export": Verb(layered, lambda e, c: boxes.export(c)),
            "kill layered": Verb(layered, lambda e, c: c.kill("KILL", all=True)),
            "destroy layered": Verb(layered, lambda e, c: c.destroy(), stops=True),
            "create kept": Verb(self.shared, self.create_kept, creates=True),
            "destroy kept": Verb(self.kept, lambda e, c: c.destroy(), stops=True),
        }
        return _beside(beside)


def _beside(named: dict[str, Verb]) -> dict[str, Verb]:
    """The same, of one beside the others."""
    return {name: verb._replace(untouched=(ROOT, SIBLING)) for name, verb in named.items()}


def _of_all(
    prepare: Callable[[Engine], Awaitable[Sandbox]],
    act: Callable[[Engine, Sandbox], Awaitable[None]],
) -> Verb:
    """One that ends the sandbox; another process loads it."""

    async def do(engine: Engine, sandbox: Sandbox | None) -> None:
        await act(engine, sandbox or await engine.load_sandbox(ROOT))

    return Verb(prepare, do, creates=True, stops=True)


async def _end(engine: Engine, sandbox: Sandbox) -> None:
    """The root ends; that the others do as well is the supervisor's to see to."""
    supervisor = read_record(engine.root, ROOT).supervisor
    await sandbox.root.kill("KILL")
    await sandbox.root.wait()
    await ended(supervisor)


def verbs() -> dict[str, Verb]:
    """By name; the word pod comes first, then who makes it."""
    root, mapped, host = _Kind(sandboxes.ROOT), _Kind(sandboxes.MAPPED), _Kind(_HOST)
    found = {f"{NAME} {name}": verb for name, verb in (root.verbs() | root.of_linux()).items()}
    every = mapped.verbs() | mapped.of_linux()
    for name in ("create", "exec", "create layered"):
        found[f"{NAME} mapped {name}"] = every[name]
    every = host.verbs()
    for name in ("sandbox", "create", "start", "exec", "kill all", "destroy", "destroy root"):
        found[f"{NAME} host {name}"] = every[name]
    return found
