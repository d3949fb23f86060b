"""What an init that was forked beside the root has said counts before what others say later."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest

from asyncrt.launch import handover
from asyncrt.supervisor import supervisor as module
from asyncrt.supervisor.supervisor import Supervisor


class _Loop:
    reap: Any = None

    def listen(self, fd: int, heard: object) -> None: ...

    def ignore(self, fd: int) -> None: ...


class _End:
    status = 0
    reason = ""

    def expire(self, reason: str) -> None:
        self.reason = reason


class _Root:
    sandbox: object = None
    end = _End()
    umask = 0o22
    dir_fd = score = handover.NO_SCORE


class _Sub:
    score = 0
    dir_fd = -1
    sandbox: object = None

    def __init__(self, *_: object) -> None:
        self.end = _End()

    def take_output(self) -> None: ...

    def listen(self) -> None: ...


class _Scores:
    original = 900

    def __init__(self) -> None:
        self.heard: list[str] = []

    def add(self, container_id: str, score: int) -> None:
        self.heard.append(f"{container_id} has {score}")

    def started(self) -> None:
        self.heard.append("started")

    def destroyed(self, _: str) -> None:
        self.heard.append("destroyed")


@pytest.mark.parametrize("what", ["started", "destroyed"])
def test_a_container_whose_creation_is_done_counts_for_the_score_of_the_next_change(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation returns once its init has told both; its supervisor may hear another's start first."""
    monkeypatch.setattr(module, "Workload", _Sub)
    monkeypatch.setattr(module, "id_of", lambda _: "app")
    monkeypatch.setattr(handover, "take", lambda _: b"that it is an init")
    monkeypatch.setattr(handover, "pid_of", lambda _: 1)
    monkeypatch.setattr(handover, "unpack", lambda _: ())
    supervisor = Supervisor(cast("Any", _Loop()), cast("Any", _Root()))
    supervisor.shared = True
    scores = _Scores()
    supervisor._scores = cast("Any", scores)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        supervisor._births.append(module._Birth(1, ours, theirs))
        if what == "started":
            supervisor.started(cast("Any", _Sub()))
        else:
            supervisor.adjust_score("")
    assert scores.heard == ["app has 0", what]
    assert supervisor._births == []


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_at_the_sandboxs_end_an_init_is_a_container_or_never_will_be(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HAZARDS 14: one that was let go of when it had told its creator already had an end that nobody knew."""
    take = handover.take
    refused: list[type[OSError]] = []
    said = b"that it is an init".ljust(handover._SIZE)

    def taken(watch: Any) -> Any:
        found = take(watch)
        if when == "meanwhile":  # it says so right after somebody has looked
            try:
                theirs.send(said)
            except OSError as error:
                refused.append(type(error))
        return found

    monkeypatch.setattr(module, "Workload", _Sub)
    monkeypatch.setattr(module, "id_of", lambda _: "app")
    monkeypatch.setattr(handover, "take", taken)
    monkeypatch.setattr(handover, "pid_of", lambda _: 1)
    monkeypatch.setattr(handover, "unpack", lambda _: ())
    supervisor = Supervisor(cast("Any", _Loop()), cast("Any", _Root()))
    supervisor._scores = cast("Any", _Scores())
    ours, theirs = socket.socketpair()
    requests, asked = socket.socketpair()
    with ours, theirs, requests, asked:
        if when == "before":
            theirs.send(said)
        supervisor._births.append(module._Birth(0, ours, requests))
        supervisor.shared = True
        supervisor.end_subs()
        ended = [cast("_Sub", each).end.reason for each in supervisor._subs]
    assert (ended, refused) == (
        (["sandbox ended"], []) if when == "before" else ([], [BrokenPipeError])
    )
    assert supervisor._births == []
