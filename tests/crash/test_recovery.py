"""Leftovers made by real kills: after one recovery nothing of them is left, and nothing else is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import Lease, _procid
from tests.helpers import crash, reality, reaping, truth
from tests.helpers.containers import (
    SECONDS,
    Fifo,
    gone,
    in_state,
    init_of,
    is_alive,
    shell_hook,
    sleeper,
    supervisor_of,
)
from tests.helpers.processes import Interpreter, kill_hard, until, wait_until
from tests.helpers.records import names
from tests.helpers.recovery import recovered, told

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
CHILD = "from tests.helpers import crash; crash.main()"


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", crash.VERBS)
async def test_after_a_kill_before_any_step_a_recovery_leaves_what_is_whole(
    verb: str, root: str, engine: asyncrt.Engine, full: bool
) -> None:
    chance = random.Random(verb)
    with Interpreter(CHILD, root) as child:
        for step in range(1, 1000):
            if not full and step > 3 and chance.random() < 0.6:
                continue
            child.say(f"{step} {verb}")
            finished = await child.next_line(timeout=60) == "0"
            where = f"{verb}, step {step}"
            wrong = await _wrong(engine)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SECONDS):
                    while wrong:  # what was killed may take a moment to end, and to be found
                        await asyncio.sleep(0.01)
                        wrong = await _wrong(engine)
            assert wrong == [], where
            await engine.destroy_many([view.id for view in await engine.list()])
            assert reality.files(root) == set(), where
            strays = reality.settles(
                lambda: [each for each in reality.strays() if each.pid != child.pid]
            )
            assert strays is None, f"{where}: {strays}"
            if finished:
                break


async def _wrong(engine: asyncrt.Engine) -> list[object]:
    """What isn't whole after a recovery: lies, files of no container, half-made ones."""
    root = engine.root
    await recovered(engine)
    views = await engine.list()
    ids = {name.split(".")[0] for name in names(root)}
    return [
        *truth.lies(root),
        *(ids ^ {view.id for view in views}),
        *(name for name in reality.files(root) if name.endswith("~")),
        *(v for v in views if v.exit is not None and v.exit.reason == "creation interrupted"),
    ]


OWNER = """
import asyncio, sys
import asyncrt
from tests.helpers import reality

NULL = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        spec = asyncrt.Spec.command(["/bin/sleep", "1000"], env=reality.marking("pool"))
        short = asyncrt.Spec.command(["/bin/true"])
        lease = asyncrt.Lease(float(sys.argv[2]))
        async with engine.pool(spec=spec, size=4, lease=lease, **NULL) as pool:
            for number in range(1000):
                taken = await pool.take()
                if number % 3 == 0:
                    await taken.stop(grace_seconds=0)  # has ended, and is the owner's to collect
                elif number % 3 == 1:
                    await taken.destroy()
                ended = await engine.create(f"short{number}", spec=short, lease=lease, **NULL)
                await ended.start()
                if number == 3:
                    print("at work", flush=True)
                if number % 4:
                    await ended.destroy()

asyncio.run(main())
"""


@pytest.mark.crash
@pytest.mark.timeout(300)
@pytest.mark.parametrize("grace", [0, 0.2])
async def test_of_a_killed_pool_owner_nothing_is_left(
    root: str, engine: asyncrt.Engine, grace: float, full: bool
) -> None:
    kept = await engine.run("kept", spec=asyncrt.Spec.command(["true"]), **NULL)
    assert kept.exit.exit_code == 0
    other = await engine.create("other", spec=sleeper(), **NULL)
    await other.start()
    await other.kill("KILL")
    await other.wait()
    for round in range(20 if full else 3):
        chance = random.Random(round)
        with Interpreter(OWNER, root, grace) as owner:
            assert await owner.next_line() == "at work"
            signal.sigtimedwait([], chance.random() * 0.1)  # a random instant is the point
            if round % 2:
                for each in reality.below(owner.pid):
                    if each.comm == "asyncrt:super" and chance.random() < 0.3:
                        kill_hard(each.pid)
            owner.kill()
        await until(partial(_nothing_runs, kill=round % 2 == 1), "nothing of it runs")
        await until(lambda: not _supervisors_at_work(), "their ends are written")
        reaping.reap_orphans()
        async with asyncio.timeout(SECONDS):
            await recovered(engine)
            while {name.split(".")[0] for name in names(root)} != {"other"}:
                await asyncio.sleep(0.05)  # what ended by itself is anybody's for the grace
                await recovered(engine)
    await other.destroy()


