"""The queues of this process: one for each lock file and loop, none in a forked child."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

from asyncrt._fskind import kind_of
from asyncrt.locking._flock import Flock
from asyncrt.locking._queue import PathQueue

if TYPE_CHECKING:
    import asyncio

# Weak: a queue lives as long as a FileLock or a thread uses it. The key's loop can't be another one
# of the same id, for the queue keeps it alive.
_queues: WeakValueDictionary[tuple[str, str, int], PathQueue] = WeakValueDictionary()
_all: WeakSet[PathQueue] = WeakSet()
_mutex = threading.Lock()


def _forsake_all() -> None:
    # A forked child has neither loops nor threads of ours, and a mutex it may never get.
    global _queues, _all, _mutex
    for queue in list(_all):
        queue.forsake()
    flock.idle.forget()
    _queues, _all, _mutex = WeakValueDictionary(), WeakSet(), threading.Lock()


os.register_at_fork(after_in_child=_forsake_all)

flock = Flock()


def queue_for(path: str, gate: str, loop: asyncio.AbstractEventLoop | None) -> PathQueue:
    """The queue of that real path in that loop; outside of loops one of its own for each caller."""
    if loop is None:
        alone = PathQueue(flock, path, gate, loop=None)
        _all.add(alone)
        return alone
    key = (path, gate, id(loop))
    queue = _queues.get(key)
    if queue is None:
        new = PathQueue(flock, path, gate, loop=loop, inline=not _is_remote(path))
        with _mutex:
            queue = _queues.setdefault(key, new)
            _all.add(queue)
    return queue


def _is_remote(path: str) -> bool:
    try:
        return kind_of(os.path.dirname(path)) == "network"
    except OSError:
        return False  # no such directory: opening the file will tell
