"""Listening sockets in a container's directory, however long its path."""

from __future__ import annotations

import socket

from asyncrt import _paths

# Plain numbers: arithmetic on the socket module's enumerations costs a fresh child pages.
_UNIX = int(socket.AF_UNIX)
_STREAM = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def listen(dir_fd: int, name: str, backlog: int) -> socket.socket:
    """A non-blocking listener bound to `name` in the open directory.

    The caller's umask must keep others out.
    """
    listener = socket.socket(_UNIX, _STREAM)
    try:
        listener.bind(_paths.through(dir_fd, name))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener
