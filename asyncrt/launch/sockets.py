"""Listening sockets in a container's directory, however long its path."""

from __future__ import annotations

import _socket

from asyncrt import _paths


def listen(dir_fd: int, name: str, backlog: int) -> _socket.socket:
    """A non-blocking listener bound to `name` in the open directory.

    The caller's umask must keep others out.
    """
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
    try:
        listener.bind(_paths.through(dir_fd, name))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def accept(listener: _socket.socket) -> _socket.socket:
    """Whoever stands first in the queue of a non-blocking listener. Raises OSError when nobody does."""
    fd, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - as socket.accept does
    return _socket.socket(fileno=fd)
