"""Processes exec'd beside init: started, reported, bounded in time, reaped."""

from __future__ import annotations

import contextlib
import os

from asyncrt import _csignal, _procid, clock
from asyncrt.launch import beside, failure, tree
from asyncrt.supervisor.exits import ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from asyncrt.supervisor.clients import Connection
    from asyncrt.supervisor.workload import Workload


class Exec:
    """One exec'd process and who asked for it."""

    __slots__ = (
        "client",
        "failed",
        "lease",
        "oom_kills",
        "pid",
        "process",
        "reason",
        "report",
        "request",
        "running",
        "started_at",
    )

    def __init__(
        self, pid: int, report: int, client: Connection, request: int, lease: float | None
    ) -> None:
        self.pid = pid
        self.process = _procid.facts(pid)  # now: once reaped it has none, and its pid is anybody's
        self.report = report
        self.client = client
        self.request = request
        self.lease = lease  # seconds that it may outlive its client; None: any number
        self.running = False
        self.failed = b""  # why its program couldn't be executed, told once it has ended
        self.reason = ""
        self.oom_kills: int | None = None  # of the container's before it began
        self.started_at = clock.stamp()


class Execs:
    """All execs of one container, by pid."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._by_pid: dict[int, Exec] = {}

    @property
    def pids(self) -> list[int]:
        """Of those that aren't reaped yet."""
        return list(self._by_pid)

    def start(
        self,
        client: Connection,
        message: dict[str, Any],
        streams: list[int],
    ) -> None:
        """Fork it; the answer goes out when its program runs or couldn't be executed."""
        deadline, lease = seconds(message.get("deadline")), seconds(message.get("lease"))
        above = self._workload
        if message["plan"]["oom_score_adj"] is None:
            message["plan"]["oom_score_adj"] = above.child_score
        pid, report = beside.spawn(
            message["plan"], streams, above.umask, above.init, above.namespaces
        )
        each = Exec(pid, report, client, message["req"], lease)
        each.oom_kills = self._workload.processes.oom_kills()
        self._by_pid[pid] = each
        self._workload.loop.listen(report, lambda _: self._reported(each, deadline))

    def _reported(self, each: Exec, deadline: float | None) -> None:
        said = os.read(each.report, 65536)
        self._workload.loop.ignore(each.report)
        os.close(each.report)
        each.report = -1
        if said:
            each.failed = said
            return
        each.running = True
        each.client.send({"re": each.request, "ok": {"process": each.process}})
        if deadline is not None:
            self._expire_later(each, deadline, "deadline")

    def _expire(self, each: Exec, reason: str) -> None:
        if (
            self._by_pid.get(each.pid) is each
        ):  # else it has ended, and the pid may be another exec's
            each.reason = reason
            self.kill(each)

    def lost(self, client: Connection) -> None:
        """That connection is closed: what was to go with it goes."""
        for each in self._by_pid.values():
            if each.client is client and each.lease is not None:
                self._expire_later(each, each.lease, "lease")

    def _expire_later(self, each: Exec, seconds: float, reason: str) -> None:
        self._workload.loop.after(seconds, lambda: self._expire(each, reason))

    def kill(self, each: Exec) -> None:
        """SIGKILL what descends from the exec and what stayed in its session.

        What has become another user's, by sudo say, isn't ours to signal.
        """
        _signal(each.pid, _csignal.SIGSTOP)
        tree.stop(each.pid)
        members = tree.session_members(each.pid, os.getpid())
        tree.kill(each.pid)
        tree.signal_below(os.getpid(), members, _csignal.SIGKILL)
        _signal(each.pid, _csignal.SIGKILL)

    def withdraw(self, client: Connection, request: int) -> None:
        """The asker doesn't want it any more: kill it, whether or not its program runs yet."""
        for each in self._by_pid.values():
            if each.client is client and each.request == request:
                each.reason = "withdrawn"
                self.kill(each)

    def reaped(self, pid: int, status: int) -> bool:
        """Take note of an ended child; False when it isn't one of these."""
        each = self._by_pid.pop(pid, None)
        if each is None:
            return False
        if each.report >= 0:
            # It ended before its report was read: what it said comes first.
            self._reported(each, None)
        if each.failed:
            why = failure.reported(each.failed)
            each.client.send({"re": each.request, "failed": why.report()})
        if each.running:
            ended = exit_record(
                status, each.reason, each.started_at, oom_killed=self._oom_killed(each)
            )
            each.client.send({"event": "exec-exit", "req": each.request, "exit": ended})
        return True

    def _oom_killed(self, each: Exec) -> bool | None:
        now = self._workload.processes.oom_kills()
        return None if now is None or each.oom_kills is None else now > each.oom_kills


def _signal(child: int, number: int) -> None:
    """Signal our child, which isn't reaped yet: the pid is its own."""
    with contextlib.suppress(PermissionError):
        os.kill(child, number)


def seconds(value: object) -> float | None:
    """A time out of a message; NaN, which no timer could be sorted by, is none."""
    if value is None:
        return None
    if not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - only NaN differs
        raise ValueError(f"no number of seconds: {value!r}")
    return float(value)


def exit_record(
    status: int, reason: str, started_at: str | None, *, oom_killed: bool | None = None
) -> dict[str, Any]:
    """A wait(2) status as the fields of an ExitResult.

    `oom_killed`: whether the kernel killed any of the container's processes for want of memory
    meanwhile; None: nobody knows.
    """
    code, number, usual = ending(status)
    if oom_killed and number == _csignal.SIGKILL:
        usual = "oom"
    return {
        "exit_code": code,
        "signal": number,
        "oom_killed": oom_killed,
        "reason": reason or usual,
        "started_at": started_at,
        "finished_at": clock.stamp(),
    }
