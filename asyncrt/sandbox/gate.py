"""Opening a container's gate from the event loop: the client of asyncrt.launch.gate."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from asyncrt import _paths
from asyncrt.errors import StorageFailed
from asyncrt.launch import gate
from asyncrt.sandbox import unix

if TYPE_CHECKING:
    from asyncrt.launch.failure import FailureReport


class GateBusy(Exception):  # noqa: N818 - internal
    """More clients than init can keep up with."""


class NoGate(Exception):  # noqa: N818 - internal: nobody listens, init went on or went away
    """Nobody listens at the gate."""


async def open_gate(directory: str) -> FailureReport | None:
    """Tell init to go; None when its program runs, else why it couldn't be executed.

    Raises NoGate when init isn't there (any more), GateBusy when its queue is full, StorageFailed
    when it can't be asked. If cancelled, init may or may not have heard: callers that can't have
    that run it undisturbed.
    """
    try:
        return await _open(directory)
    except OSError as error:
        path = f"{directory}/{_paths.GATE}"
        raise StorageFailed(path=path, errno=error.errno or 0) from error


async def _open(directory: str) -> FailureReport | None:
    try:
        sock = unix.connect(directory, _paths.GATE)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NoGate from error
    except BlockingIOError as error:
        raise GateBusy from error
    loop = asyncio.get_running_loop()
    try:
        sock.send(gate.GO)
        said = b""
        while part := await loop.sock_recv(sock, 65536):
            said += part
    except (BrokenPipeError, ConnectionResetError) as error:
        raise NoGate from error
    finally:
        sock.close()
    if said == gate.ABOUT:
        return None
    if not said:
        raise NoGate
    report: FailureReport = json.loads(said.removeprefix(gate.ABOUT))
    return report
