"""A create that fails leaves nothing, at whatever stage, and harms nobody who has the id."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import asyncrt
from asyncrt import PIPE, Engine, Status, StorageFailed, _paths
from asyncrt.container import Supervision, create_hooks, create_launch, destroy
from asyncrt.launch import frames
from asyncrt.locking import _queue
from asyncrt.sandbox import Channel, ChannelClosed, Launched, unix
from asyncrt.sandbox.launcher import Launcher
from asyncrt.state import StateFile
from tests.helpers.containers import (
    destroyed,
    gone,
    is_alive,
    shell_hook,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import Gate, Interpreter, until
from tests.helpers.records import names


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"cwd": "/no/such"}, "process.cwd"),
        ({"cwd": "/etc/passwd"}, "process.cwd"),
        ({"rlimits": {"NOFILE": (2**40, 2**40)}}, "process.rlimits[0]"),
    ],
    ids=repr,
)
async def test_what_init_cannot_become_makes_create_fail_with_the_fields_name(
    options: dict[str, object], what: str, engine: Engine
) -> None:
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("web", spec=sleeper(**options), stdout=PIPE)
    assert caught.value.what == what
    assert caught.value.errno
    assert "\n" not in str(caught.value)
    assert names(engine.root) == []


STAGES = [
    "make_directory",
    "run",
    "hooks",
    "first save",
    "second save",
    "launch message",
]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("supervision", ["own", "caller"])
async def test_a_failure_at_any_stage_leaves_nothing(
    stage: str,
    supervision: Supervision,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HAZARDS 12, 13."""
    saves = 0

    async def save(self: StateFile, record: object) -> None:
        nonlocal saves
        saves += 1
        if saves == (1 if stage == "first save" else 2):
            raise StorageFailed(path=engine.root, errno=errno.ENOSPC)
        await original(self, record)  # type: ignore[arg-type]  # a patched method

    def fail(*args: object, **kwargs: object) -> None:
        raise StorageFailed(path=engine.root, errno=errno.ENOSPC)

    original = StateFile.save_locked
    with monkeypatch.context() as patched:
        if stage.endswith("save"):
            patched.setattr(StateFile, "save_locked", save)
        elif stage == "hooks":
            patched.setattr(create_hooks.CreateHooks, "run", fail)
        elif stage == "launch message":
            patched.setattr(create_launch.CreateLaunch, "_message", fail)
        else:
            patched.setattr(create_launch.CreateLaunch, stage, fail)
        with pytest.raises(asyncrt.AsyncrtError):
            await engine.create("web", spec=sleeper(), stdin=PIPE, supervision=supervision)
    assert names(engine.root) == []
    async with destroyed(await engine.create("web", spec=sleeper())) as container:
        assert (await container.view()).status is Status.CREATED


