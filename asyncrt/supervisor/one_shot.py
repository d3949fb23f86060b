"""What stays above an init whose caller supervises by itself: nothing, once the launch is recorded."""

from __future__ import annotations

import os

from asyncrt import _procid
from asyncrt.launch import handover

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket


def keep(init: int, watch: _socket.socket) -> None:
    """Wait until init heard the acknowledgement, then exit: init goes to the caller's sub-reaper.

    If the creator goes first init ends by itself and is reaped: no init stays that no record tells
    of.
    """
    _procid.set_name("asyncrt:oneshot")
    if watch.recv(1) != handover.ACKNOWLEDGED:
        os.waitpid(init, 0)
