"""Pid files: written last of all; a reader sees the whole pid or no file (a FIFO: in place)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat

from asyncrt import _durable, _threads
from asyncrt.cli.errors import CommandFailedError

# Names that stand for a descriptor: renaming over one would break the machine for everybody.
_DESCRIPTORS = ("/proc/", "/dev/fd/", "/dev/std")


def check(path: str | None) -> None:
    """Raise CommandFailedError now if a pid file there could never be written, before anything starts."""
    if path is None:
        return
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, "", path)
        if in_place(path):
            return
        directory = os.path.dirname(os.path.abspath(path))
        os.stat(directory)
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, "", directory)
    except (OSError, ValueError) as error:
        raise _failed(path, error) from error


async def write(path: str, pid: int | None) -> None:
    """Write the pid. Of a FIFO it waits, as an open does, until there is a reader.

    Raises CommandFailedError. If cancelled while it waits for a reader, nothing was written.
    """
    if pid is None:
        raise CommandFailedError(f"can't write the pid file {path}: the process has ended already")
    data = str(pid).encode()
    try:
        if in_place(path):
            await _in_thread(path, data)
        else:
            await _threads.run_blocking(_replace, path, data)
    except (OSError, ValueError) as error:
        raise _failed(path, error) from error


def in_place(path: str) -> bool:
    """Whether renaming another file to `path` would be wrong: a FIFO, a device, a descriptor."""
    if os.path.abspath(path).startswith(_DESCRIPTORS):
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def _replace(path: str, data: bytes) -> None:
    directory, name = os.path.split(os.path.abspath(path))
    dir_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # A pid means nothing after a power loss: there is no need to sync it.
        _durable.replace(dir_fd, name, data, mode=0o644, durable=False)
    finally:
        os.close(dir_fd)


def _writein_place(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _durable.write_all(fd, data)
    finally:
        os.close(fd)


async def _in_thread(path: str, data: bytes) -> None:
    """Open and write in a thread that keeps nobody from exiting: no reader may ever come."""
    loop = asyncio.get_running_loop()
    written: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if not written.done():
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

    def told(_: None, error: BaseException | None) -> None:
        # The loop is closed when the command was ended while it waited for a reader.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, error)

    _threads.submit(lambda: _writein_place(path, data), told)
    await written


def _failed(path: str, error: OSError | ValueError) -> CommandFailedError:
    why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return CommandFailedError(f"can't write the pid file {path}: {why}")
