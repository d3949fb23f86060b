"""The life of a container as pure data: statuses, operations, and what is allowed when."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from asyncrt.errors import InvalidTransition


class Status(StrEnum):
    """`creating → created → running ⇄ paused → stopped`; anything may become stopped."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Rule(NamedTuple):
    """One row of the table: the statuses an operation is allowed in and those it may lead to.

    `becomes` is empty when the operation itself changes no status. `locked` says that it changes
    the record: it takes the container's lock before it reads the status.
    """

    allowed: frozenset[Status]
    becomes: frozenset[Status]
    locked: bool


_LIVE = frozenset({Status.CREATED, Status.RUNNING, Status.PAUSED})
_ANY = frozenset(Status)
_NONE: frozenset[Status] = frozenset()


def _only(*statuses: Status) -> frozenset[Status]:
    return frozenset(statuses)


TABLE: dict[str, Rule] = {
    "start": Rule(_only(Status.CREATED), _only(Status.RUNNING), locked=True),
    "pause": Rule(_only(Status.CREATED, Status.RUNNING), _only(Status.PAUSED), locked=True),
    "resume": Rule(_only(Status.PAUSED), _only(Status.CREATED, Status.RUNNING), locked=True),
    "kill": Rule(_LIVE, _NONE, locked=False),
    "kill all": Rule(_LIVE | {Status.STOPPED}, _NONE, locked=False),
    "kill process": Rule(_only(Status.RUNNING, Status.PAUSED), _NONE, locked=False),
    "stop": Rule(_LIVE, _only(Status.STOPPED), locked=False),
    "update": Rule(_LIVE, _NONE, locked=True),
    "renew": Rule(_LIVE, _NONE, locked=True),
    "renew for nobody": Rule(_LIVE | {Status.STOPPED}, _NONE, locked=True),
    "exec": Rule(_only(Status.CREATED, Status.RUNNING), _NONE, locked=False),
    "exec paused": Rule(_LIVE, _NONE, locked=False),
    "ps": Rule(_LIVE, _NONE, locked=False),
    "stats": Rule(_LIVE, _NONE, locked=False),
    "events": Rule(_LIVE, _NONE, locked=False),
    "attach": Rule(_LIVE, _NONE, locked=False),
    "wait": Rule(_ANY, _NONE, locked=False),
    "destroy": Rule(_ANY, _NONE, locked=True),
    "delete": Rule(_only(Status.STOPPED), _NONE, locked=True),
}

SUCCESSORS: dict[Status, frozenset[Status]] = {
    Status.CREATING: _only(Status.CREATED, Status.STOPPED),
    Status.CREATED: _only(Status.RUNNING, Status.PAUSED, Status.STOPPED),
    Status.RUNNING: _only(Status.PAUSED, Status.STOPPED),
    Status.PAUSED: _only(Status.CREATED, Status.RUNNING, Status.STOPPED),
    Status.STOPPED: _NONE,
}


def require(container_id: str, operation: str, status: Status) -> None:
    """Raise InvalidTransition unless `operation` is allowed in `status`."""
    if status not in TABLE[operation].allowed:
        raise InvalidTransition(
            container_id=container_id,
            operation=operation.partition(" ")[0],
            status=status.value,
            allowed=allowed(operation),
        )


def allowed(operation: str) -> tuple[str, ...]:
    """The statuses that `operation` is allowed in, in the order of a container's life."""
    return tuple(each.value for each in Status if each in TABLE[operation].allowed)
