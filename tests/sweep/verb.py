"""What a verb of the sweep is, and what the containers of all of them run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncrt
from asyncrt import _procid
from tests.helpers import reality
from tests.helpers.processes import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncrt import Engine
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
    """A verb under a supervision: `prepare` makes what `act` is done to.

    `again` is how another process repeats it, given what `creates` or `feeds` say; None: as `act`.
    """

    prepare: Prepare
    act: Act
    creates: bool = False  # there is no container before
    feeds: bool = False  # its container comes with the descriptor that keeps it from ending
    again: Act | None = None
    owned: bool = False  # nothing that it makes runs on without its engine
    in_steps: bool = False  # what failed may have been done in part
    stops: bool = False  # it may have stopped what it then couldn't remove
    for_gc: bool = False  # what is there without a record only gc takes away
    orphaned: bool = False  # its supervisor was killed before: nobody is left to tell of its end
    unkept: bool = False  # what its supervisor was to end lives on where that was killed
    untouched: tuple[str, ...] = ()  # others that run, and do so whatever happens


def spec(*args: str, **options: Any) -> asyncrt.Spec:
    """What the containers run: until killed, unless told otherwise."""
    return asyncrt.Spec.command(
        args or ("/bin/sleep", "1000"), env=reality.marking(MARK), **options
    )


async def warm(engine: Engine) -> None:
    """No container, but the fork server is up."""
    await engine.run("warm", spec=spec("/bin/true"), **_NULL)


async def cold(engine: Engine) -> None:
    """No container and no fork server."""


async def execute(container: asyncrt.Container) -> None:
    """One exec'd program, to its end."""
    process = await container.exec(["/bin/true"], env=reality.marking(MARK, "exec"), **_NULL)
    await process.wait()


def by_another(prepare: Prepare) -> Prepare:
    """The same container made by an engine that is gone, for one that isn't connected yet."""

    async def made(engine: Engine) -> asyncrt.Container:
        async with asyncrt.Engine(engine.root) as other:
            await prepare(other)
        return await engine.load(ID)

    return made


async def ended(*identities: Identity | None) -> None:
    """Wait until these processes are gone."""
    for each in filter(None, identities):
        await until(partial(_is_gone, each), "it has ended")


def _is_gone(identity: Identity) -> bool:
    return not _procid.alive(identity)