@pytest.mark.parametrize("supervision", ["own", "caller"])
async def test_a_create_that_cannot_acknowledge_its_init_fails_and_leaves_nothing(
    supervision: Supervision, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An init that isn't told ends: a create that hides it has made a stopped container."""
    send = frames.send

    def sending(sock: socket.socket, frame: bytes, fds: Sequence[int] = ()) -> int:
        if frame == frames.ACKNOWLEDGEMENT:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return send(sock, frame, fds)

    with monkeypatch.context() as patched:
        patched.setattr(frames, "send", sending)
        with pytest.raises(asyncrt.StartFailed) as caught:
            await engine.create("web", spec=sleeper(), supervision=supervision)
    assert caught.value.errno == errno.ENOMEM
    assert names(engine.root) == []


async def test_what_a_creator_left_before_its_first_save_is_no_obstacle(engine: Engine) -> None:
    """HAZARDS 13: killed between the directory and the record."""
    os.mkdir(f"{engine.root}/web.d")
    Path(engine.root, "web.d", "config.json").write_text("{}")
    Path(engine.root, "web.lock").touch(0o600)
    async with destroyed(await started(engine, "web", sleeper())) as container:
        assert (await container.view()).status is Status.RUNNING


async def test_a_fork_server_that_cannot_be_started_is_an_error_and_leaves_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ("/no/such/python", "/bin/false"):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", wrong)
            with pytest.raises((asyncrt.StartFailed, asyncrt.SandboxUnresponsive)):
                await engine.create("web", spec=sleeper())
        assert names(engine.root) == []
    async with destroyed(await engine.create("web", spec=sleeper())):
        pass


@pytest.mark.parametrize("gated", [False, True])
async def test_running_out_of_descriptors_is_an_error_and_leaves_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, *, gated: bool
) -> None:
    await (await engine.create("web", spec=sleeper())).destroy()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    failed = 0
    with every_descriptor_below_the_highest_taken() as used:
        for spare in range(1, 16):
            monkeypatch.setattr(_queue, "_skips", [_queue.SKIPS if gated else 0] * 1024)
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, before[1]))
            (outcome,) = await asyncio.gather(
                engine.create("web", spec=sleeper(), stdin=PIPE, stdout=PIPE),
                return_exceptions=True,
            )
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            if isinstance(outcome, asyncrt.Container):
                await outcome.destroy()
            else:
                failed += 1
                assert isinstance(outcome, OSError | asyncrt.StartFailed), repr(outcome)
                assert outcome.errno == errno.EMFILE
            assert names(engine.root) == [], f"with {spare} descriptors to spare"
    assert 0 < failed < 15


@contextlib.contextmanager
def every_descriptor_below_the_highest_taken() -> Iterator[int]:
    """How many descriptors are open then: a lower limit is one that counts."""
    highest = max(map(int, os.listdir("/proc/self/fd")))
    fillers = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)]
    while fillers[-1] < highest:
        fillers.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    try:
        yield fillers[-1] + 1
    finally:
        for each in fillers:
            os.close(each)


async def test_a_hook_runner_killed_during_create_makes_it_fail_and_roll_back(
    engine: Engine, tmp_path: Path
) -> None:
    mark = tmp_path / "pid"
    hook = shell_hook('echo $PPID $$ >"$1.new"; mv "$1.new" "$1"; sleep 1000', str(mark))
    creating = asyncio.create_task(
        engine.create("web", spec=sleeper(hooks={"createRuntime": [hook]}))
    )
    await until(mark.exists, "the hook runs")
    runner, orphan = map(int, mark.read_text().split())
    os.kill(runner, signal.SIGKILL)  # what runs the hook for the engine
    with pytest.raises(asyncrt.HookFailed) as caught:
        await creating
    assert "killed" in caught.value.why
    await gone(orphan)  # the process above the runner sees to that
    assert names(engine.root) == []


