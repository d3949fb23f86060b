"""How an end is written down: the fields of an ExitResult, as JSON made by hand.

Every value is a number, null or plain ASCII of our own, so no encoder is needed, and a supervisor
that never needs one stays small.
"""

from __future__ import annotations

import os

from asyncrt import clock


def exit_json(
    instance: str, *, code: int | None, signal: int | None, reason: str, started_at: str | None
) -> bytes:
    """An exit record, finished now. `oom_killed` is unknowable without a cgroup."""
    started = "null" if started_at is None else f'"{started_at}"'
    return (
        f'{{"schema":1,"instance":"{instance}","exit_code":{_number(code)},'
        f'"signal":{_number(signal)},"oom_killed":null,"reason":"{reason}",'
        f'"started_at":{started},"finished_at":"{clock.stamp()}"}}'
    ).encode()


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)


def ending(status: int) -> tuple[int | None, int | None, str]:
    """Exit code, signal and reason of a wait(2) status."""
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status), "signal"
    return os.WEXITSTATUS(status), None, "exit"
