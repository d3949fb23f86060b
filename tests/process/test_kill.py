"""kill: exactly the processes that are meant, proven to be the container's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import msgspec
import pytest

import asyncrt
from asyncrt import Engine, Status, _procid
from tests.helpers.containers import (
    Fifo,
    destroyed,
    gone,
    in_state,
    init_of,
    is_alive,
    line,
    record_of,
    shell,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import until
from tests.helpers.records import names


@pytest.mark.parametrize(
    "given", ["USR1", "usr1", "SIGUSR1", "sigUsr1", " USR1 ", "10", 10, signal.SIGUSR1], ids=repr
)
async def test_signals_are_taken_by_name_in_any_case_and_by_number(
    given: str | int, engine: Engine
) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as container:
        await container.kill(given)
        assert (await container.wait()).signal == signal.SIGUSR1


async def test_realtime_signals_have_names(engine: Engine) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as container:
        await container.kill("RTMIN+3")
        assert (await container.wait()).signal == signal.SIGRTMIN + 3


@pytest.mark.parametrize(
    "given",
    ["", "NOSUCH", "SIG", "SIG_DFL", "SIGSIGTERM", "65", 0, -1, 65, 10**9, "TERM\nx", "١٥"],
    ids=repr,
)
async def test_an_unknown_signal_is_one_clear_error(given: str | int, engine: Engine) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as container:
        with pytest.raises(asyncrt.SpecInvalid) as caught:
            await container.kill(given)
        assert "there is no signal" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert (await container.view()).status is Status.RUNNING


async def test_by_default_it_is_term_to_init_alone(engine: Engine) -> None:
    script = "(trap 'echo child' TERM; echo up; sleep 1000 & wait) & trap 'exit 9' TERM; wait"
    container = await started(engine, "web", shell(script), stdout=asyncrt.PIPE)
    assert await line(container.stdout) == "up"
    await container.kill()
    assert (await container.wait()).exit_code == 9
    assert await line(container.stdout) == ""
    await container.destroy()


async def test_all_reaches_every_process_whatever_its_session(engine: Engine) -> None:
    one = "sh -c 'trap \"echo one\" USR1; echo up; while :; do sleep 1000 & wait $!; done'"
    two = "setsid sh -c 'trap \"echo two\" USR1; echo up; while :; do sleep 1000 & wait $!; done'"
    script = f"trap 'echo init' USR1; {one} & {two} & while :; do wait; done"
    container = await started(engine, "web", shell(script), stdout=asyncrt.PIPE)
    for _ in range(2):
        assert await line(container.stdout) == "up"
    await container.kill("USR1", all=True)
    assert {await line(container.stdout) for _ in range(3)} == {"init", "one", "two"}
    await container.destroy()


async def test_all_with_kill_returns_when_nothing_is_alive(engine: Engine) -> None:
    script = "setsid sleep 1000 & sleep 1000 & echo $!; wait"
    container = await started(engine, "web", shell(script), stdout=asyncrt.PIPE)
    await line(container.stdout)
    pids = [each.pid for each in await container.processes()]
    assert len(pids) == 3
    await container.kill("KILL", all=True)
    assert not [pid for pid in pids if is_alive(pid)]
    assert (await container.view()).status is Status.STOPPED
    await container.kill("KILL", all=True)  # allowed after init's death, too
    await container.destroy()


async def test_a_pid_hits_that_process_only_and_a_group_that_group_only(engine: Engine) -> None:
    script = (
        "sleep 1000 & echo $!; setsid sh -c 'sleep 1000 & echo $$ $!; wait' & wait; exec sleep 1000"
    )
    container = await started(engine, "web", shell(script), stdout=asyncrt.PIPE)
    told = [(await line(container.stdout)).split() for _ in range(2)]
    ((child,), (leader, member)) = sorted(told, key=len)
    await container.kill("KILL", pid=int(child))
    await gone(int(child))
    assert is_alive(int(leader))
    assert is_alive(int(member))
    await container.kill("KILL", pgid=int(leader))
    await gone(int(leader))
    await gone(int(member))
    assert (await container.view()).status is Status.RUNNING
    await container.destroy()


async def test_a_pid_or_group_of_somebody_else_is_refused(engine: Engine) -> None:
    """HAZARDS 18."""
    web = await started(engine, "web", sleeper())
    other = await started(engine, "other", sleeper())
    strangers = [
        init_of(other, engine.root),
        supervisor_of(web, engine.root),
        supervisor_of(other, engine.root),
        os.getpid(),
        1,
        2**22 + 1,
        0,
        -1,
    ]
    for pid in strangers:
        with pytest.raises(asyncrt.ProcessNotFound):
            await web.kill("KILL", pid=pid)
        with pytest.raises(asyncrt.ProcessNotFound):
            await web.kill("KILL", pgid=pid)
    assert (await web.view()).status is Status.RUNNING
    assert (await other.view()).status is Status.RUNNING
    with pytest.raises(asyncrt.SpecInvalid):
        await web.kill("TERM", pid=1, all=True)
    await web.destroy()
    await other.destroy()


async def test_a_process_execd_can_be_killed_by_pid_and_it_hits_only_that(
    engine: Engine,
) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as container:
        one, two = [await container.exec(["/bin/sleep", "1000"]) for _ in range(2)]
        await container.kill("TERM", pid=one.pid)
        assert (await one.wait()).signal == signal.SIGTERM
        assert is_alive(two.pid)
        await two.kill()
        assert (await two.wait()).signal == signal.SIGKILL
        await two.kill()  # one that has ended is fine


async def test_a_reused_pid_is_never_signalled(engine: Engine) -> None:
    """HAZARDS 18: an identity with another start time is another process."""
    container = await started(engine, "web", sleeper())
    pid = init_of(container, engine.root)
    found = record_of(container, engine.root).init
    assert found is not None
    assert _procid.send(found, 0)
    assert not _procid.send(msgspec.structs.replace(found, start=found.start - 1), signal.SIGKILL)
    assert is_alive(pid)
    await container.destroy()


async def test_kill_works_on_a_paused_container_at_once(engine: Engine) -> None:
    """HAZARDS 22."""
    container = await started(engine, "web", sleeper())
    await container.pause()
    await container.kill("KILL")
    result = await container.wait()
    assert result.signal == 9
    assert (await container.view()).status is Status.STOPPED
    await container.destroy()


async def test_term_on_a_paused_container_arrives_at_resume(engine: Engine) -> None:
    script = "trap 'echo got; exit 3' TERM; echo up; while :; do sleep 1000 & wait; done"
    container = await started(engine, "web", shell(script), stdout=asyncrt.PIPE)
    assert await line(container.stdout) == "up"
    await container.pause()
    await container.kill("TERM")
    with pytest.raises(TimeoutError):
        await container.wait(0.05)
    assert (await container.view()).status is Status.PAUSED
    await container.resume()
    assert await line(container.stdout) == "got"
    assert (await container.wait()).exit_code == 3
    await container.destroy()


async def test_cont_does_not_end_a_pause_behind_the_records_back(engine: Engine) -> None:
    container = await started(engine, "web", sleeper())
    init = init_of(container, engine.root)
    await container.pause()
    for options in ({}, {"all": True}, {"pid": init}, {"pgid": init}):
        await container.kill("CONT", **options)
    await in_state(init, "T")
    assert (await container.view()).status is Status.PAUSED
    await container.resume()
    await in_state(init, "S")
    await container.destroy()


@pytest.mark.parametrize("how", ["kill all", "destroy", "stop"])
async def test_a_fork_bomb_is_killed_completely(how: str, engine: Engine, tmp_path: Path) -> None:
    # Each process forks another, in a session of its own, for each line it reads: there is one line
    # for each process that there may ever be. Most come when the killing begins.
    script = 'echo x >"$1"; while read t; do setsid sh -c "$3" sh "$1" "$2" "$3" & done <"$2"'
    with Fifo(tmp_path / "alive") as alive, Fifo(tmp_path / "tokens") as tokens:
        spec = shell(script, alive.path, tokens.path, script)
        container = await started(engine, "web", spec)
        supervisor = supervisor_of(container, engine.root)
        tokens.say("\n" * 49)
        for _ in range(40):
            await alive.line()
        tokens.say("\n" * 199)
        if how == "destroy":
            await container.destroy()
        elif how == "stop":
            await container.stop(0)
        else:
            await container.kill("KILL", all=True)
        await gone(supervisor)
        assert not _users_of(tokens.path)
        if how != "destroy":
            await container.destroy()
    assert names(engine.root) == []


def _users_of(path: str) -> list[int]:
    """Other processes that have the file open or on their command line."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if pid == os.getpid():
            continue
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if path.encode() in command:
            found.append(pid)
    return found


