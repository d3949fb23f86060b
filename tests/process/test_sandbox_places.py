"""Where a container of a sandbox is: its namespaces, its cgroup, its name among the members."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

import asyncrt
from asyncrt import (
    Engine,
    SpecUnsupported,
    Status,
)
from asyncrt.platforms.cgroups import SUPERVISOR
from tests.helpers import sandboxes
from tests.helpers.capabilities import User
from tests.helpers.cgroups import left, where
from tests.helpers.containers import init_of, rest, sleeper, supervisor_of
from tests.helpers.pods import TYPE, Pods, in_sandbox, members
from tests.helpers.processes import REPOSITORY

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]


COUNT = "grep -l '^sleep$' /proc/[0-9]*/comm | wc -l"


@pytest.fixture
async def linux(engine: Engine, rootfs: str) -> AsyncIterator[Pods]:
    """On that one only."""
    yield Pods(engine, "linux", rootfs)
    for each in await engine.list():
        await engine.delete(each.id, force=True)


def _namespaces(pid: int) -> dict[str, str]:
    return {
        kind: os.readlink(f"/proc/{pid}/ns/{kind}")
        for kind in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    }


def _same(one: dict[str, str], other: dict[str, str]) -> set[str]:
    return {kind for kind in one if one[kind] == other[kind]}


async def _line_of(container: asyncrt.Container, *args: str) -> str:
    process = await container.exec(args, stdout=asyncrt.PIPE)
    try:
        found = await rest(process.stdout)
        assert (await process.wait()).exit_code == 0
    finally:
        process.close()
    return found.strip()


# -- namespaces


@pytest.mark.parametrize("who", [sandboxes.ROOT, sandboxes.MAPPED])
async def test_it_shares_network_ipc_and_names_and_has_the_rest_for_itself(
    linux: Pods, rootfs: str, who: str
) -> None:
    spec = sandboxes.spec(sandboxes.config(rootfs, ["/bin/sleep", "1000"], who=who))
    sandbox = await linux.engine.create_sandbox("pod", spec=spec)
    app = await sandbox.create("app", spec=spec)
    await app.start()
    of_root, of_app = (_namespaces(init_of(each, linux.root)) for each in (sandbox.root, app))
    assert _same(of_root, of_app) == {"net", "ipc", "uts", "user"}
    assert await _line_of(app, "/bin/hostname") == "box"
    process = await app.exec(["/bin/sleep", "1000"])
    assert _same(of_app, _namespaces(process.pid)) == set(of_app)
    process.close()
    assert await _line_of(app, "/bin/sh", "-c", "echo $PPID; ls /proc | grep -c '^[0-9]*$'")


async def test_with_share_pid_each_sees_the_others_and_a_kill_hits_its_own_only(
    linux: Pods,
) -> None:
    sandbox = await linux.sandbox()
    app = await linux.running(sandbox, "app", share_pid=True)
    of_root, of_app = (_namespaces(init_of(each, linux.root)) for each in (sandbox.root, app))
    assert _same(of_root, of_app) == {"net", "ipc", "uts", "pid", "user"}
    assert await _line_of(app, "/bin/sh", "-c", COUNT) == "2"
    assert [each.pid for each in await app.processes()] == [init_of(app, linux.root)]
    await app.kill("KILL", all=True)
    assert (await sandbox.root.view()).status is Status.RUNNING
    assert (await app.wait()).signal == 9


async def test_with_share_pid_who_ends_by_the_roots_end_says_so(linux: Pods) -> None:
    """HAZARDS 14: the kernel kills all of the pid namespace before the root's init can be reaped."""
    sandbox = await linux.sandbox()
    app = await linux.running(sandbox, "app", share_pid=True)
    await sandbox.root.kill("KILL")
    assert (await app.wait()).reason == "sandbox ended"
    assert (await sandbox.root.wait()).reason == "signal"


async def test_a_namespace_by_path_is_that_one(linux: Pods, rootfs: str) -> None:
    sandbox = await linux.sandbox()
    made = sandboxes.config(rootfs, ["/bin/sleep", "1000"])
    host = f"/proc/{os.getpid()}/ns/net"
    for each in made["linux"]["namespaces"]:
        if each["type"] == "network":
            each["path"] = host
    app = await linux.running(sandbox, "app", sandboxes.spec(made))
    assert os.readlink(f"/proc/{init_of(app, linux.root)}/ns/net") == os.readlink(host)


async def test_what_the_sandbox_cannot_share_is_refused_by_its_field(
    linux: Pods, rootfs: str
) -> None:
    without = tuple(each for each in sandboxes.NAMESPACES if each != "network")
    spec = sandboxes.spec(sandboxes.config(rootfs, ["/bin/sleep", "9"], namespaces=without))
    sandbox = await linux.engine.create_sandbox("pod", spec=spec)
    index = sandboxes.NAMESPACES.index("network")
    with pytest.raises(SpecUnsupported, match="has none of its own to share") as caught:
        await sandbox.create("app", spec=linux.sleeper())
    assert caught.value.fields == (f"linux.namespaces[{index}]",)
    made = sandboxes.config(rootfs, ["/bin/sleep", "9"], namespaces=without)
    made["hostname"] = "other"
    with pytest.raises(SpecUnsupported, match="hostname"):
        await sandbox.create("app", spec=sandboxes.spec(made))
    assert members(linux.root) == []


