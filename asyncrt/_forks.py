"""What a forked child lets go of.

A child that is forked and executes nothing, as multiprocessing's may be, has a copy of each of our
descriptors, and for the other end nothing is closed before all copies are: a lease would be held by a
worker, a fork server outlive its engine, a program wait for the end of its input. The child has no
use for any of them: its parent's event loop isn't its own.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_held: WeakKeyDictionary[Any, Callable[[Any], object]] = WeakKeyDictionary()


def close_in_children(each: T, close: Callable[[T], object]) -> T:
    """The same; in every child that is forked while it is there, `close` is called with it.

    It must only close: to stop listening would do so for the parent, whose epoll instance it is.
    """
    _held[each] = close
    return each


def _close_all() -> None:
    for each, close in list(_held.items()):
        with contextlib.suppress(OSError):
            close(each)
    _held.clear()


os.register_at_fork(after_in_child=_close_all)
