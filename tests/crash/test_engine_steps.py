"""An engine killed before each step of a verb: the next one tells the truth and removes it all."""

from __future__ import annotations

import os
import random
from functools import partial

import pytest

import asyncrt
from tests.helpers import crash, reality, truth
from tests.helpers.cgroups import everywhere, left
from tests.helpers.processes import Interpreter

CHILD = "from tests.helpers import crash; crash.main()"


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", crash.VERBS)
async def test_killed_before_any_step(
    verb: str, root: str, engine: asyncrt.Engine, full: bool
) -> None:
    await _kill_before_each(verb, engine, 1.0 if full else 0.5)


@pytest.mark.crash
@pytest.mark.needs_root
@pytest.mark.needs_cgroups("pids")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", crash.CGROUP_VERBS)
async def test_killed_before_any_step_leaves_no_cgroup(
    verb: str, root: str, engine: asyncrt.Engine, full: bool
) -> None:
    await _kill_before_each(verb, engine, 1.0 if full else 0.25)
    assert left(everywhere(os.path.dirname(crash.cgroups_path(root)))) == []


async def _kill_before_each(verb: str, engine: asyncrt.Engine, share: float) -> None:
    root = engine.root
    chance = random.Random(verb)
    with Interpreter(CHILD, root) as child:
        for step in range(1, 1000):
            if step > 3 and chance.random() >= share:
                continue
            child.say(f"{step} {verb}")
            status = int(await child.next_line(timeout=60))
            assert status in {-9, 0}
            await _truth_then_nothing(engine, f"{verb}, step {step}", child.pid)
            if status == 0:
                assert step > 2
                break


async def _truth_then_nothing(engine: asyncrt.Engine, where: str, child: int) -> None:
    root = engine.root
    wrong = reality.settles(partial(truth.lies, root), seconds=5)
    assert wrong is None, f"{where}: {wrong}"
    listed = {view.id for view in await engine.list()}
    sockets = {"web.d/gate.sock", "web.d/control.sock"} & reality.files(root)
    assert "web" in listed or not sockets, f"{where}: somebody was started unseen"
    if any(view.id == "web" and view.status == "stopped" for view in await engine.list()):
        # Nothing of what is told to be stopped runs.
        assert reality.settles(lambda: reality.marked(["crash"]), seconds=5) is None, where
    if where.startswith("create limited"):
        # What an interrupted creation had begun is gone with its record, the cgroup too.
        assert (await engine.recover()).complete, where
        if not await engine.list():
            assert left(everywhere(crash.cgroups_path(root))) == [], where
    # The lock is free, and a forced delete removes it all, listed or not.
    await engine.delete("web", force=True, timeout=5)
    assert reality.files(root) == set(), where
    assert left(everywhere(crash.cgroups_path(root))) == [], where
    strays = reality.settles(lambda: [each for each in reality.strays() if each.pid != child])
    assert strays is None, f"{where}: {strays}"
    assert await engine.list() == []
    done = await engine.run("web", spec=asyncrt.Spec.command(["/bin/true"]), **crash.NULL)
    assert done.exit.exit_code == 0, where
