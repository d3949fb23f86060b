"""Sandboxes whose makers are killed, or that come and go many times: nothing is left of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

import asyncrt
from asyncrt import _procid
from asyncrt.state import read_record
from tests.helpers import sandboxes
from tests.helpers.containers import Fifo, destroyed, gone, init_of, spare_pair
from tests.helpers.processes import Interpreter, until
from tests.helpers.sandboxes import MAPPED, ROOT, config, spec

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

_CREATE = """
import asyncio, json, sys
import asyncrt
async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        await engine.create("box", spec=asyncrt.Spec.decode(sys.argv[2].encode()))
asyncio.run(main())
"""


def _waiting(rootfs: str, reached: Fifo, kind: str, who: str = ROOT) -> dict[str, object]:
    """A sandbox whose creation stands still at a hook, which says so."""
    script = "echo here > $1; sleep 1000"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script, "sh", reached.path]}
    return {**config(rootfs, ["/bin/sleep", "1000"], who=who), "hooks": {kind: [hook]}}


async def _init_of_one_being_made(reached: Fifo) -> int:
    """The pid of the only init that waits for its root file system."""
    assert await reached.line() == "here"
    found = [
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit()
        and (stat := _procid.stat(int(name))) is not None
        and stat.comm == "asyncrt:gate"
        and _is_below_us(int(name))  # others' may end at any moment
        and os.stat(f"/proc/{name}/ns/pid").st_ino != os.stat("/proc/self/ns/pid").st_ino
    ]
    (pid,) = found
    return pid


def _is_below_us(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        stat = _procid.stat(pid)
        pid = 0 if stat is None else stat.ppid
    return False


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
@pytest.mark.parametrize("victim", ["init", "supervisor"])
async def test_a_create_whose_processes_are_killed_fails_and_leaves_nothing(
    engine: asyncrt.Engine, rootfs: str, tmp_path: Path, kind: str, victim: str
) -> None:
    with Fifo(tmp_path / "reached") as reached:
        made = _waiting(rootfs, reached, kind)
        creating = asyncio.create_task(engine.create("box", spec=spec(made)))
        init = await _init_of_one_being_made(reached)
        stat = _procid.stat(init)
        assert stat is not None
        os.kill(init if victim == "init" else stat.ppid, signal.SIGKILL)
        if kind == "createRuntime" and victim == "supervisor":
            # The hook is the engine's, and goes on; its end finds init gone.
            creating.cancel()
        with pytest.raises((asyncrt.AsyncrtError, asyncio.CancelledError)):
            await creating
        await gone(init)
    assert await engine.list() == []
    assert sandboxes.mounts_below(rootfs) == []


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
async def test_what_a_killed_creator_had_begun_is_removed(
    root: str, rootfs: str, tmp_path: Path, kind: str
) -> None:
    with Fifo(tmp_path / "reached") as reached:
        made = _waiting(rootfs, reached, kind)
        with Interpreter(_CREATE, root, json.dumps(made)) as creator:
            init = await _init_of_one_being_made(reached)
            os.kill(creator.pid, signal.SIGKILL)
            await gone(init)
    async with asyncrt.Engine(root) as engine:
        view = (await engine.list())[0]
        assert view.status == "stopped"
        await engine.delete("box", force=True)
        assert await engine.list() == []


@pytest.mark.parametrize("who", [ROOT, MAPPED])
async def test_many_lives_leave_no_mount_namespace_cgroup_or_descriptor(
    engine: asyncrt.Engine, root: str, rootfs: str, who: str, full: bool
) -> None:
    made = spec(config(rootfs, ["/bin/true"], who=who))
    name = f"life{os.getpid()}-"  # others' cgroups come and go
    await engine.run(name, spec=made)
    await spare_pair(engine)  # which stays
    before = _facts(rootfs, name)
    for number in range(200 if full else 6):
        done = await engine.run(f"{name}{number}", spec=made)
        assert done.exit.exit_code == 0
    await until(lambda: _facts(rootfs, name) <= before, "there is no more than there was before")


def _facts(rootfs: str, name: str) -> Counter[str]:
    """What there is of each; of what was ending at the beginning there may be less at the end."""
    facts = [f"process {_named(pid)}" for pid in _below_us()]
    facts += [f"mount {line}" for line in sandboxes.mounts_below(rootfs)]
    facts += ["descriptor" for _ in os.listdir("/proc/self/fd")]
    facts += [
        f"cgroup {path}"
        for path, _, _ in os.walk("/sys/fs/cgroup")
        if os.path.basename(path).startswith(f"asyncrt-{name}")
    ]
    return Counter(facts)


def _below_us() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _is_below_us(int(name))]


def _named(pid: int) -> str:
    found = _procid.stat(pid)
    return "" if found is None else found.comm


async def test_a_record_of_a_sandbox_names_init_as_it_is_seen_from_outside(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, ["/bin/true"])))
    try:
        record = read_record(root, "box")
        assert record.init is not None
        assert record.init.pid != 1
        assert _procid.alive(record.init)
    finally:
        await container.destroy()


async def test_two_sandboxes_share_nothing(engine: asyncrt.Engine, root: str, rootfs: str) -> None:
    """Both there: an ended one's numbers are the next one's."""
    made = spec(config(rootfs, ["/bin/true"]))
    async with (
        destroyed(await engine.create("one", spec=made)) as one,
        destroyed(await engine.create("two", spec=made)) as two,
    ):
        pids = init_of(one, root), init_of(two, root)
        first, second = (
            {
                os.stat(f"/proc/{pid}/ns/{name}").st_ino
                for name in ("mnt", "pid", "uts", "ipc", "net")
            }
            for pid in pids
        )
        assert len(first) == len(second) == 5
        assert not first & second
