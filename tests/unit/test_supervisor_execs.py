"""What becomes of exec'd processes inside a supervisor: deadlines, pids used again, failing forks."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from asyncrt.launch import beside
from asyncrt.supervisor.execs import Execs
from asyncrt.supervisor.processes import Processes

if TYPE_CHECKING:
    from asyncrt.launch.plan import ProcessPlan

PLAN: ProcessPlan = {
    "args": ["/bin/sleep", "1000"],
    "env": [],
    "cwd": "/",
    "uid": None,
    "gid": None,
    "groups": None,
    "umask": None,
    "rlimits": [],
    "no_new_privs": False,
    "oom_score_adj": None,
}


class Workload:
    """A container whose loop keeps what it is asked to do, and does it when the test says so."""

    umask = 0o077
    init = 1
    namespaces: tuple[int, ...] = ()

    child_score = None
    processes = Processes([], lambda: None)

    def __init__(self) -> None:
        self.loop = self
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.timers: list[Callable[[], None]] = []

    def listen(self, fd: int, handler: Callable[[int], None]) -> None:
        self.handlers[fd] = handler

    def ignore(self, fd: int) -> None:
        self.handlers.pop(fd, None)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append(call)


class Client:
    """Somebody who asked for an exec."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.told.append(message)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pid that every exec gets instead of a process, with a report that says: it runs."""
    pids = [4711]

    def spawn(*_: object) -> tuple[int, int]:
        report, theirs = os.pipe()
        os.close(theirs)
        return pids[0], report

    monkeypatch.setattr(beside, "spawn", spawn)
    return pids


def start(execs: Execs, workload: Workload, deadline: float) -> None:
    message = {"plan": PLAN, "req": 1, "deadline": deadline}
    execs.start(Client(), message, [0, 1, 2])  # type: ignore[arg-type]  # a stand-in
    for handler in list(workload.handlers.values()):
        handler(0)


def test_a_deadline_of_an_ended_exec_does_not_kill_another_with_the_same_pid(
    forked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = Workload()
    execs = Execs(workload)  # type: ignore[arg-type]  # a stand-in
    killed: list[int] = []
    monkeypatch.setattr(execs, "kill", lambda each: killed.append(each.pid))
    start(execs, workload, 1)
    execs.reaped(forked[0], 0)
    start(execs, workload, 1000)
    first, second = workload.timers
    first()
    assert killed == []
    second()
    assert killed == forked


def test_a_process_that_became_another_users_does_not_end_its_supervisor(
    forked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = Workload()
    execs = Execs(workload)  # type: ignore[arg-type]  # a stand-in
    tried: list[int] = []

    def refuse(pid: int, number: int) -> None:
        assert pid == forked[0]
        tried.append(number)
        raise PermissionError(errno.EPERM, "not yours")

    start(execs, workload, 1)
    monkeypatch.setattr(os, "kill", refuse)
    workload.timers[0]()
    assert tried == [signal.SIGSTOP, signal.SIGKILL]


def test_a_fork_that_fails_leaves_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError(errno.EAGAIN, "no process")

    monkeypatch.setattr(os, "fork", fail)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        beside.spawn(PLAN, [0, 1, 2], 0o077, 0)
    assert len(os.listdir("/proc/self/fd")) == before
