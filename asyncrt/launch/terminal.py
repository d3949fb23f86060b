"""A terminal for a workload: made on its side, its other end given to whoever shows it.

The slave becomes the workload's standard streams and its session's controlling terminal. The master
goes to the supervisor, or over a console socket (runc, docs/terminals.md): a stream socket that
gets one message, the terminal's name with the descriptor.
"""

from __future__ import annotations

import errno
import os
import socket
import termios

from asyncrt import _libc
from asyncrt.launch import frames
from asyncrt.launch.failure import Failure

_NAME = b"/dev/ptmx"


def open_pair(rows: int, columns: int) -> tuple[int, int]:
    """Master and slave of a new terminal of that size (0: none set). Raises Failure."""
    try:
        master, slave = os.openpty()
        if rows or columns:
            termios.tcsetwinsize(slave, (rows, columns))
    except OSError as error:
        raise Failure("process.terminal", "/dev/ptmx", error.errno or errno.EIO) from error
    except termios.error as error:
        raise Failure("process.terminal", "/dev/ptmx", int(error.args[0])) from error
    return master, slave


def take(slave: int, uid: int | None) -> None:
    """Make it the controlling terminal of our session, which has none, and the user's own.

    Raises Failure.
    """
    try:
        _libc.set_controlling_terminal(slave)
        if uid is not None:
            os.fchown(slave, uid, -1)
    except OSError as error:
        raise Failure("process.terminal", os.ttyname(slave), error.errno or errno.EIO) from error


def give(console: int, master: int) -> None:
    """Send the master over a connected console socket. Raises Failure: its other end is dead."""
    sock = socket.socket(fileno=os.dup(console))
    try:
        sock.setblocking(False)  # it is new, and so has room; one that doesn't is no console socket
        frames.send(sock, _NAME, [master])
    except OSError as error:
        raise Failure("console socket", "", error.errno or errno.EIO) from error
    finally:
        sock.close()
