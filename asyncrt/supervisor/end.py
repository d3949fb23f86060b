"""A container's end: its time is up or its init dies, the rest is killed, that is recorded and told.

Nobody hears of it before it is written down.
"""

from __future__ import annotations

import errno
import os

from asyncrt import _csignal, _durable, _paths
from asyncrt.launch import frames
from asyncrt.supervisor.exits import ending, exit_json, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.supervisor.workload import Workload

_UNKILLABLE_SECONDS = 5.0  # how long a process in an uninterruptible sleep may hold up the answer
_RETRY_SECONDS = 0.5  # between tries to write the exit record on a full disk
_UNWRITABLE_SECONDS = 10.0  # how long waiters wait for a record that can't be written


class End:
    """That of one container, in this order: wanted, perhaps; come; settled; answered."""

    __slots__ = (
        "_durable",
        "_ending",
        "_giving_up",
        "_reason",
        "_record",
        "_retrying",
        "_workload",
        "goodbye",
        "recorded",
        "status",
        "wanted",
    )

    def __init__(self, workload: Workload, *, durable: bool) -> None:
        self.wanted = False  # by somebody who said so
        self.status: int | None = None  # of init, once reaped
        self.recorded = False
        self.goodbye = b""  # the exit as a frame, once it is recorded
        self._workload = workload
        self._durable = durable
        self._reason = ""
        self._record = b""
        self._retrying = False  # the exit record couldn't be written so far
        self._ending = False  # what outlived init is being killed
        self._giving_up = False  # an unkillable process doesn't hold up the exit record any more

    def expire(self, reason: str) -> None:
        """Kill everything: its time is up. The first reason is the one to tell."""
        if self.status is None and not self._reason:
            self._reason = reason
            self._kill()

    def want(self) -> None:
        """Kill everything; the exit record follows."""
        if self.status is None:
            self.wanted = True
            self._kill()

    def _kill(self) -> None:
        workload = self._workload
        workload.processes.kill(workload.init)
        if workload.sandbox is not None and workload.sandbox.root is workload:
            workload.sandbox.end_subs()  # now: they end while it does, and not after that
        if workload.gofer is not None:
            workload.loop.after(_UNKILLABLE_SECONDS, self._unblock)

    def _unblock(self) -> None:
        """Who may wait for its files, which nobody serves any more, is to wait no longer."""
        if self.status is None and self._workload.gofer is not None:
            self._workload.gofer.end_servers()

    def come(self, status: int) -> None:
        """Take note of init's end, that ends all of it."""
        workload = self._workload
        workload.watch.hear_all()  # what it said before its end decides the reason
        self.status = status
        code, number, reason = ending(status)
        if not workload.is_acknowledged():
            # Whatever ended it: who finds its creator dead has said so to somebody already.
            code, number, self._reason = None, None, "creation interrupted"
        elif workload.watch.failed:
            code, reason = None, "start failed"  # 127 is ours, no program ever had it
        elif self._lost_files(number):
            reason = "gofer died"
        elif workload.sandbox is not None and workload.sandbox.took_along(workload, number):
            reason = "sandbox ended"
        unowned = self._reason == "lease" and workload.watch.started_at is None
        if workload.gofer is not None and (unowned or self._reason == "creation interrupted"):
            workload.gofer.kill()  # nobody will ask for what was never begun
        kills = workload.processes.oom_kills()
        if kills and number == _csignal.SIGKILL and not self.wanted:
            reason = "oom"
        self._record = exit_json(
            workload.instance,
            code=code,
            signal=number,
            oom_killed=None if kills is None else kills > 0,
            reason=self._reason or reason,
            started_at=workload.watch.started_at,
        )

    def _lost_files(self, signal: int | None) -> bool:
        """Whether the program can have ended for want of its files, of which it hears before we do.

        A SIGKILL came from somebody else.
        """
        gofer = self._workload.gofer
        if gofer is None or self.wanted or signal == _csignal.SIGKILL:
            return False
        return gofer.serves_no_more()

    def settle(self, *, alone: bool) -> bool:
        """After init's end: see to the end of the rest, then record it; whether that was done just now.

        As at the end of a pid namespace's init, nothing of the container outlives it. Each death raises
        SIGCHLD and brings us here again. `alone`: no child is left.
        """
        if self.status is None or self.recorded:
            return False
        if not alone and self._workload.processes.kill() and not self._giving_up:
            if not self._ending:
                self._ending = True
                self._workload.loop.after(_UNKILLABLE_SECONDS, self._give_up)
            return False
        self._workload.finish_output()
        return self._write_record()

    def _give_up(self) -> None:
        self._giving_up = True
        self._workload.loop.reap()

    def _write_record(self) -> bool:
        """Write the exit record, whether it is written now; only then is anybody answered.

        A full or read-only disk is tried again, for as long as the directory is there. Meanwhile
        nobody waits for ever: after a while the answer is given, and this process stays to give it.
        """
        if self.recorded:
            return False  # a death that was seen meanwhile had us try again
        try:
            _durable.replace(
                self._workload.dir_fd,
                _paths.EXIT,
                self._record,
                durable=self._durable,
                temporary=_paths.EXIT_BEING_SAVED,
            )
        except OSError as error:
            if error.errno == errno.EISDIR:
                self._clear_place()
            if error.errno != errno.ENOENT:  # else the directory is gone, and with it all readers
                if not self._retrying:
                    self._retrying = True
                    self._workload.loop.after(_UNWRITABLE_SECONDS, self._answer_anyway)
                    self._workload.loop.after(_RETRY_SECONDS, self._retry)
                return False
        self.recorded = True
        return True

    def _clear_place(self) -> None:
        """Put a directory aside that the program has made where the record is to be; it goes with the rest."""
        fd = self._workload.dir_fd
        aside = _paths.temporary(_paths.EXIT)
        try:  # noqa: SIM105 - a context manager costs pages
            os.rename(_paths.EXIT, aside, src_dir_fd=fd, dst_dir_fd=fd)
        except OSError:
            pass  # the next try tells

    def _retry(self) -> None:
        """No death comes any more that would have the rest of the sandbox, which waits for us, go on."""
        workload = self._workload
        if self._write_record() and workload.sandbox is not None:
            workload.sandbox.tell([workload])
        if self.recorded:
            workload.loop.reap()
        else:
            workload.loop.after(_RETRY_SECONDS, self._retry)

    def _answer_anyway(self) -> None:
        self.answer()
        self._workload.loop.reap()

    def event(self, sandbox: str) -> bytes:
        """As a line of the root's events; b"" when the container's directory is gone."""
        workload = self._workload
        return line(workload.dir_fd, workload.instance, self._came_in(), self._record, sandbox)

    def _came_in(self) -> str:
        """The status that the container was in."""
        watch = self._workload.watch
        if not watch.acknowledged:
            return "creating"
        if self._workload.paused:
            return "paused"
        return "created" if watch.started_at is None else "running"

    def answer(self) -> None:
        """Tell everybody, once."""
        if not self.goodbye:
            self.goodbye = frames.raw(b'{"v":1,"event":"exit","exit":' + self._record + b"}")
            self._workload.tell(self.goodbye)
