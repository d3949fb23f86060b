"""The end of a container's written layer: its gofer, and what lies on disk."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from asyncrt import _procid
from asyncrt._threads import run_blocking
from asyncrt.errors import DestroyFailed
from asyncrt.launch import clearing
from asyncrt.sandbox import wait_gone

if TYPE_CHECKING:
    from asyncrt.state import Record


async def end_gofer(record: Record, seconds: float) -> None:
    """Kill the gofer, once nothing of the container is left, and wait, bounded, for its end.

    Raises DestroyFailed. If cancelled, it may have been killed.
    """
    gofer = record.gofer
    if gofer is None:
        return
    try:
        _procid.send(gofer, signal.SIGKILL)
        gone = await wait_gone(gofer, seconds)
    except PermissionError:
        gone = False
    if not gone:
        raise DestroyFailed(container_id=record.id, left=[f"gofer (pid {gofer.pid})"])


async def clear(record: Record) -> None:
    """Remove the directory that was made for its layer. Raises DestroyFailed.

    If cancelled, the rest is for the next time.
    """
    if record.layer is None:
        return
    try:
        await run_blocking(clearing.clear, record.layer)
    except OSError as error:
        left = f"{record.layer} ({error.strerror})"
        raise DestroyFailed(container_id=record.id, left=[left]) from error
