"""Records, identities and exit records for tests."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from typing import Any

import msgspec

from asyncrt import _durable, _paths
from asyncrt.ids import ContainerId
from asyncrt.state import Identity, Record
from asyncrt.status import Status

MOMENT = datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC)
ROOT_WIDE = frozenset({_paths.EVENTS, _paths.EVENTS_OLD, _paths.EVENTS_LOCK})  # no container's
INSTANCE = "0123456789abcdef0123456789abcdef"


def make_record(id: str = "web", **changes: Any) -> Record:
    """A running container's record, if not changed."""
    values: dict[str, Any] = {
        "id": id,
        "instance": INSTANCE,
        "sandbox": id,
        "status": Status.RUNNING,
        "created_at": MOMENT,
        "owner": "root",
        "uid": 0,
        "bundle": "/bundles/web",
        "platform": "host",
        "supervision": "own",
    }
    return Record(**{**values, **changes})


def put_record(root: str, record: Record, *, lock: bool = True) -> None:
    """Have the container on disk without taking any lock."""
    with open(f"{root}/{record.id}{_paths.STATE}", "wb") as file:
        file.write(msgspec.json.encode(record))
    if lock:
        with open(f"{root}/{record.id}{_paths.LOCK}", "ab"):
            pass


def put_exit(root: str, id: str = "web", instance: str = INSTANCE, **changes: Any) -> None:
    """Write an exit record as a supervisor does."""
    directory = f"{root}/{id}{_paths.DIRECTORY}"
    os.makedirs(directory, mode=0o700, exist_ok=True)
    values: dict[str, Any] = {
        "schema": 1,
        "instance": instance,
        "exit_code": 3,
        "signal": None,
        "oom_killed": None,
        "reason": "exit",
        "started_at": "2026-01-31T12:00:00.000001Z",
        "finished_at": "2026-01-31T12:00:01.000001Z",
    }
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _durable.replace(fd, _paths.EXIT, json.dumps({**values, **changes}).encode())
    finally:
        os.close(fd)


def raw_record(root: str, id: str = "web") -> Any:
    """What the state file holds, as plain JSON."""
    with open(f"{root}/{id}{_paths.STATE}", "rb") as file:
        return json.load(file)


def names(root: str) -> list[str]:
    """The names below a root that belong to containers, sorted.

    What somebody killed while making the log of events left is the next gc's, and isn't among them.
    """
    return sorted(
        name for name in os.listdir(root) if not name.lstrip(".").startswith(_paths.EVENTS)
    )


def own_identity() -> Identity:
    """This very process."""
    found = Identity.of(os.getpid())
    assert found is not None
    return found


def dead_identity() -> Identity:
    """A process that has ended and was reaped."""
    with subprocess.Popen(["sleep", "60"]) as process:
        found = Identity.of(process.pid)
        process.kill()
    assert found is not None
    return found


def some_id(text: str = "web") -> ContainerId:
    """`text` as an id, unchecked."""
    return ContainerId(text)


def put_broken(root: str, container_id: str = "broken") -> None:
    """A container whose record is no record."""
    for suffix, data in ((_paths.LOCK, ""), (_paths.STATE, "{")):
        with open(f"{root}/{container_id}{suffix}", "x", encoding="ascii") as file:
            file.write(data)
