"""One container as its supervisor sees it: its init, who asks about it, its end and the record of that.

All connections to it hear of its exit, asked or not, so that connecting is subscribing and no answer
can be missed; nobody hears of it before it is written down.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import select

from asyncrt import _csignal, _durable, _paths, clock
from asyncrt.launch import frames, handover, namespaces
from asyncrt.supervisor.clients import Clients
from asyncrt.supervisor.exits import ending, exit_json, line
from asyncrt.supervisor.processes import Processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from asyncrt.launch.handover import Unpacked
    from asyncrt.supervisor.gofer import Gofer
    from asyncrt.supervisor.loop import Loop
    from asyncrt.supervisor.output import Output
    from asyncrt.supervisor.supervisor import Supervisor

_UNKILLABLE_SECONDS = 5.0  # how long a process in an uninterruptible sleep may hold up the answer
_RETRY_SECONDS = 0.5  # between tries to write the exit record on a full disk
FLUSH_SECONDS = 1.0  # how long a client that doesn't read may hold up our end
_UNWRITABLE_SECONDS = 10.0  # how long waiters wait for a record that can't be written
_HEARING_MILLISECONDS = 1000  # for an init on a busy machine to read what it was sent


class Workload:
    """One container: everything that its supervisor knows of it and does for it."""

    __slots__ = (
        "_acknowledged",
        "_asked",
        "_clients",
        "_control",
        "_creator",
        "_creator_listens",
        "_deadline",
        "_durable",
        "_ending",
        "_failed",
        "_giving_up",
        "_held",
        "_instance",
        "_lease",
        "_leaving",
        "_output",
        "_patient",
        "_reason",
        "_record",
        "_retrying",
        "_started_at",
        "_watch",
        "_watch_open",
        "dir_fd",
        "gofer",
        "goodbye",
        "init",
        "loop",
        "namespaces",
        "processes",
        "recorded",
        "sandbox",
        "score",
        "status",
        "umask",
    )

    def __init__(
        self, loop: Loop, init: int, watch: _socket.socket, umask: int, handed: Unpacked
    ) -> None:
        """Of what init has handed over."""
        _, durable, deadline, lease, instance, score, fds, cgroups, opened, gofer = handed
        dir_fd, creator, control, *held = fds
        self.loop = loop
        self.sandbox: Supervisor | None = None  # set by it
        self.init = init
        self.namespaces = opened  # init's own, where it may not be asked for them later
        self.gofer: Gofer | None = None
        if gofer is not None:
            from asyncrt.supervisor.gofer import Gofer  # most have none, and stay smaller

            self.gofer = Gofer(*gofer)
        self.processes = Processes(cgroups, self._tops, self._spared)
        self.score = score  # for want of memory, as it counts for all of us
        self.umask = umask
        self.status: int | None = None  # of init, once reaped
        self.goodbye = b""  # the exit as a frame, once it is recorded
        self.recorded = False
        self._watch = watch
        self._watch_open = True
        self._creator = creator  # a descriptor: no object is made of it before it asks for anything
        self._creator_listens = False
        self._acknowledged = False
        self.dir_fd = dir_fd
        self._control = control
        self._durable = durable
        self._deadline = deadline
        self._lease = lease  # the creator's; negative: none
        self._instance = instance.decode()
        self._held = held  # of the workload's streams, those that lead to us
        self._output: Output | None = None
        self._failed = False
        self._started_at: str | None = None
        self._reason = ""
        self._record = b""
        self._retrying = False  # the exit record couldn't be written so far
        self._asked = False  # somebody wanted the end
        self._ending = False  # what outlived init is being killed
        self._giving_up = False  # an unkillable process doesn't hold up the exit record any more
        self._leaving = False
        self._patient = True  # with clients that don't read what they are sent
        self._clients: Clients | None = None

    def take_output(self) -> None:
        """Do for its streams what is ours to do; before anything else."""
        if self._held:
            from asyncrt.supervisor.output import Output  # most need none, and stay smaller

            self._output = Output(self.loop, self.dir_fd, self._held)

    def listen(self) -> None:
        """Hear its init, its clients and its gofer from now on."""
        if self.gofer is not None:
            self.gofer.listen(self.loop, self._gofer_died)
        if self._watch_open:
            self.loop.listen(self._watch.fileno(), self._heard)
        self.loop.listen(self._control, self._accept)

    # --- what init says

    def _heard(self, _: int) -> None:
        """Read once, without waiting: more comes with the next turn, its end last."""
        try:
            said = self._watch.recv(65536, frames.DONTWAIT)
        except OSError:
            said = b""
        if not said:
            self._watch_open = False
            self.loop.ignore(self._watch.fileno())
        if said.startswith(handover.ACKNOWLEDGED):
            said = said[1:]
            self._hear_creator_from_now()
        if said.startswith(handover.STARTED):
            end = 1 + len(clock.stamp())
            self._started_at = said[1:end].decode()
            said = said[end:]
            if self._deadline >= 0:
                self.loop.after(self._deadline, lambda: self.expire("deadline"))
            if self.sandbox is not None:
                self.sandbox.started(self)
        if said.startswith(handover.FAILED):
            self._failed = True
            self._started_at = None

    def _hear_creator_from_now(self) -> None:
        # Init reads what comes before the acknowledgement, and ends without one. Until then our
        # end just stays open: who rolls back hears of the end of this process by it.
        self._acknowledged = self._creator_listens = True
        self.loop.listen(self._creator, self._creator_says)
        if self.sandbox is not None:
            self.sandbox.acknowledged()

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

    def hear(self) -> None:
        """Whatever init has said by now."""
        poller = select.poll()
        poller.register(self._watch, select.POLLIN)
        while self._watch_open and poller.poll(0):
            self._heard(0)

    # --- its gofer

    def _spared(self) -> list[int]:
        """Whom of our children the end of the container isn't for."""
        return [] if self.gofer is None else [self.gofer.pid]

    def _gofer_died(self) -> None:
        if self.gofer is not None:
            self.gofer.let_go(self.loop)
            self.gofer = None
            if not self._asked:
                self.expire("gofer died")

    def export(self, fd: int) -> bool:
        """Have what was written to its layer sent there; False if nobody has that any more.

        Raises OSError.
        """
        if self.gofer is None:
            return False
        self.gofer.export(fd)
        return True

    # --- its processes

    def _tops(self) -> list[int] | None:
        """The children of this process that all of it is below; None: it is alone in its sandbox."""
        if self.sandbox is None or not self.sandbox.shared:
            return None
        tops = [] if self.status is not None else [self.init]
        return tops if self._clients is None else tops + self._clients.exec_pids

    @property
    def child_score(self) -> int | None:
        """The OOM score of a child without one of its own; None: as it has it from us."""
        return None if self.sandbox is None else self.sandbox.child_score

    def own_namespaces(self) -> list[int]:
        """Its init's, open for whoever is to share them; they stay ours. Raises OSError."""
        if not self.namespaces:
            self.namespaces = namespaces.open_all(self.init)  # ours and not reaped
        return self.namespaces

    @property
    def has_ended(self) -> bool:
        """Whether its end is recorded and nobody has what it wrote any more."""
        return self.recorded and self.gofer is None

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self._clients is not None and self._clients.paused

    # --- its end

    def expire(self, reason: str) -> None:
        """Kill everything: its time is up. The first reason is the one to tell."""
        if self.status is None and not self._reason:
            self._reason = reason
            self._kill()

    def end(self) -> None:
        """Kill everything; the exit record follows."""
        if self.status is None:
            self._asked = True
            self._kill()

    def _kill(self) -> None:
        self.processes.kill(self.init)
        if self.gofer is not None:
            self.loop.after(_UNKILLABLE_SECONDS, self._unblock)

    def _unblock(self) -> None:
        """Who may wait for its files, which nobody serves any more, is to wait no longer."""
        if self.status is None and self.gofer is not None:
            self.gofer.end_servers()

    def reaped(self, pid: int, status: int) -> bool:
        """Take note of an ended child; False when it isn't one of its own."""
        if pid == self.init and self.status is None:
            self.init_ended(status)
            return True
        if self.gofer is not None and pid == self.gofer.pid:
            self._gofer_died()
            return True
        return self._clients is not None and self._clients.reaped(pid, status)

    def init_ended(self, status: int) -> None:
        """Take note of the end that ends all of it."""
        while self._watch_open:
            self._heard(0)  # what it said before its end decides the reason
        self.status = status
        code, number, reason = ending(status)
        if not self._is_acknowledged():
            code, number, reason = None, None, "creation interrupted"  # what ended it is ours, too
            if self.gofer is not None:
                self.gofer.kill()  # nobody will ask for what was never begun
        elif self._failed:
            code, reason = None, "start failed"  # 127 is ours, no program ever had it
        elif self._lost_files(number):
            reason = "gofer died"
        elif self.sandbox is not None and self.sandbox.took_along(self, number):
            reason = "sandbox ended"
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

    def _lost_files(self, signal: int | None) -> bool:
        """Whether the program can have ended for want of its files, of which it hears before we do.

        A SIGKILL came from somebody else.
        """
        if self.gofer is None or self._asked or signal == _csignal.SIGKILL:
            return False
        return self.gofer.serves_no_more()

    def settle(self, *, alone: bool) -> bool:
        """After init's end: see to the end of the rest, then record it; whether that was done just now.

        As at the end of a pid namespace's init, nothing of the container outlives it. Each death raises
        SIGCHLD and brings us here again. `alone`: no child is left.
        """
        if self.status is None or self.recorded:
            return False
        if not alone and self.processes.kill() and not self._giving_up:
            if not self._ending:
                self._ending = True
                self.loop.after(_UNKILLABLE_SECONDS, self._give_up)
            return False
        if self._output is not None:
            self._output.finish()
        return self._write_record()

    def _give_up(self) -> None:
        self._giving_up = True
        self.loop.reap()

    def _write_record(self) -> bool:
        """Write the exit record, whether it is written now; only then is anybody answered.

        A full or read-only disk is tried again, for as long as the directory is there. Meanwhile
        nobody waits for ever: after a while the answer is given, and this process stays to give it.
        """
        if self.recorded:
            return False  # a death that was seen meanwhile had us try again
        try:
            _durable.replace(
                self.dir_fd,
                _paths.EXIT,
                self._record,
                durable=self._durable,
                temporary=_paths.EXIT_BEING_SAVED,
            )
        except OSError as error:
            if error.errno != errno.ENOENT:  # else the directory is gone, and with it all readers
                if not self._retrying:
                    self._retrying = True
                    self.loop.after(_UNWRITABLE_SECONDS, self._answer_anyway)
                    self.loop.after(_RETRY_SECONDS, self._retry)
                return False
        self.recorded = True
        return True

    def event(self, sandbox: str) -> bytes:
        """Its end as a line of the root's events; b"" when its directory is gone."""
        return line(self.dir_fd, self._instance, self._ended_in(), self._record, sandbox)

    def _retry(self) -> None:
        """No death comes any more that would have the rest of the sandbox, which waits for us, go on."""
        if self._write_record() and self.sandbox is not None:
            self.sandbox.tell([self])
        if self.recorded:
            self.loop.reap()
        else:
            self.loop.after(_RETRY_SECONDS, self._retry)

    def _answer_anyway(self) -> None:
        self.answer()
        self.loop.reap()

    def _ended_in(self) -> str:
        """The status that the container was in when it ended."""
        if not self._acknowledged:
            return "creating"
        if self.paused:
            return "paused"
        return "created" if self._started_at is None else "running"

    def answer(self) -> None:
        """Tell everybody of its end, once."""
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

    def close_door(self) -> None:
        """Nobody new can come once the name is gone; whoever came before is answered."""
        for name in (_paths.CONTROL, _paths.GATE):
            try:  # noqa: SIM105 - as above
                os.unlink(name, dir_fd=self.dir_fd)
            except OSError:
                pass  # the directory is gone already
        late = select.poll()
        late.register(self._control, select.POLLIN)
        while late.poll(0):
            self._accept(0)

    def leave(self) -> bool:
        """Let go of everything once its end is recorded and told to all; whether that is done.

        For one that isn't all of its sandbox: the descriptors would stay open.
        """
        if not self._leaving:
            self._leaving = True
            self.close_door()
            self.loop.ignore(self._control)
            self.loop.after(FLUSH_SECONDS, self._lose_patience)
        if self._patient and not self.flushed:
            return False
        if self._clients is not None:
            self._clients.close()
        else:
            os.close(self._control)
        if self._output is not None:
            self._output.close()
        self.loop.ignore(self._watch.fileno())
        self._watch.close()
        if self._creator >= 0:
            self.loop.ignore(self._creator)
        for fd in (self._creator, self.dir_fd, *self.namespaces):
            if fd >= 0:
                os.close(fd)
        self.processes.close()
        return True

    def _lose_patience(self) -> None:
        self._patient = False

    @property
    def flushed(self) -> bool:
        """Whether everybody has been sent everything."""
        if self._output is not None and not self._output.flushed:
            return False
        return self._clients is None or self._clients.flushed

    # --- clients

    def _accept(self, _: int) -> None:
        self._serve().accept()

    def _serve(self) -> Clients:
        if self._clients is None:
            self._clients = Clients(self, _socket.socket(fileno=self._control))
        return self._clients

    def launch(self, message: dict[str, Any], fds: list[int]) -> dict[str, object]:
        """Have a container created beside it; the answer to who asks. Raises OSError."""
        if self.sandbox is None or self.sandbox.root is not self:
            raise ValueError("only a sandbox's root container has others beside it")
        if message["instance"] != self._instance:
            return {"replaced": True}
        if self.paused:
            return {"paused": True}
        (peer,) = fds
        try:
            self.own_namespaces()
        except (FileNotFoundError, ProcessLookupError):
            return {"ended": True}  # its init has, and is about to be reaped
        self.sandbox.launch(peer)
        return {"ok": {}}

    def serve_terminal(self, message: dict[str, Any], fds: list[int]) -> bool:
        """Attach to the container's terminal or change its size; False if it has none here."""
        return self._output is not None and self._output.serve(message, fds)

    def _creator_says(self, _: int) -> None:
        """From its first request, or its end, on the creator is a client like the others."""
        self.loop.ignore(self._creator)
        self._creator_listens = False
        client = self._serve().adopt(_socket.socket(fileno=self._creator))
        self._creator = -1
        if self._lease >= 0:
            self._serve().lease.begin(client, self._lease)
