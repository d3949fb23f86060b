"""The gate: what holds init back until start.

A UNIX socket in the container's directory that init itself listens on, so that opening it needs no
supervisor. A client sends GO and hears, in this order: ABOUT when init has passed the gate and goes
to execute, then end-of-file by close-on-exec when the program runs, or a failure as JSON. Clients
that send anything else, or nothing, are let go without a word and harm nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket

from asyncrt import _paths
from asyncrt.launch import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.launch.failure import Failure

GO = b"go\n"
ABOUT = b"!"
_CLIENTS = 16


def listen(dir_fd: int) -> socket.socket:
    """Bind the gate in the open directory. The caller's umask must keep others out."""
    return sockets.listen(dir_fd, _paths.GATE, _CLIENTS)


class SupervisorGone(Exception):  # noqa: N818 - the order to give up, not an error
    """The watched socket closed before the gate was opened."""


def wait_for_go(gate: socket.socket, watch: socket.socket) -> socket.socket:
    """Wait until a client says GO; returns its connection.

    `watch` is the launcher's end of a socket pair: when it closes, SupervisorGone is raised, unless
    a byte came first, which means that the launch is recorded and nobody needs to be watched.
    """
    poller = select.poll()
    poller.register(gate, select.POLLIN)
    poller.register(watch, select.POLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poller.poll():
            if fd == watch.fileno():
                if not watch.recv(1):
                    raise SupervisorGone
                poller.unregister(fd)
                continue
            if fd == gate.fileno():
                with contextlib.suppress(OSError):
                    newcomer, _ = gate.accept()
                    newcomer.setblocking(False)
                    clients[newcomer.fileno()] = newcomer
                    poller.register(newcomer, select.POLLIN)
                if len(clients) <= _CLIENTS:
                    continue
                # The one that has been silent for longest goes: a crowd of idle clients must not
                # keep out the one that has something to say.
                fd = next(iter(clients))  # noqa: PLW2901
            elif fd not in clients:
                continue
            client = clients.pop(fd)
            if _says_go(client):
                for other in clients.values():
                    other.close()
                return client
            poller.unregister(fd)
            client.close()


def _says_go(client: socket.socket) -> bool:
    # Three bytes sent in one call on a fresh UNIX stream arrive in one piece.
    try:
        return client.recv(16) == GO
    except OSError:
        return False


def announce(client: socket.socket) -> None:
    """Tell the client that what follows is the exec. A client that went away is no reason to stop."""
    with contextlib.suppress(OSError):
        client.send(ABOUT, socket.MSG_NOSIGNAL)


def refuse(client: socket.socket, failure: Failure) -> None:
    """Tell the client why the program doesn't run."""
    with contextlib.suppress(OSError):
        client.send(json.dumps(failure.report()).encode(), socket.MSG_NOSIGNAL)


def uncork(watch: socket.socket) -> None:
    """The launcher's side: the launch is recorded, init needs to watch nobody."""
    with contextlib.suppress(OSError):
        watch.send(b".", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def remove(dir_fd: int) -> None:
    """Take the gate's name away; missing is fine."""
    with contextlib.suppress(OSError):
        os.unlink(_paths.GATE, dir_fd=dir_fd)
