"""The role that owns one sandbox: parent and sub-reaper of its processes, writer of its exit records.

It lives in a session of its own, survives the engine that asked for it, holds no lock, and ends
when no process is left and everybody who asked has been answered. When the root container's init is
dead the rest is killed, the exit records are written, all connections are answered, and it exits.

There may be a thousand of these for months, so until a client asks for something this touches as
little as it can: each page written to is this process's own from then on.

Containers that are created beside the root are children of ours too, forked here and told from each
other by their cgroups or their pid namespaces. Each has its own control socket and its own end; that
of the root container is the end of all.
"""

from __future__ import annotations

import _socket
import os

from asyncrt import _csignal, _events, _procid
from asyncrt.launch import devices, frames, handover, init, process
from asyncrt.supervisor.exits import id_of
from asyncrt.supervisor.scores import Scores
from asyncrt.supervisor.workload import FLUSH_SECONDS, Workload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.supervisor.loop import Loop


_SPARE_SECONDS = 10.0  # how long one is kept for a next container that may never come


class _Birth:
    """An init that was forked for a container and hasn't said yet that it is one."""

    __slots__ = ("pid", "requests", "room", "watch")

    def __init__(self, pid: int, watch: _socket.socket, requests: _socket.socket) -> None:
        self.pid = pid  # 0 once it is reaped
        self.watch = watch
        self.requests = requests  # takes a creator's socket, while it is a spare
        self.room: list[int] = []  # as many descriptors as it may hand over

    def make_room(self) -> None:
        """See to it that what it hands over can be taken. Raises OSError where it couldn't be."""
        try:
            while len(self.room) < handover.MOST_FDS:
                self.room.append(os.dup(self.watch.fileno()))
        except OSError:
            self.give_room()
            raise

    def give_room(self) -> None:
        for fd in self.room:
            os.close(fd)
        self.room = []