async def test_a_creation_that_was_ended_before_it_was_launched_isnt_begun_again(
    engine: Engine, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisor has written down how it ended, and one instance has one end.

    The forced delete that told it so is to find nothing, and no waiter is to hear two ends.
    """
    launch = Launcher.launch
    launches = 0

    async def ended_meanwhile(self: Launcher, *args: Any) -> Launched:
        nonlocal launches
        launches += 1
        launched = await launch(self, *args)
        meddler = Channel(unix.connect(f"{root}/web.d", _paths.CONTROL))
        meddler.send_nowait({"op": "end", "req": 0})
        await launched.channel.over.wait()  # as it would be, had it not yet said "launched"
        meddler.close()
        raise ChannelClosed

    monkeypatch.setattr(Launcher, "launch", ended_meanwhile)
    with pytest.raises(asyncrt.SandboxUnresponsive):
        await engine.create("web", spec=sleeper())
    assert launches == 1
    assert names(root) == []


async def test_a_duplicate_never_harms_the_live_one(engine: Engine) -> None:
    """HAZARDS 12."""
    async with destroyed(await started(engine, "web", sleeper())) as container:
        before = names(engine.root)
        for options in ({}, {"supervision": "caller"}, {"stdin": PIPE}):
            with pytest.raises(asyncrt.ContainerExists) as caught:
                await engine.create("web", spec=sleeper(), **options)
            assert caught.value.container_id == "web"
        with pytest.raises(asyncrt.ContainerExists):
            await engine.run("web", spec=sleeper())
        assert names(engine.root) == before
        assert (await container.view()).status is Status.RUNNING


async def test_of_fifty_tasks_that_create_one_id_exactly_one_wins_and_lives(
    engine: Engine,
) -> None:
    """HAZARDS 12."""
    done = await asyncio.gather(
        *(engine.create("web", spec=sleeper()) for _ in range(50)), return_exceptions=True
    )
    (winner,) = [each for each in done if isinstance(each, asyncrt.Container)]
    assert sum(isinstance(each, asyncrt.ContainerExists) for each in done) == 49
    await winner.start()
    assert (await winner.view()).status is Status.RUNNING
    await winner.destroy()


CREATOR = """
import asyncio, sys
import asyncrt
from tests.helpers.processes import Gate

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        spec = asyncrt.Spec.command(["/bin/sleep", "1000"])
        await (await engine.create("warm" + sys.argv[3], spec=spec)).destroy()
        print("ready", flush=True)
        Gate.wait(int(sys.argv[2]))
        done = await asyncio.gather(
            *(engine.create("web", spec=spec) for _ in range(7)), return_exceptions=True
        )
        print(*sorted(getattr(each, "instance", type(each).__name__) for each in done), flush=True)

asyncio.run(main())
"""


async def test_of_eight_processes_that_create_one_id_exactly_one_wins_and_lives(
    engine: Engine,
) -> None:
    """HAZARDS 12: 8 processes with 7 tasks each."""
    gate = Gate()
    creators = [
        Interpreter(CREATOR, engine.root, gate.fd, n, pass_fds=(gate.fd,)) for n in range(8)
    ]
    try:
        for each in creators:
            assert await each.next_line() == "ready"
        gate.open()
        words = [word for each in creators for word in (await each.next_line()).split()]
        for each in creators:
            assert each.wait() == 0
    finally:
        for each in creators:
            each.kill()
    (instance,) = [word for word in words if word != "ContainerExists"]
    assert len(words) == 56
    container = await engine.load("web")
    assert container.instance == instance
    assert is_alive(supervisor_of(container, engine.root))
    await container.start()
    await container.destroy()
    assert names(engine.root) == []


async def test_many_creates_and_destroys_of_one_id_by_many_tasks_end_clean(
    engine: Engine,
) -> None:
    async def churn() -> int:
        made = 0
        for _ in range(5):
            try:
                container = await engine.create("web", spec=sleeper())
            except asyncrt.ContainerExists:
                await engine.delete("web", force=True)
            else:
                made += 1
                await container.destroy()
        return made

    assert sum(await asyncio.gather(*(churn() for _ in range(8)))) > 0
    assert names(engine.root) == []


async def test_a_supervisor_that_ends_before_it_can_be_asked_to_leaves_nothing_to_destroy() -> None:
    """Its socket is connected to until the very end; what is sent then is refused."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    channel = Channel(ours)
    theirs.close()
    context: Any = SimpleNamespace(watching=lambda _: contextlib.nullcontext(channel))
    record: Any = SimpleNamespace(id="web", sandbox="web", supervisor=None, gofer=None)
    await destroy._ask_supervisor(context, record, 20, ending=False)
    assert channel.closed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"spec": "sleep"}, "spec='sleep' is no Spec"),
        ({"spec": sleeper(), "overlay": "memory"}, "'memory' is no Overlay"),
    ],
    ids=["spec", "overlay"],
)
async def test_what_is_of_the_wrong_type_is_named(
    engine: Engine, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(asyncrt.SpecInvalid) as caught:
        await engine.create("web", **arguments)
    assert said in str(caught.value)
    assert names(engine.root) == []