def _nothing_runs(*, kill: bool) -> bool:
    """Whether all have ended; what runs without its supervisor, also from now on, is killed."""
    for each in reality.marked(["pool"]):
        if kill:
            kill_hard(each.pid)
    return not reality.containers_processes()


def _supervisors_at_work() -> list[reality.Seen]:
    seen = reality.below()
    ready = reality.spares(seen)
    return [each for each in seen if each.comm == "asyncrt:super" and each.pid not in ready]


DELETER = """
import asyncio, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        await (await engine.load("web")).destroy()

asyncio.run(main())
"""


async def test_a_deleter_killed_between_hooks_leaves_the_rest_to_gc(
    root: str, engine: asyncrt.Engine, tmp_path: Path
) -> None:
    """Hooks that are done aren't repeated, one that was in progress runs again, none is left out."""
    log, go = tmp_path / "log", tmp_path / "go"
    with Fifo(tmp_path / "here") as here:
        hooks = [
            shell_hook('echo 1 >>"$1"', str(log)),
            shell_hook(
                'echo 2 >>"$1"; test -e "$2" || { echo here >"$3"; sleep 1000; }',
                str(log),
                str(go),
                here.path,
            ),
            shell_hook('echo 3 >>"$1"', str(log)),
        ]
        await engine.create("web", spec=sleeper(hooks={"poststop": hooks}), **NULL)
        with Interpreter(DELETER, root) as deleter:
            assert await here.line() == "here"
            # As long as it is at it, it is busy.
            assert told(await engine.recover()) == [("interrupted deletion", "web", "busy")]
            deleter.kill()
        go.touch()
    await recovered(engine)
    assert log.read_text().split() == ["1", "2", "2", "3"]
    assert names(root) == []


@pytest.mark.parametrize("supervision", ["own", "caller"])
async def test_a_killed_creators_hook_and_init_are_gone_and_gc_removes_the_record(
    root: str, engine: asyncrt.Engine, tmp_path: Path, supervision: str
) -> None:
    with Fifo(tmp_path / "here") as here:
        creator = f"""
import asyncio, sys
import asyncrt
from tests.helpers.containers import shell_hook, sleeper

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        hook = shell_hook("echo here >$1; sleep 1000", {here.path!r})
        spec = sleeper(hooks={{"createRuntime": [hook]}})
        await engine.create("web", spec=spec, supervision={supervision!r}, stdout=asyncrt.DEVNULL)

asyncio.run(main())
"""
        with Interpreter(creator, root) as process:
            assert await here.line() == "here"
            assert told(await engine.recover()) == []  # it lives
            process.kill()
    # All of these end by themselves when their engine does: the hook's runner with its hook, the
    # fork server, the spare pair, the one-shot and the init at its gate.
    await until(lambda: not reality.strays(), "nothing of it runs")
    assert told(await engine.recover()) == [("interrupted creation", "web", "mended")]
    assert names(root) == []


async def test_a_killed_hook_runner_takes_its_hook_along(
    engine: asyncrt.Engine, tmp_path: Path
) -> None:
    """Nobody else bounds it in time, and no record tells of it."""
    with Fifo(tmp_path / "here") as here:
        hook = shell_hook("echo $$ >$1; sleep 1000", here.path)
        creating = asyncio.create_task(
            engine.create("web", spec=sleeper(hooks={"createRuntime": [hook]}), **NULL)
        )
        pid = int(await here.line())
        runner = _procid.stat(pid)
        assert runner is not None
        os.kill(runner.ppid, signal.SIGKILL)
        with pytest.raises(asyncrt.HookFailed, match="its runner was killed"):
            await creating
        await gone(pid)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("started", [False, True])
