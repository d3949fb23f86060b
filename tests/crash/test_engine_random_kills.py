"""SIGKILL at random instants, to everybody in turn, while twenty tasks work."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import asyncrt
from tests.helpers import reality, truth
from tests.helpers.processes import Interpreter, wait_until
from tests.helpers.reality import Seen
from tests.helpers.records import names

WORKER = "from tests.helpers import chaos; chaos.main()"
TASKS = 20


def supervisors(seen: list[Seen]) -> list[Seen]:
    """Those of containers: with an init below that is no spare."""
    ready = reality.spares(seen)
    return [each for each in seen if each.comm == "asyncrt:super" and each.pid not in ready]


def fork_servers(seen: list[Seen]) -> list[Seen]:
    ready = reality.spares(seen)
    above = {each.ppid for each in seen if each.pid in ready}
    return [each for each in seen if each.pid in ready and each.pid in above]


def launching(seen: list[Seen]) -> list[Seen]:
    """Spares, one-shots and inits at their gates."""
    names = {"asyncrt:gate", "asyncrt:oneshot", "asyncrt:spare", "asyncrt:hook"}
    return [each for each in seen if each.comm in names]


VICTIMS: dict[str, Callable[[list[Seen]], list[Seen]]] = {
    "supervisors": supervisors,
    "fork servers and spares": fork_servers,
    "launchers and inits": launching,
}


@pytest.mark.crash
@pytest.mark.timeout(900)
async def test_the_engine_is_killed_in_the_middle_of_its_work(
    root: str, tmp_path: Path, engine: asyncrt.Engine, full: bool
) -> None:
    for round in range(60 if full else 4):
        chance = random.Random(round)
        with Interpreter(WORKER, root, tmp_path / "log", round, TASKS, 60) as worker:
            assert worker.line() == "ready"
            worker.say("go")
            wait_until(lambda: len(os.listdir(root)) > 4, "it is at work")
            _let_pass(chance.random() * 0.4)
            worker.kill()
        await _truth_then_nothing(engine, f"round {round}")


@pytest.mark.crash
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victims", VICTIMS)
async def test_others_are_killed_while_the_engine_works(
    victims: str, root: str, tmp_path: Path, engine: asyncrt.Engine, full: bool
) -> None:
    for round in range(20 if full else 1):
        chance = random.Random(round)
        seconds = 5 if full else 2
        with Interpreter(WORKER, root, tmp_path / "log", round, TASKS, seconds) as worker:
            assert worker.line() == "ready"
            worker.say("go")
            for _ in range(20 * seconds):
                there = VICTIMS[victims](reality.below(worker.pid))
                if there:
                    _kill(chance.choice(there).pid)
                _let_pass(chance.random() * 0.05)
            try:
                faults = json.loads(worker.line(timeout=90))
            except EOFError:
                faults = [f"the engine itself ended: {worker.wait()}"]
            assert faults == []
            assert worker.wait() == 0
        await _truth_then_nothing(engine, f"{victims}, round {round}")


def _let_pass(seconds: float) -> None:
    """A random instant is the point: nothing is ordered by it."""
    signal.sigtimedwait([], seconds)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _truth_then_nothing(engine: asyncrt.Engine, where: str) -> None:
    root = engine.root
    wrong = reality.settles(partial(truth.lies, root))
    assert wrong is None, f"{where}: {wrong}"
    # Also of ids that had no record yet, or have none any more.
    for name in {each.lstrip(".").partition(".")[0] for each in names(root)}:
        await engine.delete(name, force=True, timeout=10)
    assert reality.files(root) == set(), where
    strays = reality.settles(reality.strays)
    assert strays is None, f"{where}: {strays}"
