"""The supervisor's clients: framed connections, and what they ask for."""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import select

from asyncrt.launch import frames, sockets
from asyncrt.launch.failure import Failure
from asyncrt.supervisor.execs import Execs, seconds
from asyncrt.supervisor.lease import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from asyncrt.supervisor.workload import Workload

_RETRY_SECONDS = 0.05  # between tries to send while the kernel has no memory for it


class Connection:
    """One client. Never blocks: what a client doesn't read is kept, up to a bound."""

    MAX_BACKLOG = 1 << 20

    def __init__(self, clients: Clients, sock: _socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.decoder = frames.Decoder()
        self.backlog = bytearray()
        self._clients = clients
        clients.loop.listen(sock.fileno(), self._ready)

    @property
    def open(self) -> bool:
        """Whether it isn't closed yet."""
        return self.sock.fileno() >= 0

    def _ready(self, events: int) -> None:
        if events & select.POLLOUT:
            self._flush()
        if not self.open or not events & ~select.POLLOUT:
            return
        try:
            data, fds = frames.receive(self.sock)
        except BlockingIOError:
            return
        except (OSError, frames.BadFrame):
            self.close()
            return
        if not data:
            self.close()
            return
        self.decoder.feed(data, fds)
        try:
            while (found := self.decoder.pop()) is not None:
                self._clients.serve(self, *found)
        except frames.BadFrame as error:
            self.send({"error": f"bad message: {error}"})
            self.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send or keep a message."""
        self.send_frame(frames.encode(message))

    def send_frame(self, frame: bytes) -> None:
        """Send or keep a frame; a client that leaves too much unread is dropped."""
        if not self.open:
            return
        waiting = bool(self.backlog)
        self.backlog += frame
        if not waiting:
            self._flush()
        if len(self.backlog) > self.MAX_BACKLOG:
            self.close()

    def _flush(self) -> None:
        if not self.open:
            return
        try:
            sent = self.sock.send(self.backlog[:65536], frames.NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if error.errno in {errno.ENOMEM, errno.ENOBUFS}:
                # It waits for an answer: one that hears nothing takes us for hung.
                self._clients.loop.after(_RETRY_SECONDS, self._flush)
            else:
                self.close()
            return
        del self.backlog[:sent]
        events = select.POLLIN | (select.POLLOUT if self.backlog else 0)
        self._clients.loop.listen(self.sock.fileno(), self._ready, events)

    def close(self) -> None:
        """Close; once."""
        if self.open:
            self._clients.loop.ignore(self.sock.fileno())
            self.decoder.close()
            self.backlog.clear()
            self.sock.close()
            self._clients.lost(self)


class Clients:
    """All connections to one container, and the execs they asked for."""

    def __init__(self, workload: Workload, control: _socket.socket) -> None:
        self.workload = workload
        self.loop = workload.loop
        self._control = control
        self.connections: set[Connection] = set()
        self.lease = Lease(workload)
        self._execs = Execs(workload)
        self.paused = False
        self._keep_spare()

    def accept(self) -> None:
        """Take a client off the queue; another user's is sent away, and one inside a sandbox."""
        try:
            sock = sockets.accept(self._control)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                self._turn_away()
            return
        if frames.peer_uid(sock) in {0, os.geteuid()} and not frames.is_from_inside(sock):
            self._connect(sock)
        else:
            sock.close()

    def _turn_away(self) -> None:
        """Take a client off the queue although there is no descriptor for it, or poll would spin.

        Where others took the spare one's place (ENFILE), the next call tries to have one again.
        """
        with contextlib.suppress(OSError):
            if self.loop.spare >= 0:
                os.close(self.loop.spare)
                self.loop.spare = -1
                sockets.accept(self._control).close()
        self._keep_spare()

    def _keep_spare(self) -> None:
        """One for all containers of the sandbox, had from the first client on."""
        with contextlib.suppress(OSError):
            if self.loop.spare < 0:
                self.loop.spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def adopt(self, sock: _socket.socket) -> Connection:
        """Serve a connection that was made elsewhere."""
        return self._connect(sock)

    def lost(self, client: Connection) -> None:
        """It is closed; what it was to hold goes after its grace."""
        self.connections.discard(client)
        self.lease.lost(client)
        self._execs.lost(client)

    def _connect(self, sock: _socket.socket) -> Connection:
        client = Connection(self, sock)
        self.connections.add(client)
        if self.workload.end.goodbye:
            client.send_frame(self.workload.end.goodbye)
        return client

    def broadcast(self, frame: bytes) -> None:
        """Tell everybody."""
        for each in list(self.connections):
            each.send_frame(frame)

    @property
    def flushed(self) -> bool:
        """Whether everybody has been sent everything."""
        return not any(each.backlog for each in self.connections)

    @property
    def exec_pids(self) -> list[int]:
        """Of the exec'd processes that aren't reaped yet."""
        return self._execs.pids

    def reaped(self, pid: int, status: int) -> bool:
        """Take note of an ended child; False when it isn't one of these."""
        return self._execs.reaped(pid, status)

    def close(self) -> None:
        """Let go of all connections, whatever they haven't been sent yet."""
        for each in list(self.connections):
            each.close()
        self._control.close()

    def serve(self, client: Connection, message: dict[str, Any], fds: list[int]) -> None:
        """Do what a message asks for, and answer it; no message does harm."""
        request = message.get("req")
        try:
            self._serve(client, message, fds)
        except Failure as failure:
            client.send({"re": request, "failed": failure.report()})
        except OSError as error:
            failed = Failure(str(message.get("op")), "", error.errno or errno.EIO)
            client.send({"re": request, "failed": failed.report()})
        except Exception as error:  # noqa: BLE001 - no message, however bad, ends a supervisor
            client.send({"re": request, "error": f"bad message: {error!r}"})
        finally:
            for fd in fds:
                os.close(fd)

    def _serve(self, client: Connection, message: dict[str, Any], fds: list[int]) -> None:
        operation = message["op"]
        request = message["req"]
        if operation == "withdraw":
            self._execs.withdraw(client, int(message["exec"]))
        elif operation == "export":
            if len(fds) != 1:
                raise ValueError("an export needs a descriptor to write to")
            if not self.workload.export(fds[0]):
                client.send({"re": request, "ended": True})
                return
        elif self.workload.end.status is not None:
            client.send({"re": request, "ended": True})
            return
        elif operation == "exec":
            if self.paused and not message.get("ignore_paused"):
                client.send({"re": request, "paused": True})
                return
            plan = message["plan"]
            count = len(fds) - len(plan.get("passed", ()))
            if count != (3 if plan.get("terminal") is None else 4):
                raise ValueError("an exec needs three streams, and for a terminal a console socket")
            self._execs.start(client, message, fds)
            return
        elif operation == "pause":
            self.workload.watch.wait_acknowledged()
            self.workload.processes.pause()
            self.paused = True
        elif operation == "resume":
            self.paused = False
            self.workload.processes.resume()
        elif operation == "lease":
            if self.lease.ended:
                client.send({"re": request, "ended": True})
                return
            self.lease.give(client, seconds(message.get("grace")))
        elif operation in {"attach", "resize"}:
            if not self.workload.serve_terminal(message, fds):
                client.send({"re": request, "unattachable": True})
                return
        elif operation == "launch":
            client.send({"re": request, **self.workload.launch(message, fds)})
            return
        elif operation in {"started", "destroyed"} and self.workload.sandbox is not None:
            self.workload.watch.hear()
            if operation == "destroyed":
                self.workload.sandbox.adjust_score(str(message.get("id", "")))
        elif operation == "end":
            self.workload.end.want()
        else:
            raise ValueError(f"unknown operation {operation!r}")
        client.send({"re": request, "ok": {}})
