"""What an engine does to several containers at once: one that fails stops none of the others."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from asyncrt._threads import finish
from asyncrt.container import Container
from asyncrt.container.kill import check_grace, signal_number
from asyncrt.errors import ContainerNotFound, InvalidTransition, SpecInvalid
from asyncrt.ids import check_id
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from asyncrt.container import Context
    from asyncrt.container.kill import SignalLike
    from asyncrt.engine.sandboxes import Sandbox
    from asyncrt.state import ExitResult, View

Which = str | Container
T = TypeVar("T")

AT_ONCE = 64  # each holds a few descriptors, and a usual limit is 1024


class Many:
    """The batch verbs of Engine.

    Each takes ids, abbreviated as for load, or containers, or a single one; what is given twice counts once. The
    dict that comes back has, by the id as it was given, what went wrong with it, or None. Nobody's
    failure stops the others; what can be wrong with all (a signal, a grace) is raised before
    anything is done. `at_once` bounds how many are under way. `sandbox`: as well all containers of
    that one, abbreviated as for load, its root last, whose end ends the others; those of them that
    have ended are fine with all that ends them. Raises what load_sandbox raises.
    """

    if TYPE_CHECKING:  # Engine's own, which the verbs build on

        async def load(self, id: str) -> Container:
            """See Engine.load."""

        async def load_sandbox(self, id: str) -> Sandbox:
            """See Engine.load_sandbox."""

        async def delete(
            self, id: str, *, force: bool = False, timeout: float | None = None
        ) -> None:
            """See Engine.delete."""

        async def list(
            self,
            *,
            status: str | Iterable[str] | None = None,
            sandbox: str | None = None,
            annotations: Mapping[str, str | None] | None = None,
            until: datetime | timedelta | None = None,
        ) -> Sequence[View]:
            """See Engine.list."""

        @property
        def _context(self) -> Context:
            """What all containers of the engine share."""

    async def kill_many(
        self,
        ids: Which | Iterable[Which] = (),
        signal: SignalLike = "TERM",
        *,
        sandbox: str | None = None,
        all: bool = False,
        timeout: float | None = None,
        at_once: int = AT_ONCE,
    ) -> dict[str, Exception | None]:
        """Signal each as Container.kill does: by id, None or the error.

        Raises SpecInvalid for a signal that there isn't. If cancelled, some may have been signalled
        and the rest aren't.
        """
        number = signal_number(signal)

        async def kill(each: Which) -> None:
            await (await self._loaded(each)).kill(number, all=all, timeout=timeout)

        return await self._in_turns(ids, sandbox, kill, at_once)

    async def stop_many(
        self,
        ids: Which | Iterable[Which] = (),
        grace_seconds: float = 10,
        *,
        sandbox: str | None = None,
        timeout: float | None = None,
        at_once: int = AT_ONCE,
    ) -> dict[str, Exception | None]:
        """Stop each as Container.stop does, side by side: by id, None or the error.

        Raises SpecInvalid for a grace below 0. If cancelled, some may have stopped, those under way
        may have got their TERM, and the rest is as it was.
        """
        check_grace(grace_seconds)

        async def stop(each: Which) -> None:
            await (await self._loaded(each)).stop(grace_seconds, timeout=timeout)

        return await self._in_turns(ids, sandbox, stop, at_once)

    async def destroy_many(
        self,
        ids: Which | Iterable[Which] = (),
        *,
        sandbox: str | None = None,
        timeout: float | None = None,
        at_once: int = AT_ONCE,
    ) -> dict[str, Exception | None]:
        """Destroy each, in whatever status: by id, None or the error.

        An id must be whole, as for delete with force, and one that there isn't is fine, both also for
        the sandbox's; a container given as such is destroyed in this instance only. If cancelled, those under way are finished
        by destroying them again and the rest is as it was.
        """

        async def destroy(each: Which) -> None:
            if isinstance(each, Container):
                await each.destroy(timeout=timeout)
            else:
                await self.delete(each, force=True, timeout=timeout)

        try:
            return await self._in_turns(ids, sandbox, destroy, at_once, whole=True)
        except ContainerNotFound:
            return await for_all(ids, destroy, at_once=at_once)

    async def prune(
        self,
        *,
        sandbox: str | None = None,
        annotations: Mapping[str, str | None] | None = None,
        until: datetime | timedelta | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
        at_once: int = AT_ONCE,
    ) -> dict[str, Exception | None]:
        """Delete the stopped containers, of those that `list` has with these filters: by id, None or the error.

        What ended is gone with it: exit, output. One that somebody else deletes meanwhile is fine, and
        what is made anew with its id isn't touched. With `dry_run` nothing is: the ids say what would
        be deleted. Raises SpecInvalid for a bad `until`. If cancelled, those under way are finished by
        deleting them again and the rest is as it was.
        """
        views = await self.list(
            status=Status.STOPPED, sandbox=sandbox, annotations=annotations, until=until
        )
        if dry_run:
            return dict.fromkeys(each.id for each in views)

        async def delete(each: Which) -> None:
            with contextlib.suppress(ContainerNotFound):
                await (await self._loaded(each)).delete(timeout=timeout)

        stopped = [Container(self._context, each.id, each.instance) for each in views]
        return await for_all(stopped, delete, at_once=at_once)

    async def wait_any(
        self, containers: Which | Iterable[Which], *, timeout: float | None = None
    ) -> tuple[Container, ExitResult]:
        """The first that ends, and how; of several that have ended the one given first.

        Costs what waiting for each of them does. Raises SpecInvalid without any, TimeoutError after
        `timeout` seconds (None: no limit), and what the first raises whose end can't be told any
        more (ContainerNotFound: destroyed meanwhile). If cancelled, nothing changes.
        """
        given = several_of(containers)
        if not given:
            raise SpecInvalid(json_path="", why="wait_any needs at least one container")

        async def ended(each: Which) -> tuple[Container, ExitResult]:
            container = await self._loaded(each)
            return container, await container.wait()

        async with asyncio.timeout(timeout):
            tasks = [asyncio.ensure_future(ended(each)) for each in given]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                return next(task for task in tasks if task.done()).result()
            finally:
                for task in tasks:
                    task.cancel()
                await finish(_settle(tasks))

    async def _in_turns(
        self,
        ids: Which | Iterable[Which],
        sandbox: str | None,
        act: Callable[[Which], Awaitable[None]],
        at_once: int,
        *,
        whole: bool = False,
    ) -> dict[str, Exception | None]:
        """Those that are given and those of the sandbox but its root, then that one.

        `whole`: its id may not be abbreviated.
        """
        if sandbox is None:
            return await for_all(ids, act, at_once=at_once)
        found = await self.load_sandbox(check_id(sandbox) if whole else sandbox)
        if whole and found.id != sandbox:
            raise ContainerNotFound(container_id=sandbox, root=self._context.root)
        given = several_of(ids)
        named = {_name(each) for each in given}

        async def act_on(each: Which) -> None:
            try:
                await act(each)
            except InvalidTransition as error:
                if _name(each) in named or error.status != Status.STOPPED:
                    raise

        several = [*given, *await found.containers()]
        others = [each for each in several if _name(each) != found.id]
        done = await for_all(others, act_on, at_once=at_once)
        return done | await for_all(found.root, act_on, at_once=at_once)

    async def _loaded(self, each: Which) -> Container:
        return each if isinstance(each, Container) else await self.load(each)


def several_of(given: Which | Iterable[Which]) -> list[Which]:
    """One that is given alone is one: an id's letters, taken for ids, could hit others."""
    several = [given] if isinstance(given, Which) else list(given)
    for each in several:
        if not isinstance(each, Which):
            raise SpecInvalid(json_path="", why=f"{each!r} is neither an id nor a container")
    return several


def _name(each: Which) -> str:
    return each if isinstance(each, str) else each.id


async def _settle(tasks: Sequence[asyncio.Future[T]]) -> None:
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at: the first that was done is the answer


async def for_all(
    given: Which | Iterable[Which], act: Callable[[Which], Awaitable[None]], *, at_once: int
) -> dict[str, Exception | None]:
    """Do it to each, a few at a time; by id None, or what it raised.

    If cancelled, so is what is under way, and the rest isn't begun.
    """
    if at_once < 1:
        raise SpecInvalid(json_path="", why=f"at_once is {at_once}, must be 1 or more")
    by_id = {_name(each): each for each in several_of(given)}
    found: dict[str, Exception | None] = {}
    left = iter(by_id.items())

    async def work() -> None:
        for name, each in left:
            try:
                await act(each)
                found[name] = None
            except Exception as error:  # noqa: BLE001 - told to the caller, whatever it is
                found[name] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(by_id))):
            group.create_task(work())
    return {name: found[name] for name in by_id}
