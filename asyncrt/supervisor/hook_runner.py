"""The role that runs one hook for an engine, so that a hook never outlives who asked for it."""

from __future__ import annotations

import os

from asyncrt import _libc
from asyncrt.launch import frames
from asyncrt.launch import hook as hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from asyncrt.launch.spawn import Spare


def main(peer: socket.socket, umask: int, spare: Spare) -> None:
    """Receive one hook, run it, send the result; an end-of-file meanwhile kills the hook's group."""
    _libc.set_name("asyncrt:hook")
    spare.watch.close()  # no init is wanted here: it ends
    os.umask(umask)
    message, fds = frames.receive_message(peer)
    for fd in fds:
        os.close(fd)
    state = message["state"].encode()
    why = hooks.run(message["hook"], state, abandon=peer.fileno())
    frames.send(peer, frames.encode({"why": why}))
