"""From a launch message to an init on its way to its gate: shared by supervisor and one-shot."""

from __future__ import annotations

import errno
import json
import os

from asyncrt import _procid
from asyncrt.launch import gate, spawn
from asyncrt.launch.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any


def begin(
    message: dict[str, Any], dir_fd: int, streams: list[int], *, umask: int, early: bool
) -> tuple[int, socket.socket]:
    """Fork init; returns its pid and our end of its watch socket, which tells how it gets on.

    Closes the streams, which are init's from here on. Raises Failure.
    """
    options = spawn.InitOptions(
        umask=umask, hooks=message["hooks"], state=message["state"].encode(), early=early
    )
    try:
        door = gate.listen(dir_fd)
        try:
            return spawn.init(message["plan"], streams, door, options)
        finally:
            door.close()
    except OSError as error:
        raise Failure("launch", "", error.errno or errno.EIO) from error
    finally:
        for fd in streams:
            os.close(fd)


def failure_of(said: bytes) -> Failure:
    """The failure that an init's last words report; silence means it was killed."""
    try:
        report = json.loads(said[1:])
        return Failure(report["what"], report["path"], report["errno"], hook=report["hook"])
    except (ValueError, KeyError, TypeError):
        return Failure("init", "killed before it stood at its gate", errno.ECHILD)


def identities(init: int) -> dict[str, Any]:
    """Who init and this process are, for the record."""
    return {"init": _procid.facts(init), "launcher": _procid.facts(os.getpid())}
