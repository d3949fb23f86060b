"""Hooks that are Python callables: an engine's own, called where one of its verbs runs.

In each kind they come after the spec's own. They are not written down: another process's engine,
and what finishes a killed deletion elsewhere, has its own hooks or none.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from asyncrt._threads import finish, submit
from asyncrt.errors import HookFailed, SpecInvalid
from asyncrt.oci import HOOK_KINDS

if TYPE_CHECKING:
    from asyncrt.oci.hooks import HookKind

T = TypeVar("T")

HookCall = Callable[[dict[str, object]], object]
HookCalls = Mapping[str, HookCall | Iterable[HookCall]] | Iterable[tuple[str, HookCall]]

_IN_CONTAINER = "startContainer"


def by_kind(given: HookCalls) -> dict[str, tuple[HookCall, ...]]:
    """The callables of each kind, in the order they were given. Raises SpecInvalid."""
    found: dict[str, list[HookCall]] = {}
    for kind, calls in given.items() if isinstance(given, Mapping) else given:
        if kind == _IN_CONTAINER:
            raise SpecInvalid(
                json_path="",
                why=f"a {kind} hook runs in the container, where no callable of this process can; "
                "give it in the spec",
            )
        if kind not in HOOK_KINDS:
            raise SpecInvalid(
                json_path="",
                why=f"there is no kind of hooks {kind!r}; choose of {', '.join(HOOK_KINDS)}",
            )
        for each in (calls,) if callable(calls) else calls:
            if not callable(each):
                raise SpecInvalid(json_path="", why=f"{kind} hook {each!r} can't be called")
            found.setdefault(kind, []).append(each)
    return {kind: tuple(calls) for kind, calls in found.items()}


async def call(container_id: str, kind: HookKind, hook: HookCall, state: dict[str, object]) -> None:
    """Call it with the OCI state: a coroutine function here, another in a thread of ours.

    Raises HookFailed for whatever it raises. If cancelled, a coroutine is too; a thread can't be,
    and its end is waited for.
    """
    try:
        if _is_async(hook):
            called = hook(state)
        else:
            context = contextvars.copy_context()
            called, error = await finish(_in_thread(partial(context.run, hook, state)))
            if error is not None:
                raise error
        if isinstance(called, Awaitable):
            await called
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise _failed(container_id, kind, hook, "was cancelled, not by us") from cancelled
    except (Exception, SystemExit) as raised:
        why = " ".join(f"{type(raised).__name__}: {raised}".split())
        raise _failed(container_id, kind, hook, why) from raised


def _failed(container_id: str, kind: str, hook: HookCall, why: str) -> HookFailed:
    return HookFailed(container_id=container_id, kind=kind, path=name_of(hook), why=why)


def name_of(hook: HookCall) -> str:
    """What to call it when people are told of it."""
    bare = hook.func if isinstance(hook, partial) else hook
    name = getattr(bare, "__qualname__", None) or type(bare).__qualname__
    return f"{getattr(bare, '__module__', '')}.{name}"


def _is_async(hook: HookCall) -> bool:
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(
        getattr(hook, "__call__", None)  # noqa: B004 - not whether it can be called, but how
    )


async def _in_thread(func: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    """What it returned or raised (even SystemExit, which would end the loop if raised in a task).

    Not with the short file work: a hook may take any time, and others would wait for a thread.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # a closed loop: nobody waits any more
            loop.call_soon_threadsafe(ended.set_result, (result, error))

    submit(func, tell)
    return await ended
