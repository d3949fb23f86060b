"""Gofers that are killed, and whose supervisors, engines and containers are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import _procid
from asyncrt.container.beside import Seat
from asyncrt.container.create_launch import CreateLaunch
from asyncrt.sandbox import Channel, ChannelClosed, Launched
from asyncrt.state import Record, read_record
from tests.helpers import layers, sandboxes
from tests.helpers.capabilities import User
from tests.helpers.containers import SECONDS, Fifo, destroyed, gone, line, record_of
from tests.helpers.layers import exported, owned_rootfs
from tests.helpers.processes import Interpreter, until
from tests.helpers.sandboxes import EVERYBODY, ROOT, USER, config, spec

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_program("busybox"),
]

_SLEEP = ["/bin/sleep", "1000"]
_MEMORY = asyncrt.Overlay.memory("16M")


def _pids(record: Record) -> tuple[int, int, int]:
    """Of init, supervisor and gofer."""
    assert record.init is not None
    assert record.supervisor is not None
    assert record.gofer is not None
    return record.init.pid, record.supervisor.pid, record.gofer.pid


@pytest.mark.parametrize("starts", [True, False])
async def test_a_container_whose_gofer_dies_is_stopped_and_says_why(
    engine: asyncrt.Engine, root: str, rootfs: str, starts: bool
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)), overlay=_MEMORY)
    async with destroyed(container):
        if starts:
            await container.start()
        init, supervisor, gofer = _pids(record_of(container, root))
        os.kill(gofer, signal.SIGKILL)
        result = await container.wait(SECONDS)
        assert (result.reason, result.signal) == ("gofer died", signal.SIGKILL)
        await gone(init)
        await gone(supervisor)  # which has nothing to stay for
        assert (await container.view()).status == "stopped"
        with pytest.raises((asyncrt.ExportFailed, asyncrt.SandboxUnresponsive)):
            await exported(container)


@pytest.mark.needs_cgroups
async def test_a_gofer_is_in_its_supervisors_cgroups_and_in_none_of_a_container(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    """Its supervisor moves out of the fork server's, into one beside the sandbox's containers."""

    def cgroups(pid: int) -> list[str]:
        with open(f"/proc/{pid}/cgroup") as file:
            return file.read().splitlines()

    made = spec(config(rootfs, _SLEEP))
    sandbox = await engine.create_sandbox("pod", spec=made, overlay=_MEMORY)
    try:
        beside = await sandbox.create("box", spec=made, overlay=_MEMORY)
        for each in (sandbox.root, beside):
            _, supervisor, gofer = _pids(record_of(each, root))
            assert cgroups(gofer) == cgroups(supervisor)
            assert any(line.endswith("/_supervisor") for line in cgroups(gofer))
    finally:
        await sandbox.destroy()


async def test_a_gofer_that_dies_after_the_end_changes_nothing_of_that(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    made = spec(config(rootfs, ["/bin/sh", "-c", "exit 5"]))
    container = await engine.create("box", spec=made, overlay=_MEMORY)
    async with destroyed(container):
        await container.start()
        assert (await container.wait(SECONDS)).exit_code == 5
        _, supervisor, gofer = _pids(record_of(container, root))
        assert _procid.stat(supervisor) is not None
        os.kill(gofer, signal.SIGKILL)
        await gone(supervisor)
        result = await container.wait(SECONDS)
        assert (result.exit_code, result.reason) == (5, "exit")
        with pytest.raises((asyncrt.ExportFailed, asyncrt.SandboxUnresponsive)):
            await exported(container)


async def test_a_gofer_ends_with_its_supervisor_and_the_container_goes_on(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    script = "read line; echo $line > /work/f; cat /work/f; exec sleep 1000"
    container = await engine.create(
        "box",
        spec=spec(config(rootfs, ["/bin/sh", "-c", script])),
        overlay=_MEMORY,
        stdin=asyncrt.PIPE,
        stdout=asyncrt.PIPE,
    )
    async with destroyed(container):
        await container.start()
        _, supervisor, gofer = _pids(record_of(container, root))
        os.kill(supervisor, signal.SIGKILL)
        await gone(gofer)
        assert (await container.view()).status == "running"
        assert container.stdin is not None
        container.stdin.write(b"still\n")
        assert await line(container.stdout) == "still"
        with pytest.raises(asyncrt.SandboxUnresponsive):
            await exported(container)


async def test_a_stopped_supervisor_and_gofer_are_killed_by_destroy(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)), overlay=_MEMORY)
    await container.start()
    pids = _pids(record_of(container, root))
    for pid in pids[1:]:
        os.kill(pid, signal.SIGSTOP)
    await container.destroy(timeout=0.5)
    for pid in pids:
        await gone(pid)
    assert await engine.list() == []


_MAKE = """
import asyncio, json, sys
import asyncrt
async def main():
    root, made, directory = sys.argv[1:]
    async with asyncrt.Engine(root) as engine:
        spec = asyncrt.Spec.decode(made.encode())
        overlay = asyncrt.Overlay.disk(directory) if directory else asyncrt.Overlay.memory("16M")
        container = await engine.create("box", spec=spec, overlay=overlay)
        await container.start()
        print("started", flush=True)
        await asyncio.sleep(1000)