# --- stop

STUBBORN = "trap '' TERM; echo up; while :; do sleep 1000; done"


async def test_stop_is_term_and_a_program_that_ends_by_itself_keeps_its_exit_code(
    engine: Engine,
) -> None:
    script = "trap 'exit 7' TERM; echo up; while :; do sleep 1000 & wait; done"
    container = await started(engine, "web", shell(script), stdout=asyncrt.PIPE)
    assert await line(container.stdout) == "up"
    await container.stop()
    assert (await container.wait()).exit_code == 7
    assert (await container.view()).status is Status.STOPPED
    with pytest.raises(asyncrt.InvalidTransition):
        await container.stop()
    await container.destroy()


async def test_stop_kills_the_whole_tree_after_the_grace(engine: Engine) -> None:
    # All are there before it says so.
    script = "trap '' TERM; setsid sleep 1000 & sleep 1000 & echo up; wait"
    container = await started(engine, "web", shell(script), stdout=asyncrt.PIPE)
    assert await line(container.stdout) == "up"
    pids = [each.pid for each in await container.processes()]
    assert len(pids) == 3
    await container.stop(0.05)
    assert not [pid for pid in pids if is_alive(pid)]
    assert (await container.wait()).signal == 9
    await container.destroy()


@pytest.mark.parametrize("paused", [False, True])
async def test_stop_of_a_created_container(paused: bool, engine: Engine) -> None:
    container = await engine.create("web", spec=sleeper())
    if paused:
        await container.pause()
    await container.stop(5)
    result = await container.wait()
    assert result.signal in {9, 15}
    assert result.started_at is None
    await container.destroy()


