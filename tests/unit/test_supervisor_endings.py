"""Which end waits for which, in a sandbox of several containers."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from asyncrt.supervisor.supervisor import Supervisor


class _Ended:
    """A container whose init has ended; its exit record can't be written yet."""

    status = 0
    recorded = has_ended = False
    goodbye = b""
    sandbox: object = None

    def __init__(self) -> None:
        self.settled = 0

    def settle(self, *, alone: bool) -> bool:
        assert alone
        self.settled += 1
        return False

    def expire(self, reason: str) -> None:
        assert reason == "sandbox ended"


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
    assert (root.settled, sub.settled) == (0, 1)
    sub.goodbye = b"its end, as it couldn't be written"
    loop.reap()
    assert (root.settled, sub.settled) == (1, 2)
    assert not supervisor._over()
