"""One container as its supervisor sees it: its processes, its streams, its door and who came in.

All connections to it hear of its exit, asked or not, so that connecting is subscribing and no answer
can be missed.
"""

from __future__ import annotations

import _socket
import os
import select

from asyncrt import _paths
from asyncrt.launch import namespaces
from asyncrt.supervisor.clients import Clients
from asyncrt.supervisor.end import End
from asyncrt.supervisor.init_watch import InitWatch
from asyncrt.supervisor.processes import Processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from asyncrt.launch.handover import Unpacked
    from asyncrt.supervisor.gofer import Gofer
    from asyncrt.supervisor.loop import Loop
    from asyncrt.supervisor.output import Output
    from asyncrt.supervisor.supervisor import Supervisor

FLUSH_SECONDS = 1.0  # how long a client that doesn't read may hold up our end


class Workload:
    """One container: everything that its supervisor knows of it and does for it."""

    __slots__ = (
        "_clients",
        "_control",
        "_creator",
        "_creator_listens",
        "_deadline",
        "_held",
        "_lease",
        "_leaving",
        "_output",
        "_patient",
        "dir_fd",
        "end",
        "gofer",
        "init",
        "instance",
        "loop",
        "namespaces",
        "processes",
        "sandbox",
        "score",
        "umask",
        "watch",
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
        self.end = End(self, durable=durable)
        self.watch = InitWatch(loop, watch, self._hear_creator_from_now, self._started)
        self.instance = instance.decode()
        self._creator = creator  # a descriptor: no object is made of it before it asks for anything
        self._creator_listens = False
        self.dir_fd = dir_fd
        self._control = control
        self._deadline = deadline
        self._lease = lease  # the creator's; negative: none
        self._held = held  # of the workload's streams, those that lead to us
        self._output: Output | None = None
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
        self.watch.listen()
        self.loop.listen(self._control, self._accept)

    # --- what init says

    def _hear_creator_from_now(self) -> None:
        # Init reads what comes before the acknowledgement, and ends without one. Until then our
        # end just stays open: who rolls back hears of the end of this process by it.
        self._creator_listens = True
        self.loop.listen(self._creator, self._creator_says)
        if self.sandbox is not None:
            self.sandbox.acknowledged()

    def is_acknowledged(self) -> bool:
        """Whether the creation is done, as init says or its creator."""
        return self.watch.is_acknowledged(self._creator)

    def _started(self) -> None:
        if self._deadline >= 0:
            self.loop.after(self._deadline, lambda: self.end.expire("deadline"))
        if self.sandbox is not None:
            self.sandbox.started(self)

    # --- its gofer

    def _spared(self) -> list[int]:
        """Whom of our children the end of the container isn't for."""
        return [] if self.gofer is None else [self.gofer.pid]

    def _gofer_died(self) -> None:
        if self.gofer is not None:
            self.gofer.let_go(self.loop)
            self.gofer = None
            if not self.end.wanted:
                self.end.expire("gofer died")

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
        tops = [] if self.end.status is not None else [self.init]
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
        return self.end.recorded and self.gofer is None

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self._clients is not None and self._clients.paused

    def reaped(self, pid: int, status: int) -> bool:
        """Take note of an ended child; False when it isn't one of its own."""
        if pid == self.init and self.end.status is None:
            self.end.come(status)
            return True
        if self.gofer is not None and pid == self.gofer.pid:
            self._gofer_died()
            return True
        return self._clients is not None and self._clients.reaped(pid, status)

    # --- its end

    def finish_output(self) -> None:
        """Nobody is left who would write: have all of its output on disk, and on its way."""
        if self._output is not None:
            self._output.finish()

    def tell(self, frame: bytes) -> None:
        """Send its exit to everybody."""
        if self._creator_listens:
            try:  # noqa: SIM105 - a context manager costs pages, and this is the usual end
                os.write(self._creator, frame)
            except OSError:
                pass  # it is gone, and so needs no answer
        if self._clients is not None:
            self._clients.broadcast(frame)

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
        self.watch.close()
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
        if message["instance"] != self.instance:
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
