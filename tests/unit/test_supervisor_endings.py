"""Which end waits for which, in a sandbox of several containers."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from asyncrt.supervisor.supervisor import Supervisor


class _End:
    """An init has ended; the exit record can't be written yet."""

    status = 0
    recorded = False
    goodbye = b""

    def __init__(self) -> None:
        self.settled = 0

    def settle(self, *, alone: bool) -> bool:
        assert alone
        self.settled += 1
        return False

    def expire(self, reason: str) -> None:
        assert reason == "sandbox ended"


class _Ended:
    has_ended = False
    sandbox: object = None

    def __init__(self) -> None:
        self.end = _End()


class _Loop:
    reap: Any = None


def test_a_root_whose_others_ends_cannot_be_written_is_told_once_theirs_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HAZARDS 16: nobody waits for ever on a full disk, for the end of a root neither."""

    def no_children(*_: object) -> tuple[int, int]:
        raise ChildProcessError

    monkeypatch.setattr(os, "waitpid", no_children)
    loop, root, sub = _Loop(), _Ended(), _Ended()
    supervisor = Supervisor(cast("Any", loop), cast("Any", root))
    supervisor.shared = True
    supervisor._subs.append(cast("Any", sub))
    loop.reap()
    assert (root.end.settled, sub.end.settled) == (0, 1)
    sub.end.goodbye = b"its end, as it couldn't be written"
    loop.reap()
    assert (root.end.settled, sub.end.settled) == (1, 2)
    assert not supervisor._over()
