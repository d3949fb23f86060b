"""A terminal for a workload: made on its side, its other end given to whoever shows it.

The slave becomes the workload's standard streams and its session's controlling terminal. The master
goes to the supervisor, or over a console socket (runc, docs/terminals.md): a stream socket that
gets one message, the terminal's name with the descriptor.
"""

from __future__ import annotations

import _socket
import errno
import os
import termios

from asyncrt import _libc
from asyncrt.launch import frames
from asyncrt.launch.failure import Failure, step

_NAME = b"/dev/ptmx"
_PTMX = "/dev/pts/ptmx"
_TIOCSPTLCK = 0x40045431  # ioctl_tty(2)
_TIOCGPTPEER = 0x5441


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


def open_pair_inside(root: int, rows: int, columns: int) -> tuple[int, int]:
    """The same of the terminals that are mounted inside an opened root. Raises Failure.

    By descriptor, and of a devpts: whatever an image has planted at these paths is no way to have
    something else opened or bound (CVE-2025-52565).
    """
    from asyncrt.launch import mounts

    with step("process.terminal", _PTMX):
        flags = os.O_RDWR | os.O_NOCTTY
        try:
            master = mounts.resolve(root, _PTMX, flags)
            if _libc.file_system(master) != mounts.DEVPTS:
                os.close(master)
                raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        except FileNotFoundError:
            return open_pair(rows, columns)  # no terminals in there: one of the host's
        _libc.ioctl(master, _TIOCSPTLCK, bytearray(4))
        slave = _libc.ioctl(master, _TIOCGPTPEER, flags | os.O_CLOEXEC)
        if rows or columns:
            termios.tcsetwinsize(slave, (rows, columns))
    return master, slave


def make_console(root: int, slave: int) -> None:
    """Have it at /dev/console too (config-linux.md, "Default Devices"). Raises Failure."""
    from asyncrt.launch import mounts

    with step("process.terminal", "/dev/console"):
        place = mounts.ensure(root, "/dev/console", directory=False)
        tree = mounts.clone_tree(slave, "", recursive=False)
        mounts.attach(tree, place)
        os.close(tree)
        os.close(place)


def take(slave: int, uid: int | None) -> None:
    """Make it the controlling terminal of our session, which has none, and the user's own.

    Raises Failure.
    """
    try:
        _libc.set_controlling_terminal(slave)
        if uid is not None:
            os.fchown(slave, uid, -1)
    except OSError as error:
        raise Failure("process.terminal", _name(slave), error.errno or errno.EIO) from error


def _name(slave: int) -> str:
    try:
        return os.ttyname(slave)
    except OSError:
        return _PTMX  # it is in another mount of them than ours


def give(console: int, master: int) -> None:
    """Send the master over a connected console socket. Raises Failure: its other end is dead."""
    sock = _socket.socket(fileno=os.dup(console))
    try:
        sock.setblocking(False)  # it is new, and so has room; one that doesn't is no console socket
        frames.send(sock, _NAME, [master])
    except OSError as error:
        raise Failure("console socket", "", error.errno or errno.EIO) from error
    finally:
        sock.close()
