"""The role that owns one sandbox: parent and sub-reaper of its processes, writer of its exit record.

It lives in a session of its own, survives the engine that asked for it, holds no lock, and ends
when no process is left and everybody who asked has been answered. When init is dead the rest is
killed, the exit record is written, all connections are answered, and it exits. Whoever is connected
hears of the exit, asked or not, so that connecting is subscribing and no answer can be missed.

There may be a thousand of these for months, so until a client asks for something this touches as
little as it can: each page written to is this process's own from then on.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import select
import time

from asyncrt import _csignal, _durable, _paths, clock
from asyncrt.launch import frames, handover
from asyncrt.supervisor.clients import Clients
from asyncrt.supervisor.exits import ending, exit_json, tell
from asyncrt.supervisor.processes import Processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from asyncrt.supervisor.output import Output

_UNKILLABLE_SECONDS = 5.0  # how long a process in an uninterruptible sleep may hold up the answer
_RETRY_SECONDS = 0.5  # between tries to write the exit record on a full disk
_UNWRITABLE_SECONDS = 10.0  # how long waiters wait for a record that can't be written
_FLUSH_SECONDS = 1.0  # how long a client that doesn't read may hold up our end
_HEARING_MILLISECONDS = 1000  # for an init on a busy machine to read what it was sent
_LONGEST_POLL = 2**31 - 1  # milliseconds, an int to poll(2): 24 days


class Supervisor:
    """One sandbox with one container, and the loop that waits for whatever happens to it."""

    __slots__ = (
        "_acknowledged",
        "_alone",
        "_asked",
        "_clients",
        "_control",
        "_creator",
        "_creator_listens",
        "_deadline",
        "_dir_fd",
        "_dropped",
        "_durable",
        "_ending",
        "_failed",
        "_giving_up",
        "_handlers",
        "_held",
        "_instance",
        "_lease",
        "_output",
        "_poller",
        "_reason",
        "_record",
        "_recorded",
        "_retrying",
        "_started_at",
        "_timers",
        "_wakeup",
        "_watch",
        "_watch_open",
        "goodbye",
        "init",
        "namespaces",
        "processes",
        "status",
        "umask",
    )

    def __init__(
        self,
        *,
        init: int,
        watch: _socket.socket,
        wakeup: int,
        creator: int,
        dir_fd: int,
        control: int,
        umask: int,
        durable: bool,
        deadline: float,
        lease: float,
        instance: str,
        cgroups: list[int],
        held: list[int],
        namespaces: list[int],
    ) -> None:
        self.init = init
        self.namespaces = namespaces  # init's own, where it may not be asked for them later
        self.processes = Processes(cgroups)
        self.umask = umask
        self.status: int | None = None  # of init, once reaped
        self.goodbye = b""  # the exit as a frame, once it is recorded
        self._watch = watch
        self._watch_open = True
        self._creator = creator  # a descriptor: no object is made of it before it asks for anything
        self._creator_listens = False
        self._acknowledged = False
        self._dir_fd = dir_fd
        self._control = control
        self._durable = durable
        self._deadline = deadline
        self._lease = lease  # the creator's; negative: none
        self._instance = instance
        self._held = held  # of the workload's streams, those that lead to us
        self._output: Output | None = None
        self._failed = False
        self._started_at: str | None = None
        self._reason = ""
        self._record = b""
        self._recorded = False
        self._retrying = False  # the exit record couldn't be written so far
        self._alone = False  # no child is left; no new one comes once init has ended
        self._asked = False  # somebody wanted the end
        self._ending = False  # what outlived init is being killed
        self._giving_up = False  # an unkillable process doesn't hold up the exit record any more
        self._clients: Clients | None = None
        self._poller: select.poll | None = None  # made when first waited for
        self._handlers: dict[int, tuple[Callable[[int], None], int]] = {}
        self._dropped: set[int] = set()  # descriptors that were let go of in this turn
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._wakeup = wakeup  # a byte comes for each SIGCHLD

    def rehearse(self) -> None:
        """Go through the usual end, of an init that has ended with 0 and is reaped already."""
        self._init_ended(0)
        self.run()

    # --- the loop

    def listen(self, fd: int, handler: Callable[[int], None], events: int = select.POLLIN) -> None:
        """Call handler(events) whenever the descriptor is ready; replaces an earlier handler."""
        self._handlers[fd] = handler, events
        if self._poller is not None:
            self._poller.register(fd, events)

    def ignore(self, fd: int) -> None:
        """Stop listening; a descriptor that isn't listened to is fine."""
        self._dropped.add(fd)
        if self._handlers.pop(fd, None) and self._poller is not None:
            self._poller.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call once, so many seconds from now."""
        self._timers.append((time.monotonic() + seconds, call))

    def run(self) -> None:
        """Serve until nothing is left to do."""
        if self._held:
            from asyncrt.supervisor.output import Output  # most need none, and stay smaller

            self._output = Output(self, self._dir_fd, self._held)
        self._reap()  # most often it is init's end that woke us, and then nothing else is to be done
        if not self._over():
            if self._watch_open:
                self.listen(self._watch.fileno(), self._heard)
            self.listen(self._control, self._accept)
            self._listen()
            while not self._over():
                self._turn()
        self._say_goodbye()

    def _listen(self) -> None:
        self._poller = select.poll()
        self._poller.register(self._wakeup, select.POLLIN)
        for fd, (_, events) in self._handlers.items():
            self._poller.register(fd, events)

    def _turn(self) -> None:
        """Wait for something and handle it. Children last: what was said before an exit counts."""
        timeout = None
        if self._timers:
            left = max(0.0, min(when for when, _ in self._timers) - time.monotonic())
            timeout = min(left * 1000, _LONGEST_POLL)
        children = False
        self._dropped.clear()
        assert self._poller is not None  # noqa: S101 - narrows the type
        for fd, events in self._poller.poll(timeout):
            if fd == self._wakeup:
                children = True
                continue
            # An earlier handler may have let go of it, and its number may be another's by now.
            if fd in self._handlers and fd not in self._dropped:
                self._handlers[fd][0](events)
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
            said = self._watch.recv(65536, frames.DONTWAIT)
        except OSError:
            said = b""
        if not said:
            self._watch_open = False
            self.ignore(self._watch.fileno())
        if said.startswith(handover.ACKNOWLEDGED):
            said = said[1:]
            self._hear_creator_from_now()
        if said.startswith(handover.STARTED):
            end = 1 + len(clock.stamp())
            self._started_at = said[1:end].decode()
            said = said[end:]
            if self._deadline >= 0:
                self.after(self._deadline, lambda: self.expire("deadline"))
        if said.startswith(handover.FAILED):
            self._failed = True
            self._started_at = None

    def _hear_creator_from_now(self) -> None:
        # Init reads what comes before the acknowledgement, and ends without one. Until then our
        # end just stays open: who rolls back hears of the end of this process by it.
        self._acknowledged = self._creator_listens = True
        self.listen(self._creator, self._creator_says)

    def let_init_hear(self) -> None:
        """Wait until init has passed the acknowledgement on; once stopped it can't.

        We'd be deaf to its creator. It is on its way: nobody pauses what isn't recorded yet.
        """
        poller = select.poll()
        poller.register(self._watch, select.POLLIN)
        while not self._acknowledged and self._watch_open and poller.poll(_HEARING_MILLISECONDS):
            self._heard(0)

    def _is_acknowledged(self) -> bool:
        """Whether the creator said so, also to an init that was killed before it could read it."""
        if not self._acknowledged:
            poller = select.poll()
            poller.register(self._creator, select.POLLIN)
            with contextlib.suppress(OSError):
                if poller.poll(0):
                    said = os.read(self._creator, len(frames.ACKNOWLEDGEMENT))
                    if said == frames.ACKNOWLEDGEMENT:
                        self._hear_creator_from_now()
        return self._acknowledged

    def expire(self, reason: str) -> None:
        """Kill everything: its time is up. The first reason is the one to tell."""
        if self.status is None and not self._reason:
            self._reason = reason
            self.processes.kill()

    def end(self) -> None:
        """Kill everything; the exit record follows."""
        if self.status is None:
            self._asked = True
            os.kill(self.init, _csignal.SIGKILL)  # ours and not reaped: the pid is its own
            self.processes.kill()

    # --- children

    def _reap(self) -> None:
        while not self._alone:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._alone = self.status is not None
                break
            if pid == 0:
                break
            if pid == self.init and self.status is None:
                self._init_ended(status)
            elif self._clients is not None:
                self._clients.reaped(pid, status)
        if self.status is not None and not self._recorded:
            # As the end of a pid namespace's init: nothing of the container outlives it. Each death
            # raises SIGCHLD and brings us here again.
            if not self._alone and self.processes.kill() and not self._giving_up:
                if not self._ending:
                    self._ending = True
                    self.after(_UNKILLABLE_SECONDS, self._give_up)
                return
            if self._output is not None:
                self._output.finish()
            self._write_record()

    def _init_ended(self, status: int) -> None:
        while self._watch_open:
            self._heard(0)  # what it said before its end decides the reason
        self.status = status
        code, number, reason = ending(status)
        if not self._is_acknowledged():
            reason = "creation interrupted"
        elif self._failed:
            code, reason = None, "start failed"  # 127 is ours, no program ever had it
        kills = self.processes.oom_kills()
        if kills and number == _csignal.SIGKILL and not self._asked:
            reason = "oom"
        self._record = exit_json(
            self._instance,
            code=code,
            signal=number,
            oom_killed=None if kills is None else kills > 0,
            reason=self._reason or reason,
            started_at=self._started_at,
        )

    def _give_up(self) -> None:
        self._giving_up = True
        self._reap()

    def _write_record(self) -> None:
        """Write the exit record; only then is anybody answered.

        A full or read-only disk is tried again, for as long as the directory is there. Meanwhile
        nobody waits for ever: after a while the answer is given, and this process stays to give it.
        """
        if self._recorded:
            return  # each death that was seen meanwhile had us try again
        try:
            _durable.replace(
                self._dir_fd,
                _paths.EXIT,
                self._record,
                durable=self._durable,
                temporary=_paths.EXIT_BEING_SAVED,
            )
        except OSError as error:
            if error.errno != errno.ENOENT:  # else the directory is gone, and with it all readers
                if not self._retrying:
                    self._retrying = True
                    self.after(_UNWRITABLE_SECONDS, self._answer)
                self.after(_RETRY_SECONDS, self._write_record)
                return
        else:
            try:  # noqa: SIM105 - a context manager's making touches pages that nothing else does
                tell(self._dir_fd, self._instance, self._ended_in(), self._record)
            except OSError:
                pass  # a full disk: the record is what counts, and gc compares
        self._recorded = True
        self._answer()

    def _ended_in(self) -> str:
        """The status that the container was in when it ended."""
        if not self._acknowledged:
            return "creating"
        if self._clients is not None and self._clients.paused:
            return "paused"
        return "created" if self._started_at is None else "running"

    def _answer(self) -> None:
        if self.goodbye:
            return
        self.goodbye = frames.raw(b'{"v":1,"event":"exit","exit":' + self._record + b"}")
        if self._creator_listens:
            try:  # noqa: SIM105 - a context manager costs pages, and this is the usual end
                os.write(self._creator, self.goodbye)
            except OSError:
                pass  # it is gone, and so needs no answer
        if self._clients is not None:
            self._clients.broadcast(self.goodbye)

    def _over(self) -> bool:
        return self._recorded and self._alone

    def _say_goodbye(self) -> None:
        """Nobody new can come once the name is gone; whoever came before is answered."""
        for name in (_paths.CONTROL, _paths.GATE):
            try:  # noqa: SIM105 - as above
                os.unlink(name, dir_fd=self._dir_fd)
            except OSError:
                pass  # the directory is gone already
        late = select.poll()
        late.register(self._control, select.POLLIN)
        while late.poll(0):
            self._accept(0)
        if self._clients is not None:
            if self._poller is None:
                self._listen()
            expired: list[bool] = []
            self.after(_FLUSH_SECONDS, lambda: expired.append(True))
            while not expired and not (self._clients.flushed and self._output_flushed):
                self._turn()

    @property
    def _output_flushed(self) -> bool:
        return self._output is None or self._output.flushed

    # --- clients

    def _accept(self, _: int) -> None:
        self._serve().accept()

    def _serve(self) -> Clients:
        if self._clients is None:
            self._clients = Clients(self, _socket.socket(fileno=self._control))
        return self._clients

    def serve_terminal(self, message: dict[str, Any], fds: list[int]) -> bool:
        """Attach to the container's terminal or change its size; False if it has none here."""
        return self._output is not None and self._output.serve(message, fds)

    def _creator_says(self, _: int) -> None:
        """From its first request, or its end, on the creator is a client like the others."""
        self.ignore(self._creator)
        self._creator_listens = False
        client = self._serve().adopt(_socket.socket(fileno=self._creator))
        if self._lease >= 0:
            self._serve().lease.begin(client, self._lease)
