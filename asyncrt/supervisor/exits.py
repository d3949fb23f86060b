"""How an end is written down: the fields of an ExitResult, as JSON made by hand.

Every value is a number, null or plain ASCII of our own, so no encoder is needed, and a supervisor
that never needs one stays small.
"""

from __future__ import annotations

import os

from asyncrt import _events, _paths, clock

_OOM = {None: "null", False: "false", True: "true"}


def exit_json(
    instance: str,
    *,
    code: int | None,
    signal: int | None,
    oom_killed: bool | None = None,
    reason: str,
    started_at: str | None,
) -> bytes:
    """An exit record, finished now."""
    started = "null" if started_at is None else f'"{started_at}"'
    return (
        f'{{"schema":1,"instance":"{instance}","exit_code":{_number(code)},'
        f'"signal":{_number(signal)},"oom_killed":{_OOM[oom_killed]},"reason":"{reason}",'
        f'"started_at":{started},"finished_at":"{clock.stamp()}"}}'
    ).encode()


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)


def id_of(dir_fd: int) -> str:
    """Whose directory that is; "" once it is gone, and nobody wants to hear of its end any more."""
    _, _, name = os.readlink(f"/proc/self/fd/{dir_fd}").rpartition("/")
    if not name.endswith(_paths.DIRECTORY):
        return ""  # it says "(deleted)"
    return name.removesuffix(_paths.DIRECTORY)


def line(dir_fd: int, instance: str, previous: str, record: bytes, sandbox: str) -> bytes:
    """The end of the container whose directory that is, for the root's events; b"" once that is gone.

    `previous` is the status it ended in, `record` its exit record, `sandbox` the id of its sandbox,
    if that is still there.
    """
    container_id = id_of(dir_fd)
    if not container_id:
        return b""
    begun = (
        f'{{"schema":{_events.SCHEMA},"time":"{clock.stamp()}","id":"{container_id}",'
        f'"instance":"{instance}","sandbox":"{sandbox or container_id}","operation":"exit",'
        f'"previous":"{previous}","status":"stopped","exit":'
    )
    return begun.encode() + record + b"}\n"


def ending(status: int) -> tuple[int | None, int | None, str]:
    """Exit code, signal and reason of a wait(2) status."""
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status), "signal"
    return os.WEXITSTATUS(status), None, "exit"
