"""A console socket's listening end: terminals arrive there, as OCI runtimes send them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Self

from asyncrt.container.terminal import Attachment, take_terminal
from asyncrt.errors import SpecInvalid, StorageFailed

if TYPE_CHECKING:
    from asyncrt.container.terminal import PathLike

_MOST_SILENT = 64  # connections that have sent nothing; one more, and the oldest is closed
_MOST_UNTAKEN = 64  # terminals that nobody asked for yet; more wait in the kernel's queue


class ConsoleSocket:
    """Receives terminals over an OCI console socket, as `console_socket=` and runc send them.

    Used as a context: the socket listens at `path`, which must be free, and is removed at its end.
    Belongs to its event loop. Who connects and says nothing holds nobody up.
    """

    def __init__(self, path: PathLike) -> None:
        """Listen at `path` once entered. Raises SpecInvalid for what is no path."""
        self.path = os.fspath(path)
        if "\0" in self.path:
            raise SpecInvalid(json_path="", why=f"a path has no NUL: {self.path!r}")
        self._listener: socket.socket | None = None
        self._listens = False
        self._silent: dict[socket.socket, None] = {}  # the oldest first
        self._arrived: asyncio.Queue[Attachment | OSError | None] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        """Listen. Raises StorageFailed when that can't be. If cancelled, nothing is left."""
        listener: socket.socket | None = None
        try:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            listener.bind(self.path)
            listener.listen()
        except BaseException as error:
            if listener is not None:
                listener.close()
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise
        self._listener = listener
        self._arrived = asyncio.Queue()
        self._listen()
        return self

    def _listen(self) -> None:
        wanted = self._listener is not None and self._arrived.qsize() < _MOST_UNTAKEN
        if wanted and not self._listens:
            assert self._listener is not None  # noqa: S101 - it is wanted
            asyncio.get_running_loop().add_reader(self._listener, self._accept)
            self._listens = True

    def _stop_listening(self) -> None:
        if self._listens and self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
        self._listens = False

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - its reader is gone before it is
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # No descriptor is left, say: whoever asks next hears it, and only then it is tried again.
            self._stop_listening()
            self._arrived.put_nowait(error)
            return
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock, self._read, sock)
        self._silent[sock] = None
        if len(self._silent) > _MOST_SILENT:
            self._drop(next(iter(self._silent)))

    def _read(self, sock: socket.socket) -> None:
        fd = take_terminal(sock)
        self._drop(sock)
        if fd is not None:
            self._arrived.put_nowait(Attachment(fd, None))
            if self._arrived.qsize() >= _MOST_UNTAKEN:
                self._stop_listening()

    def _drop(self, sock: socket.socket) -> None:
        del self._silent[sock]
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()

    async def __aexit__(self, *error: object) -> None:
        """Stop listening; what nobody received hangs up. If cancelled, it has stopped all the same."""
        if self._listener is None:
            return
        self._stop_listening()
        self._listener.close()
        self._listener = None
        for sock in list(self._silent):
            self._drop(sock)
        while not self._arrived.empty():
            left = self._arrived.get_nowait()
            if isinstance(left, Attachment):
                left.close()
        self._arrived.put_nowait(None)  # whoever waits
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        except OSError as failure:
            raise self._failed(failure) from failure

    def _failed(self, error: OSError) -> StorageFailed:
        number = errno.ENAMETOOLONG if error.errno is None else error.errno
        return StorageFailed(path=self.path, errno=number)

    async def receive(self) -> Attachment:
        """The next terminal that somebody sends, to read, write and resize.

        Connections that end without one are passed over. Raises StorageFailed when there is no
        descriptor for one. If cancelled, none is lost or left open.
        """
        found = await self._arrived.get() if self._listener is not None else None
        if found is None:
            if not self._arrived.qsize():
                self._arrived.put_nowait(None)  # for whoever waits beside us
            raise RuntimeError("the console socket isn't open: use 'async with ConsoleSocket(...)'")
        self._listen()
        if isinstance(found, OSError):
            raise self._failed(found) from found
        return found
