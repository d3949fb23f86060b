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
    from typing import Any


def begin(
    spare: spawn.Spare,
    message: dict[str, Any],
    dir_fd: int,
    streams: list[int],
    *,
    umask: int,
    early: bool,
) -> None:
    """Make the spare init the container's; its watch socket tells how it gets on.

    Closes the streams, which are init's from here on. Raises Failure.
    """
    orders = {
        "plan": message["plan"],
        "hooks": message["hooks"],
        "state": message["state"],
        "umask": umask,
        "early": early,
    }
    try:
        door = gate.listen(dir_fd)
        try:
            spawn.give_orders(spare, orders, streams, door)
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
