"""Namespaces of a sandbox by path, and what goes wrong with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

import asyncrt
from asyncrt import _cgroups
from tests.helpers import sandboxes
from tests.helpers.capabilities import User
from tests.helpers.containers import destroyed, init_of, record_of
from tests.helpers.processes import REPOSITORY
from tests.helpers.sandboxes import MAPPED, ROOT, USER, config, said, spec

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

_LINKS = {"network": "net", "mount": "mnt"}


def _joining(made: dict[str, Any], pid: int, *kinds: str) -> dict[str, Any]:
    """The same config, with these namespaces of a process instead of new ones."""
    for each in made["linux"]["namespaces"]:
        if each["type"] in kinds:
            each["path"] = f"/proc/{pid}/ns/{_LINKS.get(each['type'], each['type'])}"
    return made


@pytest.mark.parametrize("who", [ROOT, MAPPED])
async def test_namespaces_of_another_sandbox_are_joined_by_path(
    engine: asyncrt.Engine, root: str, rootfs: str, who: str
) -> None:
    first = await engine.create("first", spec=spec(config(rootfs, ["/bin/sleep", "1000"], who=who)))
    async with destroyed(first):
        await first.start()
        script = "hostname; ps | grep -c 'sleep 1000$'; for n in pid ipc net uts; do stat -Lc %i /proc/self/ns/$n; done"
        made = config(rootfs, ["/bin/sh", "-c", script], who=who)
        kinds = ("pid", "ipc", "network", "uts", *(("user",) if who == MAPPED else ()))
        pid = init_of(first, root)
        made = _joining(made, pid, *kinds)
        del made["hostname"]
        if who == MAPPED:
            del made["linux"]["uidMappings"], made["linux"]["gidMappings"]
        found = (await said(engine, made)).split()
        assert found[:2] == ["box", "1"]
        names = ("pid", "ipc", "net", "uts")
        assert found[2:] == [str(os.stat(f"/proc/{pid}/ns/{name}").st_ino) for name in names]


@pytest.mark.parametrize("who", [ROOT, MAPPED])
async def test_a_sandbox_and_what_is_execd_in_it_are_in_each_of_its_cgroups(
    engine: asyncrt.Engine, root: str, rootfs: str, who: str
) -> None:
    made = config(rootfs, ["/bin/sleep", "1000"], who=who)
    made["linux"]["resources"] = {"pids": {"limit": 20}, "cpu": {"shares": 512}}
    container = await engine.create("box", spec=spec(made))
    async with destroyed(container):
        init = init_of(container, root)
        places = [each.path for each in record_of(container, root).cgroup]
        assert places
        assert [_cgroups.pids(each) for each in places] == [[init]] * len(places)
        await container.start()
        process = await container.exec(["/bin/sleep", "1000"])
        assert [sorted(_cgroups.pids(each)) for each in places] == [
            sorted([init, process.pid])
        ] * len(places)
        await process.kill()
        await process.wait()
        process.close()


_USERS = """
import asyncio, json, os, sys
import asyncrt
async def main():
    root, first, second = sys.argv[1], *map(json.loads, sys.argv[2:])
    async with asyncrt.Engine(root) as engine:
        spec = asyncrt.Spec.decode(json.dumps(first).encode())
        async with engine.running("first", spec=spec) as container:
            pid = (await container.view()).pid
            for each in second["linux"]["namespaces"]:
                if each["type"] in {"user", "pid"}:
                    each["path"] = f"/proc/{pid}/ns/{each['type']}"
            spec = asyncrt.Spec.decode(json.dumps(second).encode())
            done = await engine.run("second", spec=spec, stdout=asyncrt.PIPE)
            print(done.stdout.decode().split(), done.exit.exit_code)
            second["process"]["user"]["additionalGids"] = [0]
            spec = asyncrt.Spec.decode(json.dumps(second).encode())
            try:
                await engine.run("third", spec=spec)
            except asyncrt.StartFailed as error:
                print(error.what)
asyncio.run(main())
"""


@pytest.mark.needs_userns
def test_an_ordinary_user_joins_its_user_namespace_of_one_id_by_path(
    ordinary_user: User, root: str, rootfs: str
) -> None:
    """setgroups(2) is denied there, also to say that there are none."""
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    first, second = (
        config(rootfs, args, who=USER, user=ordinary_user)
        for args in (["/bin/sleep", "1000"], ["/bin/sh", "-c", "id -u; ps | grep -c 'p 1000$'"])
    )
    del second["linux"]["uidMappings"], second["linux"]["gidMappings"]
    done = subprocess.run(
        [sys.executable, "-B", "-c", _USERS, root, json.dumps(first), json.dumps(second)],
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        cwd="/",
        user=ordinary_user.uid,
        group=ordinary_user.gid,
        extra_groups=[],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["['0', '1'] 0", "process.user.additionalGids"]
    os.chown(root, 0, 0)


async def test_an_exec_is_in_the_joined_namespaces_as_well(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    first = await engine.create("first", spec=spec(config(rootfs, ["/bin/sleep", "1000"])))
    async with destroyed(first):
        made = _joining(config(rootfs, ["/bin/sleep", "1000"]), init_of(first, root), "network")
        second = await engine.create("second", spec=spec(made))
        async with destroyed(second):
            await second.start()
            process = await second.exec(
                ["/bin/stat", "-Lc", "%i", "/proc/self/ns/net"], stdout=asyncrt.PIPE
            )
            assert process.stdout is not None
            inode = os.stat(f"/proc/{init_of(first, root)}/ns/net").st_ino
            assert int(await process.stdout.read()) == inode
            assert (await process.wait()).exit_code == 0
            process.close()


@pytest.mark.parametrize(
    "path", ["/proc/self/ns/uts", "/etc/passwd", "/nowhere", "/dev/null", "/proc/self/ns"]
)
async def test_a_path_that_is_no_namespace_of_that_kind_is_named(
    engine: asyncrt.Engine, rootfs: str, path: str
) -> None:
    made = config(rootfs, ["/bin/true"])
    index = [each["type"] for each in made["linux"]["namespaces"]].index("network")
    made["linux"]["namespaces"][index]["path"] = path
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("box", spec=spec(made))
    assert caught.value.what == f"linux.namespaces[{index}]"
    assert caught.value.path == path
    assert await engine.list() == []


async def test_hazard_32_a_map_that_the_kernel_refuses_is_named(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    made = config(rootfs, ["/bin/true"], who=MAPPED)
    made["linux"]["gidMappings"] *= 2
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("box", spec=spec(made))
    assert caught.value.what == "linux.gidMappings"
    assert await engine.list() == []


async def test_namespaces_without_a_root_file_system_of_their_own(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    """What is left of isolation without a mount namespace: the host's files, another network."""
    made = config("/", ["/bin/sh", "-c", "echo /etc/passwd; echo $$"])
    made["linux"]["namespaces"] = [{"type": "pid"}, {"type": "network"}]
    for key in ("root", "mounts", "hostname"):
        del made[key]
    for key in ("maskedPaths", "readonlyPaths"):
        del made["linux"][key]
    made["process"]["cwd"] = "/"
    assert await sandboxes.said(engine, made) == "/etc/passwd\n1\n"