async def test_stop_of_a_paused_container_is_immediate(engine: Engine) -> None:
    """HAZARDS 22."""
    container = await started(engine, "web", sleeper())
    await container.pause()
    async with asyncio.timeout(10):
        await container.stop(3600)
    assert (await container.wait()).signal == 9
    await container.destroy()


async def test_no_lock_is_held_during_the_grace(engine: Engine) -> None:
    container = await started(engine, "web", shell(STUBBORN), stdout=asyncrt.PIPE)
    assert await line(container.stdout) == "up"
    stopping = asyncio.create_task(container.stop(3600))
    users = engine._context.watches._users
    await until(lambda: bool(users), "stop waits for the end")
    await container.pause(timeout=5)
    await container.resume(timeout=5)
    await container.kill("KILL")
    await stopping
    await container.destroy()


@pytest.mark.parametrize("grace", [-1, float("nan")])
async def test_a_grace_that_is_no_time_is_refused(grace: float, engine: Engine) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as container:
        with pytest.raises(asyncrt.SpecInvalid):
            await container.stop(grace)
        assert (await container.view()).status is Status.RUNNING


async def test_a_cancelled_stop_leaves_the_rest_to_the_caller(engine: Engine) -> None:
    container = await started(engine, "web", shell(STUBBORN), stdout=asyncrt.PIPE)
    assert await line(container.stdout) == "up"
    stopping = asyncio.create_task(container.stop(3600))
    users = engine._context.watches._users
    await until(lambda: bool(users), "stop waits for the end")
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert (await container.view()).status is Status.RUNNING
    await container.destroy()


# --- deadlines


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_a_deadline_is_a_result_and_takes_everything_along(
    seconds: float, engine: Engine
) -> None:
    spec = shell("trap '' TERM; setsid sleep 1000 & while :; do sleep 1000; done")
    done = await engine.run("web", spec=spec, deadline_seconds=seconds)
    assert (done.exit.exit_code, done.exit.signal, done.exit.reason) == (None, 9, "deadline")
    assert names(engine.root) == []


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan")])
async def test_a_deadline_that_is_no_time_is_refused_and_leaves_nothing(
    seconds: float, engine: Engine
) -> None:
    with pytest.raises(asyncrt.SpecInvalid):
        await engine.create("web", spec=sleeper(), deadline_seconds=seconds)
    assert names(engine.root) == []
    async with destroyed(await started(engine, "web", sleeper())) as container:
        with pytest.raises(asyncrt.SpecInvalid):
            await container.exec(["/bin/true"], deadline_seconds=seconds)


@pytest.mark.parametrize("seconds", [float("inf"), 1e10, 1e300])
async def test_a_deadline_far_away_is_no_trouble(seconds: float, engine: Engine) -> None:
    done = await engine.run("web", spec=shell("exit 3"), deadline_seconds=seconds)
    assert (done.exit.exit_code, done.exit.reason) == (3, "exit")


async def test_a_deadline_counts_from_the_start_not_from_create(engine: Engine) -> None:
    container = await engine.create("web", spec=sleeper(), deadline_seconds=0.2)
    with pytest.raises(TimeoutError):
        await container.wait(0.25)
    assert (await container.view()).status is Status.CREATED
    await container.start()
    assert (await container.wait()).reason == "deadline"
    await container.destroy()


async def test_a_deadline_reaches_a_paused_container(engine: Engine) -> None:
    paused, seconds = False, 0.1
    while not paused:  # on a slow machine it may be over before it can be paused
        container = await started(engine, "web", sleeper(), deadline_seconds=seconds)
        with contextlib.suppress(asyncrt.InvalidTransition):
            await container.pause()
            paused = True
        result = await container.wait()
        assert (result.signal, result.reason) == (9, "deadline")
        await container.destroy()
        seconds *= 2
