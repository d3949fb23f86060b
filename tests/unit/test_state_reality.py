from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from asyncrt import _paths, _procid
from asyncrt.errors import ContainerNotFound, StateCorrupted
from asyncrt.state import (
    ExitResult,
    Identity,
    Observed,
    Record,
    look,
    observe,
    reality,
    view_now,
    view_of,
)
from asyncrt.status import Status
from tests.helpers.processes import Interpreter
from tests.helpers.records import (
    INSTANCE,
    MOMENT,
    dead_identity,
    make_record,
    own_identity,
    put_exit,
    put_record,
)

pytestmark = pytest.mark.leaves()

CREATING, CREATED, RUNNING, PAUSED, STOPPED = Status
UNKNOWN = ExitResult(reason="unknown")
INTERRUPTED = ExitResult(reason="creation interrupted")

AT_ITS_GATE = """
import sys
with open("/proc/self/comm", "w") as file:
    file.write(sys.argv[1])
print("ready")
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def alive() -> Identity:
    return own_identity()


@pytest.fixture(scope="module")
def dead() -> Identity:
    return dead_identity()


@pytest.fixture
def waiting() -> Iterator[Identity]:
    """Something that waits at its gate."""
    with Interpreter(AT_ITS_GATE, _paths.GATE_COMM) as child:
        assert child.line() == "ready"
        found = Identity.of(child.pid)
        assert found is not None
        yield found


def changed(identity: Identity, **changes: Any) -> Identity:
    return msgspec.structs.replace(identity, **changes)


def exited(code: int = 3) -> ExitResult:
    return ExitResult(
        exit_code=code,
        reason="exit",
        started_at=MOMENT,
        finished_at=MOMENT.replace(second=1),
    )


def test_what_lives_is_as_the_record_says(root: str, alive: Identity, waiting: Identity) -> None:
    assert observe(make_record(init=alive), root) == Observed(RUNNING, started=True)
    created = make_record(status=CREATED, init=waiting)
    assert observe(created, root) == Observed(CREATED)
    paused = make_record(status=PAUSED, paused_from=RUNNING, init=alive)
    assert observe(paused, root) == Observed(PAUSED, started=True)
    paused = make_record(status=PAUSED, paused_from=CREATED, init=waiting)
    assert observe(paused, root) == Observed(PAUSED, started=False)


def test_a_starter_killed_between_go_and_save_leaves_a_running_container(
    root: str, alive: Identity
) -> None:
    record = make_record(status=CREATED, init=alive)
    assert observe(record, root) == Observed(RUNNING, started=True)


def test_created_stays_created_where_the_name_of_init_cant_be_read(
    root: str, alive: Identity
) -> None:
    elsewhere = changed(alive, pidns=1)
    assert observe(make_record(status=CREATED, init=elsewhere), root) == Observed(CREATED)


@pytest.mark.parametrize("status", [CREATED, RUNNING, PAUSED])
def test_a_dead_one_is_stopped_with_its_exit_record_a_paused_one_too(
    root: str, dead: Identity, alive: Identity, status: Status
) -> None:
    put_exit(root)
    for supervisor in (alive, dead, None):
        record = make_record(status=status, init=dead, supervisor=supervisor)
        found = observe(record, root)
        assert (found.status, found.exit) == (STOPPED, exited())
        assert found.started
        assert not found.exit_pending


@pytest.mark.parametrize("status", [CREATED, RUNNING, PAUSED])
def test_an_exit_nobody_saw_is_unknown_and_never_invented(
    root: str, dead: Identity, status: Status
) -> None:
    record = make_record(status=status, init=dead, supervisor=dead)
    assert observe(record, root)[:2] == (STOPPED, UNKNOWN)
    assert UNKNOWN.exit_code is None
    assert UNKNOWN.signal is None


def test_a_supervisor_that_lives_is_about_to_write_the_exit_record(
    root: str, dead: Identity, alive: Identity
) -> None:
    record = make_record(init=dead, supervisor=alive)
    assert observe(record, root) == Observed(STOPPED, None, started=True, exit_pending=True)


def test_an_exit_record_written_between_two_looks_isnt_missed(
    root: str, dead: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _procid.alive

    def alive_then_written(identity: Identity) -> bool:
        put_exit(root)
        return real(identity)

    monkeypatch.setattr(_procid, "alive", alive_then_written)
    record = make_record(init=dead, supervisor=dead)
    assert observe(record, root).exit == exited()


def test_the_exit_record_of_another_instance_is_not_this_ones(root: str, dead: Identity) -> None:
    put_exit(root, instance="ffff")
    assert observe(make_record(init=dead, supervisor=dead), root).exit == UNKNOWN


def test_a_reused_pid_is_not_init(root: str, alive: Identity) -> None:
    reused = changed(alive, start=alive.start - 1)
    assert observe(make_record(init=reused), root).status is STOPPED


def test_after_a_reboot_everything_is_stopped(root: str, alive: Identity) -> None:
    before = changed(alive, boot="5ca1ab1e-0000-4000-8000-000000000000")
    for status in (CREATED, RUNNING, PAUSED):
        record = make_record(status=status, init=before, supervisor=before, creator=before)
        assert observe(record, root)[:2] == (STOPPED, UNKNOWN)
    record = make_record(status=CREATING, creator=before)
    assert observe(record, root) == Observed(STOPPED, INTERRUPTED)
    put_exit(root)
    record = make_record(init=before, supervisor=before)
    assert observe(record, root)[:2] == (STOPPED, exited())


def test_what_a_supervisor_told_of_an_interrupted_creation_is_what_all_are_told(
    root: str, dead: Identity
) -> None:
    record = make_record(status=CREATING, creator=dead)
    assert observe(record, root) == Observed(STOPPED, INTERRUPTED)
    put_exit(root, exit_code=None, reason=INTERRUPTED.reason, started_at=None)
    end = observe(record, root).exit
    assert end is not None
    assert end.finished_at is not None
    assert msgspec.structs.replace(end, finished_at=None) == INTERRUPTED


def test_what_was_recorded_in_another_pid_namespace_counts_as_alive(
    root: str, dead: Identity
) -> None:
    elsewhere = changed(dead, pidns=1)
    assert observe(make_record(init=elsewhere), root).status is RUNNING
    assert observe(make_record(status=CREATING, creator=elsewhere), root).status is CREATING


def test_a_creation_is_interrupted_when_its_creator_is_proven_dead(
    root: str, alive: Identity, dead: Identity
) -> None:
    assert observe(make_record(status=CREATING, creator=alive), root) == Observed(CREATING)
    assert observe(make_record(status=CREATING), root) == Observed(CREATING)
    interrupted = make_record(status=CREATING, creator=dead, init=alive)
    assert observe(interrupted, root) == Observed(STOPPED, INTERRUPTED)


def test_stopped_is_stopped_whatever_lives(root: str, alive: Identity) -> None:
    put_exit(root, exit_code=77)
    record = make_record(status=STOPPED, init=alive, supervisor=alive, exit=exited(5))
    assert observe(record, root) == Observed(STOPPED, exited(5), started=True)
    assert observe(make_record(status=STOPPED), root).exit == UNKNOWN


def test_a_container_that_was_never_started_says_so(root: str, dead: Identity) -> None:
    put_exit(root, started_at=None)
    record = make_record(status=CREATED, init=dead)
    assert not observe(record, root).started
    put_exit(root)
    assert observe(record, root).started


def test_a_broken_exit_record_is_told_and_not_taken_for_a_missing_one(
    root: str, dead: Identity
) -> None:
    put_exit(root, exit_code="x")
    with pytest.raises(StateCorrupted, match=r"exit\.json"):
        observe(make_record(init=dead), root)


class Replacing:
    """Replaces the record right after it was observed, as a writer elsewhere may."""

    def __init__(self, root: str, monkeypatch: pytest.MonkeyPatch, *then: Record | None) -> None:
        self.looks = 0
        self._then = iter(then)
        real = reality.observe

        def observe_then_replace(record: Record, root: str, namespace: int = 0) -> Observed:
            self.looks += 1
            found = real(record, root, namespace)
            following = next(self._then, record)
            if following is None:
                os.unlink(f"{root}/web.state")
            elif following is not record:
                put_record(root, following)
            return found

        monkeypatch.setattr(reality, "observe", observe_then_replace)
        self._root = root


def test_a_creator_that_saved_and_ended_meanwhile_didnt_abandon_its_container(
    root: str, alive: Identity, dead: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_record(root, make_record(status=CREATING, creator=dead, revision=1))
    after = make_record(status=RUNNING, creator=dead, init=alive, revision=2)
    writer = Replacing(root, monkeypatch, after)
    assert look(root, "web") == (after, Observed(RUNNING, started=True))
    assert writer.looks == 2


def test_destroy_and_create_of_one_id_are_never_mixed_up(
    root: str, alive: Identity, dead: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_record(root, make_record(init=dead, supervisor=dead, revision=4))
    put_exit(root, instance="ffff")  # already the next one's
    after = make_record(init=alive, instance="ffff", revision=4)
    Replacing(root, monkeypatch, after)
    assert look(root, "web") == (after, Observed(RUNNING, started=True))


def test_an_exit_folded_into_the_record_meanwhile_isnt_unknown(
    root: str, dead: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_record(root, make_record(init=dead, supervisor=dead, revision=4))
    after = make_record(status=STOPPED, exit=exited(), revision=5)
    Replacing(root, monkeypatch, after)  # and ID.d is gone already
    assert look(root, "web")[1] == Observed(STOPPED, exited(), started=True)


def test_a_container_destroyed_meanwhile_is_not_found(
    root: str, dead: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_record(root, make_record(init=dead, supervisor=dead))
    Replacing(root, monkeypatch, None)
    with pytest.raises(ContainerNotFound):
        look(root, "web")


def test_reading_ends_although_the_record_never_stops_changing(
    root: str, dead: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_record(root, make_record(init=dead))
    endless = (make_record(init=dead, revision=n) for n in itertools.count(1))
    writer = Replacing(root, monkeypatch)
    writer._then = endless
    assert look(root, "web")[1].status is STOPPED
    assert 2 < writer.looks < 20


def test_a_settled_answer_costs_one_look(
    root: str, alive: Identity, dead: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Replacing(root, monkeypatch)
    put_exit(root)
    for record in (make_record(init=alive), make_record(init=dead), make_record(status=STOPPED)):
        put_record(root, record)
        writer.looks = 0
        look(root, "web")
        assert writer.looks == 1


def test_a_view_tells_the_pid_only_while_there_is_one(
    root: str, alive: Identity, dead: Identity
) -> None:
    put_record(root, make_record(init=alive, started_at=MOMENT))
    view = view_now(root, "web")
    assert (view.status, view.pid, view.exit) == (RUNNING, os.getpid(), None)
    assert (view.id, view.instance, view.sandbox) == ("web", INSTANCE, "web")
    assert (view.owner, view.platform, view.supervision) == ("root", "host", "own")
    assert (view.created_at, view.started_at, view.broken) == (MOMENT, MOMENT, None)
    put_exit(root)
    put_record(root, make_record(init=dead))
    view = view_now(root, "web")
    assert (view.status, view.pid, view.exit) == (STOPPED, None, exited())
    assert view.started_at == MOMENT


def test_a_view_is_frozen() -> None:
    view = view_of(make_record(), Observed(RUNNING))
    with pytest.raises(AttributeError):
        view.status = STOPPED  # type: ignore[misc]  # wrong on purpose