class Supervisor:
    """One sandbox: its containers, and the children of this process."""

    __slots__ = (
        "_alone",
        "_births",
        "_loop",
        "_null",
        "_scores",
        "_spare",
        "_subs",
        "root",
        "shared",
    )

    def __init__(self, loop: Loop, root: Workload) -> None:
        self.root = root
        self.shared = False  # whether there ever was another container
        self._loop = loop
        self._subs: list[Workload] = []
        self._births: list[_Birth] = []
        self._spare: _Birth | None = None
        self._null: int | None = None  # a mount that inits open /dev/null through, see devices
        self._scores: Scores | None = None
        self._alone = False  # no child is left; no new one comes once the root's init has ended
        root.sandbox = self
        loop.reap = self._reap

    def run(self) -> None:
        """Serve until nothing is left to do."""
        root = self.root
        root.take_output()
        self._reap()  # most often it is init's end that woke us, and then nothing else is to be done
        if not self._over():
            root.listen()
            while not self._over():
                self._let_go()
                self._loop.turn()
        root.close_door()
        for each in self._subs:
            each.close_door()
        if not self._flushed():
            expired: list[bool] = []
            self._loop.after(FLUSH_SECONDS, lambda: expired.append(True))
            while not (expired or self._flushed()):
                self._loop.turn()

    def _over(self) -> bool:
        """Whether all have ended; those of whom that was told just now go with us."""
        if not self.root.end.recorded or not self._alone:
            return False
        return all(each.has_ended for each in self._subs)

    def _flushed(self) -> bool:
        return self.root.flushed and all(each.flushed for each in self._subs)

    # --- containers beside the root

    def launch(self, peer: int) -> None:
        """Have an init for whoever has the other end of that socket. Raises OSError.

        What it is to become, and why it couldn't, it hears and says there, see asyncrt.launch.init.
        """
        process.raise_files()
        birth = self._spare = self._spare or self._fork()
        birth.make_room()
        self._spare = None
        self.shared = True
        self._births.append(birth)
        self._loop.listen(birth.watch.fileno(), lambda _: self._hear(birth, last=True))
        try:  # noqa: SIM105 - a context manager costs pages
            frames.send(birth.requests, frames.SUPERVISED, [peer])
        except (BrokenPipeError, ConnectionResetError):
            pass  # somebody has killed it, which its creator hears
        birth.requests.close()

    def _fork(self) -> _Birth:
        opened = self.root.own_namespaces()
        score, above = self._keep_scores().original, os.getpid()
        if self._null is None:
            self._null = devices.guarded_null()
        pairs = _socket.socketpair(), _socket.socketpair()
        (watch, theirs), (requests, asked) = pairs
        try:
            pid = os.fork()
            if pid == 0:
                umask = self.root.umask
                init.live_beside(
                    asked.fileno(), above, theirs.fileno(), umask, score, opened, self._null
                )
        except OSError:
            watch.close()
            requests.close()
            raise
        finally:
            theirs.close()
            asked.close()
        return _Birth(pid, watch, requests)

    def acknowledged(self) -> None:
        """A creation is done: have an init ready for the next, as in a fork server, for a while.

        The fork, and what a fresh child does first, are then done while nobody waits for them.
        """
        if not self.shared or self._spare is not None or self.root.end.status is not None:
            return
        try:
            spare = self._spare = self._fork()
        except OSError:
            return
        self._loop.after(_SPARE_SECONDS, lambda: self._end_spare(spare))

    def _end_spare(self, spare: _Birth | None) -> None:
        if spare is not None and spare is self._spare:
            self._spare = None
            spare.requests.close()
            spare.watch.close()

    def _hear(self, birth: _Birth, *, last: bool = False) -> None:
        """It is an init now, or, if there was something to hear and isn't, none will come of it."""
        birth.give_room()
        handed = handover.take(birth.watch)
        if handed is None:
            if last:
                self._forget(birth)
                birth.watch.close()
            else:
                birth.make_room()  # that was there just now
            return
        self._forget(birth)
        made = handover.pid_of(handed)
        sub = Workload(self._loop, made, birth.watch, self.root.umask, handover.unpack(handed))
        sub.sandbox = self
        self._keep_scores().add(id_of(sub.dir_fd), sub.score)
        self._subs.append(sub)
        sub.take_output()
        sub.listen()

    def _hear_all(self) -> None:
        """Whose creation is done has said so: it counts before what its creator says next."""
        for birth in list(self._births):
            self._hear(birth)

    def _forget(self, birth: _Birth) -> None:
        birth.give_room()
        self._births.remove(birth)
        self._loop.ignore(birth.watch.fileno())

    def _let_go(self) -> None:
        """Of containers whose end is told to all.

        At the end of all of us that comes last, when there may be no need any more: while others die,
        whoever waits for these comes first.
        """
        if self.root.end.status is not None and any(each.end.status is None for each in self._subs):
            return
        for each in list(self._subs):
            if each.has_ended and each.leave():
                self._subs.remove(each)

    def end_subs(self) -> None:
        """End all beside the root, which is ending or has ended. May be repeated."""
        if not self.shared:
            return
        self._end_spare(self._spare)
        for birth in list(self._births):
            # Whoever has handed over is a container, that its creator may call created by now; whoever
            # hasn't can't any more, and ends for want of us without having said that it is one.
            birth.watch.shutdown(_socket.SHUT_RD)
            self._hear(birth, last=True)
            if birth.pid:
                os.kill(birth.pid, _csignal.SIGKILL)
        for each in self._subs:
            each.end.expire("sandbox ended")

    # --- children

    def _reap(self) -> None:
        root = self.root
        while not self._alone:
            try:
                first = self._first_ended()
                pid, status = os.waitpid(first, os.WNOHANG) if first else (0, 0)
            except ChildProcessError:
                self._alone = root.end.status is not None
                break
            if pid == 0:
                break
            self._reaped(pid, status)
        if root.end.status is not None:
            self.end_subs()
        ended = [each for each in self._subs if each.end.settle(alone=self._alone)]
        if ended:
            self.tell(ended)
        answered = all(each.end.goodbye for each in self._subs)  # recorded, or answered without
        if answered and root.end.settle(alone=self._alone):
            self.tell([root])

    def tell(self, ended: list[Workload]) -> None:
        """Append the ends of these, which are recorded, to the root's events, then answer all who ask.

        What can't be appended isn't retried: the record is what counts, and whoever compares it with the
        log adds what is missing.
        """
        sandbox = id_of(self.root.dir_fd) if self._subs else ""
        lines, directory = b"", -1
        for each in ended:
            event = each.end.event(sandbox)
            if event:
                lines, directory = lines + event, each.dir_fd
        try:
            if lines:
                _events.append(directory, lines, below="../")
        except OSError:
            pass  # a full disk
        for each in ended:
            each.end.answer()

    def _first_ended(self) -> int:
        """Whom to reap, -1 for any, 0 for nobody. Who has ended has said before what it is: that is heard first."""
        if not self._births:
            return -1
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        self._hear_all()
        return 0 if found is None else found.si_pid

    def _reaped(self, pid: int, status: int) -> None:
        if self.root.reaped(pid, status):
            return
        for each in self._subs:
            if each.reaped(pid, status):
                return
        for birth in self._births:
            if birth.pid == pid:
                birth.pid = 0
        if self._spare is not None and self._spare.pid == pid:
            self._end_spare(self._spare)

    def took_along(self, sub: Workload, signal: int | None) -> bool:
        """Whether that ended because the root did, whose pid namespace it is in.

        The kernel kills all in there first, and has the root's init reaped when these are
        (pid_namespaces(7)).
        """
        if sub is self.root or signal != _csignal.SIGKILL or self.root.end.status is not None:
            return False
        found = _procid.stat(self.root.init)
        return found is not None and bool(found.flags & _procid.PF_EXITING)

    # --- want of memory

    def _keep_scores(self) -> Scores:
        if self._scores is None:
            self._scores = Scores(self.root.dir_fd, self.root.score)
        return self._scores

    @property
    def child_score(self) -> int | None:
        """What a child without a score of its own is to have; None: what it has from us."""
        return None if self._scores is None else self._scores.original

    def started(self, workload: Workload) -> None:
        """That container's program runs."""
        if self.shared or workload.score != handover.NO_SCORE:
            self._hear_all()
            self._keep_scores().started()

    def adjust_score(self, gone: str) -> None:
        """That container is gone from its sandbox; "": one of which an older engine says no more."""
        if self._scores is not None:
            self._hear_all()
            self._scores.destroyed(gone)