asyncio.run(main())
"""


@pytest.mark.crash
@pytest.mark.parametrize("who", EVERYBODY)
async def test_whoever_is_killed_no_mount_stays_and_gc_and_delete_remove_the_rest(
    root: str, open_directory: Path, ordinary_user: User, who: str
) -> None:
    rootfs = owned_rootfs(str(open_directory / "rootfs"), who, ordinary_user)
    place = open_directory / "layers"
    place.mkdir()
    args = ["/bin/sh", "-c", "mkdir -p /work/a/b; chmod 0 /work/a; exec sleep 1000"]
    made = config(rootfs, args, who=who, user=ordinary_user)
    ids: dict[str, Any] = {}
    if who == USER:
        ids = {"user": ordinary_user.uid, "group": ordinary_user.gid}
        for path in (root, str(place)):
            os.chown(path, ordinary_user.uid, ordinary_user.gid)
    arguments = (root, json.dumps(made), str(place))
    with Interpreter(_MAKE, *arguments, flags=("-B",), **ids) as maker:
        assert await maker.next_line() == "started"
        record = read_record(root, "box")
        assert os.listdir(place) == [os.path.basename(record.layer or "")]
        # Nobody may look into it, least of all root of its user namespace: not even its user owns it.
        assert os.stat(f"/proc/{_pids(record)[2]}/maps").st_uid == 0
        for pid in (maker.pid, *reversed(_pids(record))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for pid in _pids(record):
        await gone(pid)
    assert sandboxes.mounts_below(str(open_directory), layers.MOUNTED) == []
    delete = """
import asyncio, sys
import asyncrt
async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        await engine.recover()
        print([each.status.value for each in await engine.list()], flush=True)
        await engine.delete("box", force=True)
        print(await engine.list(), flush=True)
