"""What stays above an init whose caller supervises by itself: nothing, once the launch is recorded."""

from __future__ import annotations

import os
import select
import signal

from asyncrt import _libc
from asyncrt.launch import frames, gate

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket


def keep(init: int, watch: socket.socket, creator: socket.socket) -> None:
    """Wait for the acknowledgement, then exit: init goes to the caller's sub-reaper.

    Until then init is bound to this process. If the creator goes first, init is killed and reaped:
    no init stays that no record tells of.
    """
    _libc.set_name("asyncrt:oneshot")
    poller = select.poll()
    poller.register(creator, select.POLLIN)
    poller.register(watch, 0)  # its end is told unasked
    ready = {fd for fd, _ in poller.poll()}
    try:
        if creator.fileno() in ready and creator.recv(65536) == frames.ACKNOWLEDGEMENT:
            gate.uncork(watch)
            return
    except OSError:
        pass  # the creator is gone
    os.kill(init, signal.SIGKILL)
    os.waitpid(init, 0)
