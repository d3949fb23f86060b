from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import pytest

from asyncrt import _paths, clock
from asyncrt.errors import SchemaTooNew, StateCorrupted
from asyncrt.state import ExitResult, read_exit
from tests.helpers.records import INSTANCE, put_exit

pytestmark = pytest.mark.leaves()


def test_what_the_supervisor_wrote_is_read(root: str) -> None:
    put_exit(root, exit_code=None, signal=15, reason="signal")
    assert read_exit(root, "web", INSTANCE) == ExitResult(
        exit_code=None,
        signal=15,
        oom_killed=None,
        reason="signal",
        started_at=datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC),
        finished_at=datetime(2026, 1, 31, 12, 0, 1, 1, tzinfo=UTC),
    )


def test_the_supervisors_own_stamps_are_read_as_utc(root: str) -> None:
    put_exit(root, started_at=None, finished_at=clock.stamp())
    found = read_exit(root, "web", INSTANCE)
    assert found is not None
    assert found.started_at is None
    assert found.finished_at is not None
    assert found.finished_at.tzinfo is UTC
    put_exit(root, finished_at="2026-01-31T14:00:00+02:00")
    found = read_exit(root, "web", INSTANCE)
    assert found is not None
    assert found.finished_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert found.finished_at.tzinfo is UTC


def test_the_exit_record_of_another_instance_is_not_ours(root: str) -> None:
    put_exit(root, instance="ffff")
    assert read_exit(root, "web", INSTANCE) is None
    assert read_exit(root, "web", "ffff") is not None


def test_the_exit_record_is_found_at_every_place_that_a_removal_moves_it_to(root: str) -> None:
    put_exit(root)
    aside = f"{root}/{_paths.being_removed('web')}"
    moves = [(f"{root}/web.d", aside), (f"{aside}/exit.json", f"{root}/{_paths.last_exit('web')}")]
    for before, after in moves:
        os.rename(before, after)
        found = read_exit(root, "web", INSTANCE)
        assert found is not None
        assert found.exit_code == 3
        assert read_exit(root, "web", "ffff") is None


def test_no_exit_record_is_none(root: str) -> None:
    assert read_exit(root, "web", INSTANCE) is None
    os.mkdir(f"{root}/web.d")
    assert read_exit(root, "web", INSTANCE) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"exit_code": "0"}, "$.exit_code"),
        ({"instance": None}, "$.instance"),
        ({"finished_at": "2026-01-31T12:00:00"}, "$.finished_at"),
        ({"schema": "one"}, "$.schema"),
    ],
)
def test_a_broken_exit_record_is_named(root: str, change: dict[str, Any], why: str) -> None:
    put_exit(root, **change)
    with pytest.raises(StateCorrupted) as caught:
        read_exit(root, "web", INSTANCE)
    assert caught.value.path == f"{root}/web.d/exit.json"
    assert why in caught.value.why


def test_an_empty_exit_record_is_broken_and_a_newer_one_is_refused(root: str) -> None:
    put_exit(root, schema=2, reason=7)
    with pytest.raises(SchemaTooNew):
        read_exit(root, "web", INSTANCE)
    put_exit(root, schema=2)
    with pytest.raises(SchemaTooNew):
        read_exit(root, "web", INSTANCE)
    with open(f"{root}/web.d/exit.json", "wb"):
        pass
    with pytest.raises(StateCorrupted, match="empty"):
        read_exit(root, "web", INSTANCE)


def test_unknown_fields_are_ignored(root: str) -> None:
    put_exit(root, core_dumped=True)
    found = read_exit(root, "web", INSTANCE)
    assert found is not None
    assert found.exit_code == 3


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (ExitResult(exit_code=0), 0),
        (ExitResult(exit_code=123), 123),
        (ExitResult(signal=9), 137),
        (ExitResult(signal=15), 143),
        (ExitResult(), 255),
    ],
)
def test_the_status_code_is_what_a_shell_would_say(result: ExitResult, code: int) -> None:
    assert result.status_code == code
