"""One hop to a thread for several callers: what they ask for at about the same time is done in one call.

A hop costs more than most of what it is for, and threads that make system calls side by side spend
most of their time handing the interpreter to each other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from asyncrt._threads import drain, run_blocking

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
R = TypeVar("R")


class _Asked(Generic[T, R]):
    """What one caller asks for."""

    __slots__ = ("answer", "call", "value")

    def __init__(self, value: T, answer: asyncio.Future[R]) -> None:
        self.value = value
        self.answer = answer
        self.call: asyncio.Future[None] | None = None  # done when the call that it is in has ended


class Together(Generic[T, R]):
    """A function of a list, to be called with one element at a time. Belongs to one event loop.

    What is asked for in one tick, or while a call is under way, is the list of the next call. For
    what never waits for anything: who asked last waits for all.
    """

    def __init__(self, func: Callable[[list[T]], list[R]]) -> None:
        """`func` runs in a worker thread and answers to each element. What it raises goes to all."""
        self._func = func
        self._asked: list[_Asked[T, R]] = []
        self._work: asyncio.Task[None] | None = None

    async def __call__(self, value: T) -> R:
        """What the function answers to this one. Raises what it raises, as `run_blocking` does.

        If cancelled, a call that is under way is finished first; what hasn't begun isn't done.
        """
        loop = asyncio.get_running_loop()
        asked: _Asked[T, R] = _Asked(value, loop.create_future())
        self._asked.append(asked)
        if self._work is None:
            self._work = loop.create_task(self._answer_all())
        try:
            return await asked.answer
        except asyncio.CancelledError:
            if asked.call is not None:
                await drain(asked.call)
            raise

    async def _answer_all(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, []
                wanted = [each for each in asked if not each.answer.done()]
                if wanted:
                    await self._answer(wanted)
        finally:
            self._work = None
            for each in self._asked:
                each.answer.cancel()  # the loop is being closed
            self._asked.clear()

    async def _answer(self, wanted: list[_Asked[T, R]]) -> None:
        call = asyncio.get_running_loop().create_future()
        for each in wanted:
            each.call = call
        try:
            answers = await run_blocking(self._func, [each.value for each in wanted])
        except Exception as error:  # noqa: BLE001 - handed over, not lost
            for each in wanted:
                if not each.answer.done():
                    each.answer.set_exception(error)
        else:
            for each, answer in zip(wanted, answers, strict=True):
                if not each.answer.done():
                    each.answer.set_result(answer)
        finally:
            call.set_result(None)
            for each in wanted:
                each.answer.cancel()  # of those that have no answer
