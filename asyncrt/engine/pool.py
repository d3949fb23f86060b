"""A warm pool: containers created ahead, waiting at their gates, so that having one costs a start.

The stock and what is being made for it never exceed the size together. Everything in it is attached
to the engine by a lease: an owner killed by SIGKILL leaves no process of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Self

from asyncrt._threads import finish
from asyncrt.engine.many import AT_ONCE, for_all
from asyncrt.errors import AsyncrtError, ContainerNotFound, InvalidTransition, SpecInvalid
from asyncrt.platforms import Overlay
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncrt.container import Container
    from asyncrt.engine.many import Which

_AT_ONCE = 4  # creates under way: more would only keep each other, and those who start, waiting


class Pool:
    """Created containers in stock, refilled in the background; use it as a context.

    What was taken is the taker's: to destroy, and with the pool's lease still on it, so that it ends
    with this engine unless somebody renews (`renew(None)` lets it outlive that). What is in stock is
    destroyed when the context ends. Takers are served in the order they came.
    """

    def __init__(self, make: Callable[[], Awaitable[Container]], size: int) -> None:
        """Made by Engine.pool. Raises SpecInvalid for a size below 1."""
        given: object = size
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise SpecInvalid(
                json_path="", why=f"the size of a pool is {size!r}, must be a number from 1 on"
            )
        self._make = make
        self._size = size
        self._ready: deque[Container] = deque()  # with takers waiting it is empty
        self._takers: deque[asyncio.Future[Container]] = deque()
        self._room = asyncio.Semaphore(size)
        self._wanted = asyncio.Event()  # set by every take: whoever failed may try again
        self._full: asyncio.Future[None] | None = None
        self._workers: list[asyncio.Task[None]] = []

    @property
    def size(self) -> int:
        """How many it keeps in stock."""
        return self._size

    @property
    def ready(self) -> int:
        """How many are in stock now."""
        return len(self._ready)

    async def __aenter__(self) -> Self:
        """Fill it. Raises what creating one raises, a refused spec say; nothing is left then.

        If cancelled, nothing is left either.
        """
        if self._full is not None:
            raise RuntimeError("a pool is entered once: make another")
        loop = asyncio.get_running_loop()
        self._full = loop.create_future()
        for _ in range(min(self._size, _AT_ONCE)):
            self._workers.append(loop.create_task(self._refill()))
        try:
            await self._full
        except BaseException:
            with contextlib.suppress(AsyncrtError):  # what went wrong first is the one to tell
                await finish(self._shut())
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close it; see close. If cancelled, it is closed all the same."""
        await self.close()

    async def close(self) -> None:
        """Destroy what is in stock, undo what is being made, let no taker wait. Idempotent.

        Raises what a destroy raised, when all others are done. If cancelled, it is closed first.
        """
        await finish(self._shut())

    async def take(self, *, start: bool = True) -> Container:
        """A container out of the stock, started; with `start=False` it is still created.

        Waits for one to be made if there is none, behind those who came before. Raises what making
        or starting it raises: the next take has it tried again. One that has ended in stock, killed
        by somebody say, is replaced. If cancelled, none is taken.
        """
        for _ in range(self._size):
            try:
                return await self._take(start=start)
            except (InvalidTransition, ContainerNotFound):
                continue  # it has ended in stock
        return await self._take(start=start)  # something ends them all: let it be known

    async def _take(self, *, start: bool) -> Container:
        container = await self._next()
        try:
            if start:
                await container.start()
            else:
                status = (await container.view()).status
                if status is not Status.CREATED:
                    raise InvalidTransition(
                        container_id=container.id,
                        operation="take",
                        status=str(status),
                        allowed=(Status.CREATED.value,),
                    )
        except BaseException:
            await finish(_destroyed(container))
            raise
        finally:
            self._room.release()  # not sooner: a create beside it would slow the start down
        return container

    async def _next(self) -> Container:
        """The next in stock, its place in it still counted. If cancelled, it goes to who is next."""
        if not self._workers:
            raise RuntimeError("the pool isn't open: use 'async with engine.pool(...)'")
        self._wanted.set()
        if self._ready:
            return self._ready.popleft()
        taker: asyncio.Future[Container] = asyncio.get_running_loop().create_future()
        self._takers.append(taker)
        try:
            return await taker
        except asyncio.CancelledError:
            if not taker.done() or taker.cancelled():
                with contextlib.suppress(ValueError):  # passed over already
                    self._takers.remove(taker)
            elif taker.exception() is None:
                self._give(taker.result(), first=True)
            raise

    def _give(self, container: Container, *, first: bool = False) -> None:
        """To the taker who has waited for longest, else into the stock."""
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(container)
                return
        if first:
            self._ready.appendleft(container)
        else:
            self._ready.append(container)

    async def _refill(self) -> None:
        while True:
            await self._room.acquire()
            try:
                container = await self._make()
            except Exception as error:  # noqa: BLE001 - raised to those who wait for it
                self._room.release()
                await self._failed(error)
            else:
                self._give(container)
                assert self._full is not None  # noqa: S101 - set before any worker is made
                if len(self._ready) == self._size and not self._full.done():
                    self._full.set_result(None)

    async def _failed(self, error: Exception) -> None:
        """Tell everybody who waits, and try again when somebody comes."""
        waiting = [*self._takers]
        self._takers.clear()
        if self._full is not None:
            waiting.append(self._full)  # type: ignore[arg-type]  # a future of nothing fails as well
        for each in waiting:
            if not each.done():
                each.set_exception(error)
        self._wanted.clear()
        await self._wanted.wait()

    async def _shut(self) -> None:
        workers, self._workers = self._workers, []
        for each in workers:
            each.cancel()
        if workers:
            await asyncio.wait(workers)
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_exception(RuntimeError("the pool was closed"))
        stock: list[Which] = [*self._ready]
        self._ready.clear()
        errors = await for_all(stock, _destroy, at_once=AT_ONCE)
        for error in errors.values():
            if error is not None:
                raise error


def refuse_kept(overlay: Overlay | None) -> None:
    """Raise SpecInvalid for a layer that is kept: it is one container's at a time."""
    given: object = overlay
    if isinstance(given, Overlay) and given.kind == "kept":
        why = (
            f"a pool's containers can't share {given.path}: one container at a time writes to a layer "
            "that is kept; give Overlay.memory() or Overlay.disk(), which each has its own of"
        )
        raise SpecInvalid(json_path="overlay", why=why)


async def _destroy(each: Which) -> None:
    if not isinstance(each, str):
        await each.destroy()


async def _destroyed(container: Container) -> None:
    """One that its taker doesn't get; what can't be removed now has a record to retry from."""
    with contextlib.suppress(AsyncrtError):
        await container.destroy()
