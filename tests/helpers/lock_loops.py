"""The event loops a lock must work on."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

T = TypeVar("T")


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


_HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None
if _HAS_UVLOOP:
    _uvloop().close()  # libuv's first loop makes a pipe for signals that stays for ever

LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(
        _uvloop,
        id="uvloop",
        marks=pytest.mark.skipif(not _HAS_UVLOOP, reason="uvloop is not installed"),
    ),
]


def run(
    main: Coroutine[Any, Any, T],
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> T:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
