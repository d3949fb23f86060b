"""The role that launches an init for a caller that supervises by itself, reports and exits.

Nothing of ours stays between the caller and init: no exit record, no control socket. Init watches
this process only until the launch is acknowledged, which the engine does once the record is saved.
"""

from __future__ import annotations

import os
import select
import signal

from asyncrt import _libc
from asyncrt.launch import frames, gate, spawn
from asyncrt.launch.failure import Failure
from asyncrt.supervisor import launching

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket


def main(peer: socket.socket, umask: int, spare: spawn.Spare) -> None:
    """Receive a launch, do it, report, wait for the acknowledgement, exit.

    If the peer closes before that, init is killed and reaped: no unrecorded init stays.
    """
    _libc.set_name("asyncrt:oneshot")
    message, fds = frames.receive_message(peer)
    dir_fd, *streams = fds
    pid, watch = spare.pid, spare.watch
    try:
        launching.begin(spare, message, dir_fd, streams, umask=umask, early=True)
    except Failure as failure:
        frames.send(peer, frames.encode({"failed": failure.report()}))
        return
    try:
        _until_ready(watch, peer)
        frames.send(peer, frames.encode({"launched": launching.identities(pid)}))
        acknowledged, _ = frames.receive_message(peer)
        if acknowledged.get("op") != "acknowledge":
            raise EOFError
        gate.uncork(watch)
    except Failure as failure:
        os.waitpid(pid, 0)
        frames.send(peer, frames.encode({"failed": failure.report()}))
    except (EOFError, OSError, frames.BadFrame):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _until_ready(watch: socket.socket, peer: socket.socket) -> None:
    poller = select.poll()
    poller.register(watch, select.POLLIN)
    poller.register(peer, select.POLLRDHUP)
    ready = {fd for fd, _ in poller.poll()}
    if watch.fileno() not in ready:
        raise EOFError
    said = watch.recv(1)
    if said != spawn.READY:
        while part := watch.recv(65536):
            said += part
        raise launching.failure_of(said)
