"""A container's terminal: what is written there goes to everybody attached, and to its log.

Whoever is attached has a stream socket: our end sends all output from then on, and takes input; the
input of all goes to the terminal as it comes. Nobody attached: output is dropped, so that the
workload goes on. As long as somebody is, the fastest reader sets the pace, as a real terminal
would; who falls behind too far while others read on is let go.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import select
import stat
import termios

from asyncrt.launch import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.supervisor.log_files import LogWriter
    from asyncrt.supervisor.loop import Loop

_CHUNK = 65536
_CHUNKS = 16
_ROOM = 1 << 16  # a client with less than that to be sent has room
_MOST_BEHIND = 1 << 20


class _Attached:
    """One client's stream."""

    def __init__(self, terminal: Terminal, sock: _socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.backlog = bytearray()
        self._hears = True  # more input may come
        self._terminal = terminal
        self.listen()

    def listen(self) -> None:
        """For input unless the terminal is full, for room if something is left."""
        events = select.POLLOUT if self.backlog else 0
        if self._hears and not self._terminal.full:
            events |= select.POLLIN
        self._terminal.loop.listen(self.sock.fileno(), self._ready, events)

    def _ready(self, events: int) -> None:
        if events & (select.POLLHUP | select.POLLERR):
            self._leave()
            return
        if events & select.POLLOUT:
            self.flush()
        if events & select.POLLIN and self.sock.fileno() >= 0:
            try:
                data = self.sock.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                self._terminal.detach(self)
                return
            self._hears = bool(data)  # an end of its input isn't the end of its attention
            if data:
                self._terminal.type(data)
            self.listen()

    def send(self, data: bytes) -> None:
        """Send, or keep what doesn't go."""
        self.backlog += data
        self.flush()

    def flush(self) -> None:
        """Send what there is."""
        try:
            while self.backlog:
                sent = self.sock.send(memoryview(self.backlog)[:_CHUNK], frames.NOSIGNAL)
                del self.backlog[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._leave()
            return
        self.listen()
        self._terminal.listen()

    def _leave(self) -> None:
        """It has let go; what it typed before that counts, as far as the terminal takes it."""
        with contextlib.suppress(OSError):
            while not self._terminal.full and (data := self.sock.recv(4096)):
                self._terminal.type(data)
        self._terminal.detach(self)


class Terminal:
    """Part of the supervisor's loop."""

    def __init__(self, loop: Loop, master: int, slave: int, log: LogWriter | None) -> None:
        """Take over both ends: with the slave open here as well, no hang-up is ever seen."""
        os.set_blocking(master, False)
        self.loop = loop
        self._master = master
        self._slave = slave
        self._log = log
        self._attached: set[_Attached] = set()
        self._typed = bytearray()
        self.listen()

    @property
    def full(self) -> bool:
        """Whether the workload has to read first."""
        return bool(self._typed)

    def listen(self) -> None:
        """For output while anybody has room for it, for room while input waits."""
        pace = min((len(each.backlog) for each in self._attached), default=0)
        events = select.POLLIN if self._log is not None or pace < _ROOM else 0
        if self._typed:
            events |= select.POLLOUT
        self.loop.listen(self._master, self._ready, events)

    def _ready(self, events: int) -> None:
        if events & select.POLLOUT:
            self._write()
        if events & select.POLLIN:
            self.pump(_CHUNKS)

    def pump(self, chunks: int) -> None:
        """Hand out what was written, so many times at most."""
        for _ in range(chunks):
            try:
                data = os.read(self._master, _CHUNK)
            except OSError:
                break
            if self._log is not None:
                self._log.write(data)
            for each in list(self._attached):
                each.send(data)
                if len(each.backlog) > _MOST_BEHIND:
                    self.detach(each)
            if min((len(each.backlog) for each in self._attached), default=0) >= _ROOM:
                break
        self.listen()

    def type(self, data: bytes) -> None:
        """Input of a client's."""
        self._typed += data
        self._write()

    def _write(self) -> None:
        was_full = self.full
        try:
            while self._typed:
                del self._typed[: os.write(self._master, self._typed)]
        except BlockingIOError:
            pass
        except OSError:
            self._typed.clear()
        self.listen()
        if was_full != self.full:
            for each in list(self._attached):
                each.listen()

    def attach(self, fd: int) -> None:
        """A client, by a descriptor that stays the caller's. Raises OSError: it's no socket."""
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        self._attached.add(_Attached(self, _socket.socket(fileno=os.dup(fd))))
        self.listen()

    def detach(self, client: _Attached) -> None:
        """It has gone, or is let go."""
        if client.sock.fileno() >= 0:
            self._attached.discard(client)
            self.loop.ignore(client.sock.fileno())
            client.sock.close()
            self.listen()

    def resize(self, rows: int, columns: int) -> None:
        """The size of its window; the workload's foreground group gets SIGWINCH if it is another."""
        termios.tcsetwinsize(self._master, (rows, columns))

    @property
    def flushed(self) -> bool:
        """Whether everybody has been sent everything."""
        return not any(each.backlog for each in self._attached)

    def close(self) -> None:
        """Hang up."""
        for each in list(self._attached):
            self.detach(each)
        self.loop.ignore(self._master)
        os.close(self._master)
        os.close(self._slave)

    def finish(self) -> None:
        """All that is there, when nobody is left who would write."""
        with contextlib.suppress(OSError):
            for _ in range(2 * _CHUNKS):  # somebody outside may have it open, and write for ever
                data = os.read(self._master, _CHUNK)
                if self._log is not None:
                    self._log.write(data)
                for each in list(self._attached):
                    each.send(data)
        if self._log is not None:
            self._log.close()
