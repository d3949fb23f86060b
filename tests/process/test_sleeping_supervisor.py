"""A supervisor sleeps until something happens, and wakes up for whatever does."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys

from asyncrt import Engine, Spec
from asyncrt.container import Supervision
from benchmarks import processes
from tests.helpers.containers import gone, in_state, spare_pair, supervisor_of


async def test_a_creator_that_closes_its_engine_wakes_no_supervisor(root: str) -> None:
    async with Engine(root) as first:
        container = await first.create("idle", spec=Spec.command(["sleep", "60"]))
        await container.start()
        supervisor = supervisor_of(container, root)
        await in_state(supervisor, "S")  # it has closed what it was forked with
        before = set(os.listdir(f"/proc/{supervisor}/fd"))
    # A supervisor that woke up has taken over what init handed it: descriptors more.
    async with Engine(root) as second:
        again = await second.load("idle")
        assert (await again.view()).status == "running"
        assert set(os.listdir(f"/proc/{supervisor}/fd")) == before
        waiting = asyncio.create_task(again.wait())
        await again.kill("TERM")
        assert (await waiting).signal == signal.SIGTERM
        await again.destroy()


async def test_a_sleeping_supervisor_owns_a_fifth_of_what_a_fresh_interpreter_does(
    engine: Engine, root: str
) -> None:
    """A page is its own once it or the fork server wrote to it, if only to a reference count."""
    for index in range(6):
        container = await engine.create(f"small-{index}", spec=Spec.command(["sleep", "60"]))
        await container.start()
    supervisors = processes.supervisors(root)
    for each in supervisors:
        await in_state(each, "S")
    said = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", "import sys; sys.stdout.flush(); print(input('up'))"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert said.stdout is not None
    assert await said.stdout.readexactly(2) == b"up"
    fresh = processes.unique_kilobytes(said.pid)
    assert (await said.communicate(b"bye\n"))[0] == b"bye\n"
    owned = [processes.unique_kilobytes(each) for each in supervisors]
    assert statistics.fmean(owned) <= 0.2 * fresh, owned
    await engine.destroy_many([view.id for view in await engine.list()])


async def test_an_init_that_ends_right_after_it_handed_over_leaves_nobody_spinning(
    engine: Engine,
) -> None:
    cases: list[tuple[Supervision, float | None]]
    cases = [("own", None), ("own", 60.0), ("caller", None)]
    for supervision, deadline in cases:
        container = await engine.create(
            "brief",
            spec=Spec.command(["sleep", "60"]),
            supervision=supervision,
            deadline_seconds=deadline,
        )
        await container.kill("KILL")
        result = await container.wait()
        assert result.exit_code is None
        await container.destroy()


async def test_an_engine_that_dies_before_it_acknowledges_leaves_no_process(
    engine: Engine, root: str
) -> None:
    # What a killed engine's kernel does: the connection closes with the launch unacknowledged.
    await engine.run("warm", spec=Spec.command(["true"]))
    launcher = engine._context.launcher
    for supervision in ("own", "caller"):
        for number in range(5):
            directory = os.path.join(root, f"gone{number}.d")
            os.mkdir(directory, 0o700)
            dir_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            null = os.open("/dev/null", os.O_RDWR)
            try:
                launched = await launcher.launch(
                    supervision, _message(), (dir_fd, null, null, null)
                )
                pidfds = [os.pidfd_open(each["pid"]) for each in (launched.init, launched.launcher)]
            finally:
                os.close(dir_fd)
                os.close(null)
            launched.channel.close()
            for pidfd in pidfds:
                await _ended(pidfd)
            for name in os.listdir(directory):
                os.unlink(os.path.join(directory, name))
            os.rmdir(directory)


async def test_a_creator_that_is_gone_before_init_reports_leaves_nobody_spinning(
    engine: Engine, root: str
) -> None:
    # Init ends the moment it has handed over, before its supervisor looks.
    await spare_pair(engine)
    launcher = engine._context.launcher
    for deadline in (None, 60.0):
        for role in (b"S", b"O"):
            for number in range(5):
                directory = os.path.join(root, f"never{number}.d")
                os.mkdir(directory, 0o700)
                dir_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
                null = os.open("/dev/null", os.O_RDWR)
                message = {"op": "launch", **_message(), "deadline": deadline}
                pair = await spare_pair(engine)
                channel, rest = launcher._ask(role, message, (dir_fd, null, null, null))
                assert not rest
                channel.close()
                os.close(null)
                for pid in pair:
                    await gone(pid)
                for name in os.listdir(dir_fd):
                    os.unlink(name, dir_fd=dir_fd)
                os.close(dir_fd)
                os.rmdir(directory)


def _message() -> dict[str, object]:
    plan = {
        "args": ["sleep", "60"],
        "env": ["PATH=/usr/bin:/bin"],
        "cwd": "/",
        "uid": None,
        "gid": None,
        "groups": None,
        "umask": None,
        "rlimits": [],
        "no_new_privs": False,
        "oom_score_adj": None,
    }
    return {
        "plan": plan,
        "hooks": [],
        "state": "",
        "durable": False,
        "deadline": None,
        "logs": [],
        "instance": "0" * 32,
    }


async def _ended(pidfd: int) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(20):
            await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
