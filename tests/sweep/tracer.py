"""Follow a tree of processes from call to call, and kill one or fail a call at a chosen point.

A point is (who, call, nth): the n-th time that this process comes to this call since the verb began.
Who is told by birth, "engine", "fork server", "supervisor 2", "init 2", so that the same process of
another run has the same name. A process killed at the entry of a call never makes it: a tracee with
a fatal signal pending skips the call that it was stopped before (ptrace(2), and a test).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from asyncrt import _procid
from tests.helpers import reality
from tests.sweep import calls, ptrace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_QUIET_SECONDS = 0.04  # nobody came to a call for so long: all are waiting
_GETSID = 124
BEGIN, END = 0x7E57_0001, 0x7E57_0002  # getsid of these pids: the verb begins, has ended

_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


def mark(number: int) -> None:
    """Tell the tracer, by a call that does nothing, that the verb begins or has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.getsid(number)


class Point(NamedTuple):
    """One mutating call of one process; `comm` is what it called itself then.

    `to` is "pipe" for a write to one, or to a socket or terminal, which no disk can fail.
    """

    who: str
    call: str
    nth: int
    comm: str = ""
    to: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes it the same in another run."""
        return self.who, self.call, self.nth

    def __str__(self) -> str:
        return f"{self.who} ({self.comm}): {self.call} #{self.nth}"


def _peek(tid: int, address: int) -> int:
    with open(f"/proc/{tid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return int.from_bytes(memory.read(8), "little")


def _is_pipe(tid: int, fd: int) -> bool:
    try:
        return os.readlink(f"/proc/{tid}/fd/{fd}").startswith(("pipe:", "socket:", "/dev/pt"))
    except OSError:
        return False


class _Process:
    """One traced thread group."""

    def __init__(self, pid: int, who: str) -> None:
        self.pid = pid
        self.who = who
        self.children = 0
        self.counts: Counter[str] = Counter()


class Tracer:
    """Traces one tree, from `attach` until nobody is traced any more."""

    def __init__(
        self,
        is_ours: Callable[[int], bool],
        name_child: Callable[[str, int], str],
        name_program: Callable[[int, str], str] = lambda _, who: who,
    ) -> None:
        """Nobody is traced yet.

        `is_ours` says of a process that executed a program whether it is still to be traced,
        `name_program` how it is called from then on, `name_child` how the n-th child of a process
        of that name is.
        """
        self._is_ours = is_ours
        self._name_child = name_child
        self._name_program = name_program
        self._first = 0
        self._processes: dict[int, _Process] = {}
        self._threads: dict[int, int] = {}  # by thread: its process
        self._unborn: dict[int, int] = {}  # stopped, but its parent hasn't told of it: its status
        self._released: set[int] = set()
        self._failing: set[int] = set()
        self._letting_go = False
        self._counting = False
        self._target: tuple[str, str, int] | None = None
        self._errno = 0
        self.points: list[Point] = []
        self.hit: Point | None = None
        self.begun = self.ended = False

    def attach(self, pid: int, who: str) -> None:
        """Trace a process, all its threads, and all that it will fork."""
        self._first = self._first or pid
        self._processes[pid] = _Process(pid, who)
        for name in os.listdir(f"/proc/{pid}/task"):
            tid = int(name)
            ptrace.seize(tid)
            self._threads[tid] = pid
            ptrace.interrupt(tid)

    def attach_below(self, pid: int, who: str) -> None:
        """As `attach`, and everything of ours that descends from it already, oldest first."""
        self.attach(pid, who)
        for each in sorted(reality.below(pid), key=lambda seen: seen.pid):
            parent = self._processes.get(each.ppid)
            if parent is not None:
                name = self._name(parent)
                if self._is_ours(each.pid):
                    self.attach(each.pid, name)

    def aim(self, target: tuple[str, str, int], number: int = 0) -> None:
        """Kill whoever comes to this point or, given an errno, fail its call."""
        self._target = target
        self._errno = number

    def run(self, seconds: float) -> bool:
        """Follow until the aim is hit, or the verb has ended and all are quiet; False: neither."""
        deadline = time.monotonic() + seconds
        while self._threads or self._unborn:
            try:
                tid, status = os.waitpid(-1, os.WNOHANG | ptrace.WALL)
            except ChildProcessError:
                break
            if tid:
                self._stopped(tid, status)
                if self.hit is not None and not self._failing and not self._letting_go:
                    self._let_go()
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                break
            quiet = signal.sigtimedwait([signal.SIGCHLD], min(left, _QUIET_SECONDS)) is None
            if quiet and self.ended and not self._letting_go and self._all_wait():
                self._let_go()
        return not self._threads

    def _all_wait(self) -> bool:
        stats = [_procid.stat(tid) for tid in self._threads]
        return all(each is None or each.state in "SZtT" for each in stats)

    def let_go(self, seconds: float) -> None:
        """Detach from everybody, e.g. after a run that took too long."""
        self.ended = True
        self._let_go()
        self.run(seconds)

    def _let_go(self) -> None:
        self._letting_go = True
        self._release_unborn()
        for tid in list(self._threads):
            with contextlib.suppress(OSError):
                ptrace.interrupt(tid)

    # --- what happens to tracees

    def _stopped(self, tid: int, status: int) -> None:
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            self._gone(tid)
            return
        if tid not in self._threads:
            self._unborn[tid] = status
            if self._letting_go:
                self._release_unborn()
            return
        # One that is killed while it is stopped is gone; its end is told as well.
        with contextlib.suppress(ProcessLookupError):
            self._handle(tid, status)

    def _release_unborn(self) -> None:
        # Its parent may be dead and never tell.
        for tid in list(self._unborn):
            del self._unborn[tid]
            self._released.add(tid)
            with contextlib.suppress(ProcessLookupError):
                ptrace.detach(tid)

    def _gone(self, tid: int) -> None:
        self.ended = self.ended or tid == self._first
        self._unborn.pop(tid, None)
        self._failing.discard(tid)
        self._threads.pop(tid, None)

    def _handle(self, tid: int, status: int) -> None:
        event, number = status >> 16, os.WSTOPSIG(status)
        if event in {ptrace.EVENT_FORK, ptrace.EVENT_VFORK, ptrace.EVENT_CLONE}:
            self._born(tid, ptrace.message(tid))
        elif event == ptrace.EVENT_EXEC:
            self._executed(tid)
            if tid not in self._threads:
                return
        elif event == ptrace.EVENT_STOP:
            if number in _STOPS and not self._letting_go:
                ptrace.listen(tid)
                return
        elif number == signal.SIGTRAP | 0x80:
            self._at_call(tid)
        elif event == 0:
            self._go_on(tid, number)
            return
        self._go_on(tid)

    def _go_on(self, tid: int, number: int = 0) -> None:
        if self._letting_go and tid not in self._failing:
            ptrace.detach(tid, number)
            del self._threads[tid]
        else:
            ptrace.to_next_call(tid, number)

    def _name(self, parent: _Process) -> str:
        parent.children += 1
        return self._name_child(parent.who, parent.children)

    def _born(self, parent: int, child: int) -> None:
        if child in self._released:
            return
        above = self._processes[self._threads[parent]]
        found = _procid.stat(child)
        is_thread = os.path.exists(f"/proc/{above.pid}/task/{child}")
        if is_thread:
            self._threads[child] = above.pid
        else:
            self._processes[child] = _Process(child, self._name(above))
            self._threads[child] = child
        if child in self._unborn:
            self._handle(child, self._unborn.pop(child))
        elif found is None:
            self._threads.pop(child, None)

    def _executed(self, tid: int) -> None:
        for other in [each for each, pid in self._threads.items() if pid == tid and each != tid]:
            del self._threads[other]
        if not self._is_ours(tid):
            del self._threads[tid]
            ptrace.detach(tid)
            return
        process = self._processes[tid]
        process.who = self._name_program(tid, process.who)

    def _at_call(self, tid: int) -> None:
        found = ptrace.entry(tid)
        if found is None:
            if tid in self._failing:
                ptrace.fail_call(tid, self._errno)
                self._failing.discard(tid)
            return
        if found.number == _GETSID:
            self.begun = self.begun or found.arguments[0] == BEGIN
            self.ended = self.ended or found.arguments[0] == END
            self._counting = self.begun
            return
        if not self._counting or self.hit is not None:
            return
        call = calls.mutating(found.number, found.arguments, partial(_peek, tid))
        if call is not None and not self._is_of_the_loop(tid, call):
            self._count(tid, call, found.arguments)

    def _is_of_the_loop(self, tid: int, call: calls.Call) -> bool:
        """The engine's event loop is memory of its own, with the socket pair that threads wake it by.

        And what it does later is of no verb.
        """
        process = self._processes[self._threads[tid]]
        wakes = call.name == "sendto" and tid != process.pid
        return process.who == "engine" and (self.ended or wakes or call.name == "epoll_ctl")

    def _count(self, tid: int, call: calls.Call, arguments: Sequence[int]) -> None:
        process = self._processes[self._threads[tid]]
        name, to = call.name, ""
        if name == "write" and _is_pipe(tid, arguments[0]):
            # Counted apart: how often a signal writes to its wake-up pipe is chance.
            name, to = "write to a pipe", "pipe"
        process.counts[name] += 1
        point = Point(process.who, name, process.counts[name])
        if self._target is None:
            stat = _procid.stat(process.pid)
            comm = stat.comm if stat is not None else ""
            self.points.append(point._replace(comm=comm, to=to))
        elif point.key == self._target:
            self.hit = point
            if self._errno:
                ptrace.skip_call(tid)
                self._failing.add(tid)
            else:
                os.kill(process.pid, signal.SIGKILL)