asyncio.run(main())
"""
    with Interpreter(delete, root, flags=("-B",), **ids) as deleter:
        assert await deleter.next_line() == "['stopped']"
        assert await deleter.next_line() == "[]"
        assert deleter.wait() == 0
    assert os.listdir(place) == []
    os.chown(root, os.geteuid(), os.getegid())


async def _gofer_of_one_being_made(reached: Fifo) -> int:
    """The pid of the only gofer below us."""
    import psutil

    assert await reached.line() == "here"
    below = psutil.Process().children(recursive=True)
    (found,) = [each.pid for each in below if each.name() == "asyncrt:gofer"]
    return int(found)


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
@pytest.mark.parametrize("victim", ["creator", "gofer"])
async def test_a_creation_that_is_killed_leaves_no_gofer_and_no_layer(
    root: str, rootfs: str, open_directory: Path, tmp_path: Path, kind: str, victim: str
) -> None:
    with Fifo(tmp_path / "reached") as reached:
        hook = {
            "path": "/bin/sh",
            "args": ["sh", "-c", "echo here > $1; sleep 1000", "sh", reached.path],
        }
        made = {**config(rootfs, _SLEEP), "hooks": {kind: [hook]}}
        place = open_directory / "layers"
        place.mkdir()
        with Interpreter(_MAKE, root, json.dumps(made), str(place)) as creator:
            gofer = await _gofer_of_one_being_made(reached)
            assert len(os.listdir(place)) == 1
            os.kill(gofer if victim == "gofer" else creator.pid, signal.SIGKILL)
            if victim == "gofer":
                # Nobody hears of it before the creation goes on, which is in the hook's hands.
                os.kill(creator.pid, signal.SIGKILL)
        await gone(gofer)
    async with asyncrt.Engine(root) as engine:
        await engine.recover()
        assert await engine.list() == []
    assert os.listdir(place) == []
    assert sandboxes.mounts_below(rootfs) == []


async def test_a_create_that_is_cancelled_leaves_no_gofer_and_no_layer(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path, tmp_path: Path
) -> None:
    place = open_directory / "layers"
    place.mkdir()
    with Fifo(tmp_path / "reached") as reached:
        script = "echo here > $1; sleep 1000"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script, "sh", reached.path]}
        made = {**config(rootfs, _SLEEP), "hooks": {"createContainer": [hook]}}
        overlay = asyncrt.Overlay.disk(place)
        creating = asyncio.create_task(engine.create("box", spec=spec(made), overlay=overlay))
        gofer = await _gofer_of_one_being_made(reached)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        await gone(gofer)
    assert os.listdir(place) == []


async def test_gc_leaves_a_living_gofer_alone(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    made = spec(config(rootfs, ["/bin/true"]))
    container = await engine.create("box", spec=made, overlay=_MEMORY)
    async with destroyed(container):
        await container.start()
        await container.wait(SECONDS)
        report = await engine.recover()
        assert [each for each in report.findings if each.kind == "process"] == []
        assert await exported(container)


async def _pod(
    engine: asyncrt.Engine, rootfs: str
) -> tuple[asyncrt.Sandbox, asyncrt.Container, asyncrt.Container]:
    """A sandbox with two containers beside its root, all of them with a layer, and running."""
    made = spec(config(rootfs, ["/bin/sh", "-c", "echo > /work/f; exec sleep 1000"]))
    pod = await engine.create_sandbox("pod", spec=made, overlay=_MEMORY)
    one = await pod.create("one", spec=made, overlay=_MEMORY)
    two = await pod.create("two", spec=made, overlay=_MEMORY)
    for each in (pod.root, one, two):
        await each.start()
    return pod, one, two


async def test_a_container_of_several_whose_gofer_dies_stops_and_the_others_go_on(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    pod, one, two = await _pod(engine, rootfs)
    try:
        gofers = {each: _pids(record_of(each, root))[2] for each in (pod.root, one, two)}
        assert len(set(gofers.values())) == 3
        shown = {each.pid for each in await two.processes()}
        assert shown.isdisjoint(gofers.values())
        os.kill(gofers[one], signal.SIGKILL)
        assert (await one.wait(SECONDS)).reason == "gofer died"
        for each in (pod.root, two):
            assert (await each.view()).status == "running"
            assert await exported(each)
        # One that has ended keeps its layer until it is destroyed, beside the others.
        await two.kill("KILL")
        assert (await two.wait(SECONDS)).reason == "signal"
        assert await exported(two)
        await one.destroy()
        await two.destroy()
        await gone(gofers[two])
        assert (await pod.root.view()).status == "running"
    finally:
        await pod.destroy()
    assert await engine.list() == []


async def test_the_roots_gofer_dying_stops_the_whole_sandbox(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    pod, one, two = await _pod(engine, rootfs)
    try:
        _, supervisor, gofer = _pids(record_of(pod.root, root))
        os.kill(gofer, signal.SIGKILL)
        assert (await pod.root.wait(SECONDS)).reason == "gofer died"
        for each in (one, two):
            assert (await each.wait(SECONDS)).reason == "sandbox ended"
            assert await exported(each)  # until they are destroyed
        # With the root's record the rest goes; nobody waits for who would hold it up.
        await pod.root.destroy(timeout=5)
        await gone(supervisor)
    finally:
        await pod.destroy()
        for each in (one, two):
            await each.destroy()
    assert await engine.list() == []


@pytest.mark.parametrize("who", [ROOT])
async def test_many_lives_leave_no_gofer_mount_or_directory(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path, who: str, full: bool
) -> None:
    made = spec(config(rootfs, ["/bin/sh", "-c", "echo > /work/f"], who=who))
    kinds = (_MEMORY, asyncrt.Overlay.disk(open_directory))
    for number in range(100 if full else 4):
        done = await engine.run(f"box{number}", spec=made, overlay=kinds[number % 2])
        assert done.exit.exit_code == 0
    assert os.listdir(open_directory) == []

    def none_left() -> bool:
        found = (_procid.stat(int(each)) for each in os.listdir("/proc") if each.isdigit())
        ours = [each for each in found if each is not None and each.comm == "asyncrt:gofer"]
        return not [each for each in ours if each.ppid == os.getpid()]

    await until(none_left, "no gofer is left")
    assert sandboxes.mounts_below(str(open_directory), layers.MOUNTED) == []


async def test_an_export_whose_supervisor_is_killed_before_it_answers_says_so(
    engine: asyncrt.Engine, root: str, rootfs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)), overlay=_MEMORY)
    async with destroyed(container):
        await container.start()
        _, supervisor, _ = _pids(record_of(container, root))
        os.kill(supervisor, signal.SIGSTOP)
        asked = asyncio.Event()
        send = Channel.send

        async def sends(channel: Channel, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
            await send(channel, message, fds)
            asked.set()

        monkeypatch.setattr(Channel, "send", sends)
        exporting = asyncio.create_task(exported(container))
        async with asyncio.timeout(SECONDS):
            await asked.wait()
        os.kill(supervisor, signal.SIGKILL)
        with pytest.raises(asyncrt.SandboxUnresponsive):
            await exporting
        assert (await container.view()).status == "running"


@pytest.mark.parametrize("kind", ["disk", "upper"])
async def test_an_init_killed_on_its_way_leaves_its_layer_to_nobody(
    engine: asyncrt.Engine,
    rootfs: str,
    open_directory: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second try makes its own: it would fail for a directory that the first has left."""
    ask = CreateLaunch._ask
    asked = []

    async def killed_once(self: CreateLaunch, dir_fd: int, seat: Seat | None) -> Launched:
        launched = await ask(self, dir_fd, seat)
        asked.append(launched)
        if len(asked) == 1:
            for each in (launched.launcher, launched.init):
                os.kill(each["pid"], signal.SIGKILL)
            assert launched.gofer is not None
            await gone(launched.gofer["pid"])
            await engine._context.launcher.abandon(launched.channel)
            raise ChannelClosed
        return launched

    monkeypatch.setattr(CreateLaunch, "_ask", killed_once)
    place = open_directory / "layers"
    place.mkdir()
    of = {"disk": asyncrt.Overlay.disk(place), "upper": asyncrt.Overlay.upper(place / "kept")}
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)), overlay=of[kind])
    async with destroyed(container):
        assert len(asked) == 2
        assert await exported(container)
    assert os.listdir(place) == ([] if kind == "disk" else ["kept"])
