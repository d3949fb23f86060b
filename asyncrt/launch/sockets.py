"""Listening sockets in a container's directory, however long its path."""

from __future__ import annotations

import socket

from asyncrt import _paths


def listen(dir_fd: int, name: str, backlog: int) -> socket.socket:
    """A non-blocking listener bound to `name` in the open directory.

    The caller's umask must keep others out.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.bind(_paths.through(dir_fd, name))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener
