"""A lock for work that is superfluous while somebody else does it: nobody ever waits for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from asyncrt.locking._flock import Flock
from asyncrt.locking._take import Place, drop, open_lock

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def attempt(path: str) -> Iterator[bool]:
    """Whether nobody else is inside of such a block for the same file, which is made if missing.

    Never waits; may be nested inside of a FileLock's time. Raises OSError when the file can't be
    opened.
    """
    place = Place(Flock(), path, gate="")  # nobody waits, so there is no order to keep
    hold, _ = open_lock(place, 0o600)
    try:
        system = place.system
        yield system.try_lock(hold.fd, shared=False) and system.is_at(hold.inode, path)
    finally:
        drop(place.system, hold.fd)
