"""Which end waits for which, in a sandbox of several containers."""

from __future__ import annotations

import json
import os
import signal
from typing import Any, cast

import pytest

from asyncrt.state.reality import _INTERRUPTED
from asyncrt.supervisor.end import End
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


class _Processes:
    def __init__(self, killed: list[str]) -> None:
        self._killed = killed

    def kill(self, init: int) -> bool:
        self._killed.append(f"init {init}")
        return True

    def oom_kills(self) -> int:
        return 0


class _Sandbox:
    root: object = None

    def __init__(self, killed: list[str]) -> None:
        self._killed = killed

    def end_subs(self) -> None:
        self._killed.append("the others")


class _Living:
    gofer = None

    def __init__(self, init: int, sandbox: _Sandbox) -> None:
        self.init = init
        self.sandbox = sandbox
        self.processes = _Processes(sandbox._killed)
        self.end = End(cast("Any", self), durable=False)


def test_with_the_root_the_others_are_killed_at_once_and_with_another_nobody_else() -> None:
    """HAZARDS 14: the root's end ends all; none of them may outlive it, nor need they wait for it."""
    killed: list[str] = []
    sandbox = _Sandbox(killed)
    root, sub = _Living(1, sandbox), _Living(2, sandbox)
    sandbox.root = root
    sub.end.want()
    assert killed == ["init 2"]
    root.end.want()
    assert killed == ["init 2", "init 1", "the others"]
    assert root.end.status is None


class _Watch:
    failed = False
    started_at = None

    def hear_all(self) -> None:
        """It said nothing."""


class _Unborn(_Living):
    """Its creator was killed before it acknowledged the init."""

    instance = "a" * 32
    watch = _Watch()

    def is_acknowledged(self) -> bool:
        return False


def test_a_creation_that_was_interrupted_has_one_end_whatever_came_to_it_as_well() -> None:
    """HAZARDS 14: who finds its creator dead, in the record, says so before the supervisor knows of it."""
    unborn = _Unborn(2, _Sandbox([]))
    unborn.end.expire("sandbox ended")
    unborn.end.come(signal.SIGKILL)
    told = json.loads(unborn.end._record)
    assert (told["exit_code"], told["signal"], told["reason"]) == (None, None, _INTERRUPTED.reason)


class _Leaving(_Ended):
    has_ended = True

    def __init__(self, status: int | None) -> None:
        super().__init__()
        self.end.status = cast("int", status)
        self.left = 0

    def leave(self) -> bool:
        self.left += 1
        return True


def test_at_the_sandboxs_end_who_has_ended_leaves_when_all_have() -> None:
    """Their exits come first; and nobody is kept whom a full disk or a gofer holds up."""
    root, first, second = _Ended(), _Leaving(0), _Leaving(None)
    supervisor = Supervisor(cast("Any", _Loop()), cast("Any", root))
    supervisor._subs += [cast("Any", first), cast("Any", second)]
    second.has_ended = False
    supervisor._let_go()
    assert (first.left, second.left) == (0, 0)
    second.end.status = 9
    supervisor._let_go()
    assert (first.left, second.left) == (1, 0)
    root.end.status = cast("int", None)  # and while the root lives nobody is waited for
    supervisor._subs.append(cast("Any", first))
    second.end.status = cast("int", None)
    supervisor._let_go()
    assert first.left == 2
