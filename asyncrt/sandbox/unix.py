"""Connecting to sockets below a container's directory, however long its path."""

from __future__ import annotations

import contextlib
import os
import socket

from asyncrt import _paths

_SUN_PATH = 108  # bytes with the final NUL, unix(7)


def connect(directory: str, name: str) -> socket.socket:
    """A non-blocking stream connected to `directory/name`; the caller closes it.

    Never blocks (UNIX sockets connect at once or not at all). Raises FileNotFoundError or
    ConnectionRefusedError when nobody listens, BlockingIOError when the listener's queue is full.
    """
    path = f"{directory}/{name}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if len(os.fsencode(path)) < _SUN_PATH:
            connect_to(sock, path)
        else:
            dir_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                connect_to(sock, _paths.through(dir_fd, name))
            finally:
                os.close(dir_fd)
    except BaseException:
        sock.close()
        raise
    return sock


def connect_to(sock: socket.socket, path: str) -> None:
    """Connect a non-blocking socket; PEP 475 leaves that out, which may be interrupted as well."""
    while True:
        with contextlib.suppress(InterruptedError):
            sock.connect(path)
            return
