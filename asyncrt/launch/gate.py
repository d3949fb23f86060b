"""The gate: what holds init back until start.

A UNIX socket in the container's directory that init itself listens on, so that opening it needs no
supervisor. A client sends GO and hears, in this order: ABOUT when init has passed the gate and goes
to execute, then end-of-file by close-on-exec when the program runs, or a failure as JSON. Clients
that send anything else, or nothing, are let go without a word and harm nobody.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import select

from asyncrt import _cjson, _paths
from asyncrt.launch import frames, sockets
from asyncrt.launch.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GO = b"go\n"
ABOUT = b"!"
_CLIENTS = 16
_BACKLOG = 128


def listen(dir_fd: int) -> _socket.socket:
    """Bind the gate in the open directory. The caller's umask must keep others out."""
    return sockets.listen(dir_fd, _paths.GATE, _BACKLOG)


class NobodyWants(Exception):  # noqa: N818 - the order to give up, not an error
    """The creator went before its record was saved, or the supervisor went."""


class Waiting:
    """An init at its gate: everything that may happen to it there."""

    def __init__(
        self,
        gate: _socket.socket,
        watch: _socket.socket,
        creator: _socket.socket,
        on_acknowledged: Callable[[], bool],
    ) -> None:
        """Wait at `gate`; `watch` leads to the parent.

        `on_acknowledged` is called once the creator says that its record is saved, and says whether
        the parent is to be watched from then on.
        """
        self._gate = gate
        self._watch = watch
        self._creator = creator
        self._on_acknowledged = on_acknowledged
        self._clients: dict[int, _socket.socket] = {}
        self._go: _socket.socket | None = None  # one that said it among too many to keep
        self._poller = select.poll()
        # In this order: an acknowledgement comes before the go that follows it.
        for each in (watch, creator, gate):
            self._poller.register(each, select.POLLIN)

    def for_go(self) -> _socket.socket:
        """The connection of the client that says GO. Raises NobodyWants."""
        while True:
            ready = [fd for fd, _ in self._poller.poll()]
            if self._watch.fileno() in ready:
                raise NobodyWants
            if self._creator.fileno() in ready:
                self._hear_creator()
            for fd in ready:
                if fd == self._gate.fileno():
                    self._accept()
                    if self._go is not None:
                        return self._go
                elif fd in self._clients:
                    client = self._clients.pop(fd)
                    self._poller.unregister(fd)
                    if _says_go(client):
                        return client
                    client.close()

    def _hear_creator(self) -> None:
        # No byte more than this: what follows is the supervisor's to read.
        said = self._creator.recv(len(frames.ACKNOWLEDGEMENT), frames.DONTWAIT)
        if said != frames.ACKNOWLEDGEMENT:
            raise NobodyWants
        self._poller.unregister(self._creator)
        if not self._on_acknowledged():
            self._poller.unregister(self._watch)
        self._creator.close()

    def _accept(self) -> None:
        # All that wait: a burst must not fill the queue and keep the starter out.
        with contextlib.suppress(OSError):
            while self._go is None:
                self._admit(sockets.accept(self._gate))

    def _admit(self, client: _socket.socket) -> None:
        client.setblocking(False)
        with contextlib.suppress(OSError):
            # A starter says it right after connecting: no need to be woken up once more for it.
            if client.recv(16) == GO:
                self._go = client
            else:
                client.close()
            return
        self._clients[client.fileno()] = client
        self._poller.register(client, select.POLLIN)
        if len(self._clients) > _CLIENTS:
            # The one that has been silent for longest goes, not the newest, which may be the
            # starter on its way from connecting to saying go.
            oldest = self._clients.pop(next(iter(self._clients)))
            self._poller.unregister(oldest)
            if _says_go(oldest):
                self._go = oldest
            else:
                oldest.close()


def _says_go(client: _socket.socket) -> bool:
    # Three bytes sent in one call on a fresh UNIX stream arrive in one piece.
    try:
        return client.recv(16) == GO
    except OSError:
        return False


def announce(client: _socket.socket) -> None:
    """Tell the client that what follows is the exec. A client that went away is no reason to stop.

    Raises Failure when one that is there can't be told: it would take the silence for our death.
    """
    try:
        client.send(ABOUT, frames.NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError):
        pass
    except OSError as error:
        raise Failure("gate", _paths.GATE, error.errno or errno.EIO) from error


def refuse(client: _socket.socket, failure: Failure) -> None:
    """Tell the client why the program doesn't run."""
    with contextlib.suppress(OSError):
        client.send(_cjson.dumps(failure.report()).encode(), frames.NOSIGNAL)