async def test_processes_whose_record_somebody_took_away_are_ended(
    root: str, engine: asyncrt.Engine, whole: bool, started: bool
) -> None:
    """Those only: not another root's, not those of containers that are there, not what is spare."""
    async with asyncrt.Engine(f"{root}-other") as other:
        theirs = await other.create("web", spec=sleeper(), **NULL)
        os.unlink(f"{other.root}/web.state")  # a stray too, but of that root
        stays = await engine.create("stays", spec=sleeper(), lease=Lease(0), **NULL)
        web = await engine.create("web", spec=sleeper(), **NULL)
        init, supervisor = init_of(web, root), supervisor_of(web, root)
        if started:
            await web.start()
        if whole:
            shutil.rmtree(f"{root}/web.d")
        for name in ("web.state", "web.lock") if whole else ("web.state",):
            os.unlink(f"{root}/{name}")
        dry = await engine.recover(dry_run=True)
        assert ("process without record", "pid", "would mend") in told(dry)
        assert is_alive(init)
        found = told(await engine.recover())
        assert found.count(("process without record", "pid", "mended")) == 1
        await gone(init)
        await gone(supervisor)
        assert told(await engine.recover()) == []
        assert str((await stays.view()).status) == "created"
        await stays.destroy()
        assert [each.outcome for each in (await other.recover()).findings if each.pid] == ["mended"]
        await until(lambda: not reality.containers_processes(), "all is ended")
        assert (await other.list(), theirs.id) == ([], "web")
    shutil.rmtree(f"{root}-other")


async def test_what_a_killed_recovery_left_stopped_is_ended_by_the_next(
    root: str, engine: asyncrt.Engine
) -> None:
    """It is stopped first, so that its pid stays its own, and reaps none of its killed children."""
    web = await engine.create("web", spec=sleeper(), **NULL)
    init, supervisor = init_of(web, root), supervisor_of(web, root)
    os.unlink(f"{root}/web.state")
    os.kill(supervisor, signal.SIGSTOP)
    await in_state(supervisor, "T")
    kill_hard(init)
    await in_state(init, "Z")
    found = told(await engine.recover())
    assert found.count(("process without record", "pid", "mended")) == 1
    await gone(supervisor)


async def test_an_init_of_a_callers_supervision_without_a_record_is_ended(
    root: str, engine: asyncrt.Engine
) -> None:
    web = await engine.create("web", spec=sleeper(), supervision="caller", **NULL)
    stays = await engine.create("stays", spec=sleeper(), supervision="caller", **NULL)
    init = init_of(web, root)
    os.unlink(f"{root}/web.state")
    found = told(await engine.recover())
    assert found.count(("process without record", "pid", "mended")) == 1
    await gone(init)
    assert str((await stays.view()).status) == "created"
    await stays.destroy()


async def test_no_process_is_ended_that_a_broken_record_may_name(
    root: str, engine: asyncrt.Engine
) -> None:
    web = await engine.create("web", spec=sleeper(), **NULL)
    init = init_of(web, root)
    with open(f"{root}/web.state", "r+") as file:
        file.truncate(10)
    assert told(await engine.recover()) == [
        ("broken record", "web", "left"),
        ("process without record", "pid", "left"),
    ]
    assert is_alive(init)
    await engine.delete("web", force=True)
    await gone(init)
    wait_until(lambda: not reality.containers_processes(), "all is ended")
    await recovered(engine)
    assert names(root) == []


async def test_while_a_creation_is_under_way_no_process_is_ended_that_may_be_its_own(
    root: str, engine: asyncrt.Engine, tmp_path: Path
) -> None:
    lost = await engine.create("lost", spec=sleeper(), **NULL)
    init = init_of(lost, root)
    os.unlink(f"{root}/lost.state")
    with Fifo(tmp_path / "here") as here, Fifo(tmp_path / "go") as go:
        hook = shell_hook("echo here >$1; read x <$2", here.path, go.path)
        spec = sleeper(hooks={"createRuntime": [hook]})
        creating = asyncio.create_task(engine.create("web", spec=spec, **NULL))
        assert await here.line() == "here"
        found = told(await engine.recover())
        assert found.count(("process without record", "pid", "busy")) == 2
        assert is_alive(init)
        go.say("go")
        web = await creating
    found = told(await engine.recover())
    assert found.count(("process without record", "pid", "mended")) == 1
    await gone(init)
    await web.start()
    await web.destroy()
    await recovered(engine)
    assert names(root) == []
