from __future__ import annotations

import itertools

import pytest

from asyncrt.errors import InvalidTransition
from asyncrt.status import SUCCESSORS, TABLE, Status, require

CREATING, CREATED, RUNNING, PAUSED, STOPPED = Status

ALLOWED = {
    "start": {CREATED},
    "pause": {CREATED, RUNNING},
    "resume": {PAUSED},
    "kill": {CREATED, RUNNING, PAUSED},
    "kill all": {CREATED, RUNNING, PAUSED, STOPPED},
    "kill process": {RUNNING, PAUSED},
    "stop": {CREATED, RUNNING, PAUSED},
    "exec": {CREATED, RUNNING},
    "exec paused": {CREATED, RUNNING, PAUSED},
    "ps": {CREATED, RUNNING, PAUSED},
    "stats": {CREATED, RUNNING, PAUSED},
    "events": {CREATED, RUNNING, PAUSED},
    "attach": {CREATED, RUNNING, PAUSED},
    "wait": set(Status),
    "destroy": set(Status),
    "delete": {STOPPED},
    "update": {CREATED, RUNNING, PAUSED},
    "renew": {CREATED, RUNNING, PAUSED},
    "renew for nobody": {CREATED, RUNNING, PAUSED, STOPPED},
}


@pytest.mark.parametrize(("operation", "status"), [*itertools.product(ALLOWED, Status)])
def test_each_operation_is_allowed_exactly_where_the_design_says(
    operation: str, status: Status
) -> None:
    if status in ALLOWED[operation]:
        require("web", operation, status)
        return
    with pytest.raises(InvalidTransition) as caught:
        require("web", operation, status)
    error = caught.value
    assert (error.container_id, error.status) == ("web", status.value)
    assert error.operation == operation.split(maxsplit=1)[0]
    assert set(error.allowed) == ALLOWED[operation]


def test_the_design_and_the_table_name_the_same_operations() -> None:
    assert set(TABLE) == set(ALLOWED)


def test_every_status_may_become_stopped_and_none_becomes_creating() -> None:
    for status in Status:
        assert CREATING not in SUCCESSORS[status]
        assert STOPPED in SUCCESSORS[status] or status is STOPPED
    assert not SUCCESSORS[STOPPED]


@pytest.mark.parametrize("operation", TABLE)
def test_an_operation_leads_only_where_a_status_may_go(operation: str) -> None:
    rule = TABLE[operation]
    reachable = set().union(*(SUCCESSORS[status] for status in rule.allowed))
    assert rule.becomes <= reachable


def test_what_changes_the_record_takes_the_lock_and_what_reads_does_not() -> None:
    locked = {name for name, rule in TABLE.items() if rule.locked}
    assert locked == {
        "start",
        "pause",
        "resume",
        "update",
        "renew",
        "renew for nobody",
        "destroy",
        "delete",
    }


def test_a_paused_created_container_may_become_created_again() -> None:
    assert CREATED in SUCCESSORS[PAUSED]
    assert CREATED in TABLE["resume"].becomes
