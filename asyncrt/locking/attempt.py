"""A lock for work that is superfluous while somebody else does it: nobody ever waits for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from asyncrt.locking._flock import Flock

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def attempt(path: str) -> Iterator[bool]:
    """Whether nobody else is inside of such a block for the same file, which is made if missing.

    Never waits; may be nested inside of a FileLock's time. Raises OSError when the file can't be
    opened.
    """
    system = Flock()
    fd = system.open(path, 0o600)
    try:
        yield system.try_lock(fd, shared=False) and system.inode_if_at(fd, path) is not None
    finally:
        system.drop(fd)
