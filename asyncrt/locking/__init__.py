"""A lock on a file that tasks, loops, threads and processes share."""

from __future__ import annotations

from asyncrt.locking._flock import holder_pid
from asyncrt.locking.attempt import attempt
from asyncrt.locking.file_lock import FileLock

__all__ = ["FileLock", "attempt", "holder_pid"]
