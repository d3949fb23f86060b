"""The role that owns one sandbox: parent and sub-reaper of its processes, writer of its exit record.

It lives in a session of its own, survives the engine that asked for it, holds no lock, and ends
when no process is left and everybody who asked has been answered. When init is dead the rest is
killed, the exit record is written, all connections are answered, and it exits. Whoever is connected
hears of the exit, asked or not, so that connecting is subscribing and no answer can be missed.

There may be a thousand of these for months, so until a client asks for something this touches as
little as it can: each page written to is this process's own from then on.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time

from asyncrt import _durable, _paths, clock
from asyncrt.launch import frames, handover, tree
from asyncrt.supervisor.exits import ending, exit_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt.supervisor.clients import Clients

_UNKILLABLE_SECONDS = 5.0  # how long a process in an uninterruptible sleep may hold up the answer
_RETRY_SECONDS = 0.5  # between tries to write the exit record on a full disk
_FLUSH_SECONDS = 1.0  # how long a client that doesn't read may hold up our end
_LONGEST_POLL = 2**31 - 1  # milliseconds, an int to poll(2): 24 days
_WORTH_RETRYING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Supervisor:
    """One sandbox with one container, and the loop that waits for whatever happens to it."""

    def __init__(
        self,
        *,
        init: int,
        watch: socket.socket,
        wakeup: int,
        creator: socket.socket,
        dir_fd: int,
        control: socket.socket,
        umask: int,
        durable: bool,
        deadline: float,
        instance: str,
    ) -> None:
        self.init = init
        self.umask = umask
        self.status: int | None = None  # of init, once reaped
        self.goodbye = b""  # the exit as a frame, once it is recorded
        self._watch = watch
        self._creator = creator
        self._acknowledged = False
        self._dir_fd = dir_fd
        self._control = control
        self._durable = durable
        self._deadline = deadline
        self._instance = instance
        self._failed = False
        self._started_at: str | None = None
        self._reason = ""
        self._record = b""
        self._giving_up = False  # an unkillable process doesn't hold up the exit record any more
        self._clients: Clients | None = None
        self._poller = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._wakeup = wakeup  # a byte comes for each SIGCHLD
        self._poller.register(self._wakeup, select.POLLIN)
        self.listen(watch.fileno(), self._heard)
        self.listen(control.fileno(), self._accept)

    # --- the loop

    def listen(
        self, fd: int, handler: Callable[[int], None], events: int = select.POLLIN
    ) -> None:
        """Call handler(events) whenever the descriptor is ready; replaces an earlier handler."""
        self._handlers[fd] = handler
        self._poller.register(fd, events)

    def ignore(self, fd: int) -> None:
        """Stop listening; a descriptor that isn't listened to is fine."""
        if self._handlers.pop(fd, None):
            self._poller.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call once, so many seconds from now."""
        self._timers.append((time.monotonic() + seconds, call))

    def run(self) -> None:
        """Serve until nothing is left to do."""
        while not self._over():
            self._turn()
        self._say_goodbye()

    def _turn(self) -> None:
        """Wait for something and handle it. Children last: what was said before an exit counts."""
        timeout = None
        if self._timers:
            left = max(0.0, min(when for when, _ in self._timers) - time.monotonic())
            timeout = min(left * 1000, _LONGEST_POLL)
        children = False
        for fd, events in self._poller.poll(timeout):
            if fd == self._wakeup:
                children = True
                continue
            handler = self._handlers.get(fd)  # an earlier handler may have taken it away
            if handler:
                handler(events)
        if children:
            os.read(self._wakeup, 65536)
            self._reap()
        if self._timers:
            now = time.monotonic()
            due = [each for each in self._timers if each[0] <= now]
            self._timers = [each for each in self._timers if each[0] > now]
            for _, call in due:
                call()

    # --- what init says

    def _heard(self, _: int) -> None:
        """Read once, without waiting: more comes with the next turn, its end last."""
        try:
            said = self._watch.recv(65536, socket.MSG_DONTWAIT)
        except OSError:
            said = b""
        if not said:
            self.ignore(self._watch.fileno())
        if said.startswith(handover.ACKNOWLEDGED):
            self._acknowledged = True
            said = said[1:]
            # Init reads what comes before the acknowledgement, and ends without one. Until then our
            # end just stays open: who rolls back hears of the end of this process by it.
            self.listen(self._creator.fileno(), self._creator_says)
        if said.startswith(handover.STARTED):
            end = 1 + len(clock.stamp())
            self._started_at = said[1:end].decode()
            said = said[end:]
            if self._deadline >= 0:
                self.after(self._deadline, self._expire)
        if said.startswith(handover.FAILED):
            self._failed = True
            self._started_at = None

    def _expire(self) -> None:
        if self.status is None:
            self._reason = "deadline"
            tree.kill(os.getpid())

    def end(self) -> None:
        """Kill everything; the exit record follows."""
        if self.status is None:
            os.kill(self.init, signal.SIGKILL)  # ours and not reaped: the pid is its own
            tree.kill(os.getpid())

    # --- children

    def _reap(self) -> None:
        alone = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                alone = True
                break
            if pid == 0:
                break
            if pid == self.init and self.status is None:
                self._init_ended(status)
            elif self._clients is not None:
                self._clients.reaped(pid, status)
        if self.status is not None and not self.goodbye:
            # As the end of a pid namespace's init: nothing of the container outlives it. Each death
            # raises SIGCHLD and brings us here again.
            if not alone and tree.kill(os.getpid()) and not self._giving_up:
                return
            self._write_record()

    def _init_ended(self, status: int) -> None:
        while self._watch.fileno() in self._handlers:
            self._heard(0)  # what it said before its end decides the reason
        self.status = status
        code, number, reason = ending(status)
        if not self._acknowledged:
            reason = "creation interrupted"
        elif self._failed:
            code, reason = None, "start failed"  # 127 is ours, no program ever had it
        self._record = exit_json(
            self._instance,
            code=code,
            signal=number,
            reason=self._reason or reason,
            started_at=self._started_at,
        )
        self.after(_UNKILLABLE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._giving_up = True
        self._reap()

    def _write_record(self) -> None:
        """Write the exit record; only then is anybody answered. A full disk is tried again."""
        try:
            _durable.replace(self._dir_fd, _paths.EXIT, self._record, durable=self._durable)
        except OSError as error:
            if error.errno in _WORTH_RETRYING:
                self.after(_RETRY_SECONDS, self._write_record)
                return
            if error.errno != errno.ENOENT:  # else the directory is gone, and with it all readers
                raise
        self.goodbye = frames.raw(b'{"v":1,"event":"exit","exit":' + self._record + b"}")
        if self._creator.fileno() in self._handlers:
            _send(self._creator, self.goodbye)
        if self._clients is not None:
            self._clients.broadcast(self.goodbye)

    def _over(self) -> bool:
        if not self.goodbye:
            return False
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return False

    def _say_goodbye(self) -> None:
        """Nobody new can come once the name is gone; whoever came before is answered."""
        for name in (_paths.CONTROL, _paths.GATE):
            try:
                os.unlink(name, dir_fd=self._dir_fd)
            except OSError:
                pass
        try:
            while True:
                late, _ = self._control.accept()
                if frames.peer_uid(late) in {0, os.geteuid()}:
                    _send(late, self.goodbye)
        except OSError:
            pass
        if self._clients is not None:
            expired: list[bool] = []
            self.after(_FLUSH_SECONDS, lambda: expired.append(True))
            while not expired and not self._clients.flushed:
                self._turn()

    # --- clients

    def _accept(self, _: int) -> None:
        self._serve().accept(self._control)

    def _serve(self) -> Clients:
        if self._clients is None:
            from asyncrt.supervisor.clients import Clients  # noqa: PLC0415 - loaded, but not run yet

            self._clients = Clients(self)
        return self._clients

    def _creator_says(self, _: int) -> None:
        """From its first request on the creator is a client like the others."""
        self.ignore(self._creator.fileno())
        self._serve().adopt(self._creator)


def _send(sock: socket.socket, frame: bytes) -> None:
    """Send without waiting, or not at all: a fresh connection has room for one frame."""
    try:
        sock.send(frame, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        pass