# -- cgroups


async def test_each_has_a_leaf_and_no_process_is_above(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    app = await pods.running(sandbox, "app")
    above = os.path.dirname(where(sandbox.root, pods.root))
    assert sorted(name for name in os.listdir(above) if os.path.isdir(f"{above}/{name}")) == [
        SUPERVISOR,
        "app",
        "pod",
    ]

    def inside(name: str) -> list[int]:
        with open(f"{above}/{name}/cgroup.procs") as procs:
            return [int(each) for each in procs]

    assert inside("") == []
    assert supervisor_of(app, pods.root) in inside(SUPERVISOR)
    assert inside("pod") == [init_of(sandbox.root, pods.root)]
    assert inside("app") == [init_of(app, pods.root)]
    await sandbox.destroy()
    assert left([above]) == []


async def test_the_last_of_a_sandbox_takes_the_cgroups_away_whoever_that_is(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    app = await pods.running(sandbox, "app")
    above = os.path.dirname(where(sandbox.root, pods.root))
    await sandbox.root.destroy()
    await app.destroy()
    assert left([above]) == []


async def test_a_cgroup_above_them_that_cannot_be_removed_is_told_and_removed_at_the_next_try(
    pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HAZARDS 14."""
    sandbox = await pods.sandbox()
    above = os.path.dirname(where(sandbox.root, pods.root))
    rmdir = os.rmdir

    def failing(path: str, **options: int) -> None:
        if path == above:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), path)
        rmdir(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", failing)
        with pytest.raises(asyncrt.DestroyFailed, match=above):
            await sandbox.destroy()
    assert [view.id for view in await pods.engine.list()] == ["pod"]
    await sandbox.destroy()
    assert left([above]) == []


async def test_without_a_way_to_tell_them_apart_it_is_refused(pods: Pods) -> None:
    root = await pods.engine.create("pod", spec=sleeper())  # plain, and so without a cgroup
    beside = sleeper(annotations=in_sandbox("pod"))
    with pytest.raises(SpecUnsupported, match="root container has no cgroup") as caught:
        await pods.engine.create("app", spec=beside)
    assert caught.value.fields == (f'annotations["{TYPE}"]',)
    assert members(pods.root) == []
    await root.destroy()


# -- an ordinary user's

ROOTLESS = """
import asyncio, json, os, sys
import asyncrt

async def main():
    root, config = sys.argv[1], sys.stdin.read()
    spec = asyncrt.Spec.decode(config.encode())
    async with asyncrt.Engine(root) as engine:
        sandbox = await engine.create_sandbox("pod", spec=spec)
        await sandbox.root.start()
        app = await sandbox.create("app", spec=spec)
        await app.start()
        two = await sandbox.create("two", spec=spec)
        await two.start()
        process = await app.exec(["/bin/sleep", "1000"])
        found = {
            kind: os.readlink(f"/proc/{(await app.view()).pid}/ns/{kind}")
            == os.readlink(f"/proc/{(await sandbox.root.view()).pid}/ns/{kind}")
            for kind in ("net", "ipc", "uts", "pid", "mnt")
        }
        pids = [sorted(each.pid for each in await c.processes()) for c in (sandbox.root, app, two)]
        inits = [(await each.view()).pid for each in (sandbox.root, app, two)]
        assert pids == [[inits[0]], sorted([inits[1], process.pid]), [inits[2]]], (pids, inits)
        await app.pause()
        await app.resume()
        await app.kill("KILL", all=True)
        ended = await app.wait()
        status = str((await two.view()).status)
        await sandbox.root.kill("KILL")
        reason = (await two.wait()).reason
        await sandbox.destroy()
        print(json.dumps([found, ended.signal, status, reason, os.listdir(root)]))
asyncio.run(main())
"""


@pytest.mark.needs_userns
async def test_an_ordinary_user_has_them_without_any_cgroup(
    rootfs: str, ordinary_user: User, open_directory: os.PathLike[str]
) -> None:
    root = os.path.join(open_directory, "root")
    os.mkdir(root, 0o700)
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    made = sandboxes.config(rootfs, ["/bin/sleep", "1000"], who=sandboxes.USER, user=ordinary_user)
    done = await asyncio.to_thread(  # noqa: TID251 - a test's own wait
        subprocess.run,
        [sys.executable, "-B", "-c", ROOTLESS, root],
        input=json.dumps(made),
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        cwd="/",
        user=ordinary_user.uid,
        group=ordinary_user.gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found, ended, status, reason, names = json.loads(done.stdout)
    assert found == {"net": True, "ipc": True, "uts": True, "pid": False, "mnt": False}
    assert (ended, status, reason, names) == (9, "running", "sandbox ended", ["~events"])
