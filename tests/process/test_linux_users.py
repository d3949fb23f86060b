"""Who a sandbox's process is, and what an ordinary user can have of ids, networks and limits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt.platforms.cgroups.machine import discover
from tests.helpers import capabilities
from tests.helpers.capabilities import User
from tests.helpers.cgroups import delegated, unique
from tests.helpers.containers import SECONDS
from tests.helpers.leaks import LeakCheck
from tests.helpers.processes import REPOSITORY
from tests.helpers.sandboxes import MAPPED, ROOT, USER, config, said

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

_WHO = "id -u; id -g; id -G; umask"

# Runs a config, or makes a sandbox of options; prints what became of it.
_DRIVER = """
import asyncio, json, sys
import asyncrt
async def main():
    root, given = sys.argv[1], json.loads(sys.argv[2])
    async with asyncrt.Engine(root) as engine:
        try:
            if "options" in given:
                spec = asyncrt.Spec.sandbox(given["args"], **given["options"])
            else:
                spec = asyncrt.Spec.decode(json.dumps(given).encode())
            done = await engine.run("box", spec=spec, stdout=asyncrt.PIPE, stderr=asyncrt.PIPE)
        except asyncrt.SpecUnsupported as error:
            print(json.dumps(["refused", list(error.fields), dict(error.reasons)]))
        except asyncrt.StartFailed as error:
            print(json.dumps(["failed", error.what, str(error)]))
        else:
            print(json.dumps([done.exit.exit_code, done.stdout.decode(), done.stderr.decode()]))
        assert await engine.list() == []
asyncio.run(main())
"""


@pytest.fixture
def theirs(ordinary_user: User, leak_check: LeakCheck) -> Iterator[str]:
    """A root directory that is the user's."""
    if not capabilities.has_userns():
        capabilities.skip_lacking("unprivileged user namespaces")
    root = tempfile.mkdtemp(prefix="asyncrt-test-")
    leak_check.watch_root(root)
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    yield root
    shutil.rmtree(root)


def _run(root: str, user: User, given: dict[str, Any], *inside: str) -> list[Any]:
    """What became of it, run by the user; `inside`: by a program before that, as root."""
    become = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups"]
    done = subprocess.run(
        [*inside, *become, sys.executable, "-B", "-c", _DRIVER, root, json.dumps(given)],
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=3 * SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: list[Any] = json.loads(done.stdout)
    return found


def _shell(rootfs: str, script: str, who: str, user: User | None = None) -> dict[str, Any]:
    return config(rootfs, ["/bin/sh", "-c", script], who=who, user=user)


@pytest.mark.parametrize("who", [ROOT, MAPPED])
async def test_ids_and_umask_are_those_of_the_config(
    engine: asyncrt.Engine, rootfs: str, who: str
) -> None:
    """config.md, "POSIX-platform User"."""
    made = _shell(rootfs, _WHO, who)
    made["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [7, 9], "umask": 0o027}
    assert (await said(engine, made)).splitlines() == ["1000", "1001", "1001 7 9", "0027"]


@pytest.mark.needs_program("setpriv")
def test_with_a_single_id_a_user_is_that_one_whatever_its_number(
    theirs: str, rootfs: str, ordinary_user: User
) -> None:
    made = _shell(rootfs, _WHO, USER, ordinary_user)
    made["process"]["user"] = {"uid": 0, "gid": 0, "umask": 0o077}
    assert _run(theirs, ordinary_user, made)[:2] == [0, "0\n0\n0\n0077\n"]
    for field in ("uidMappings", "gidMappings"):
        made["linux"][field][0]["containerID"] = 1000
    made["process"]["user"] = {"uid": 1000, "gid": 1000}
    made["process"]["cwd"] = "/"
    assert _run(theirs, ordinary_user, made)[:2] == [0, "1000\n1000\n1000\n0022\n"]


@pytest.mark.needs_program("setpriv")
@pytest.mark.parametrize(
    ("who", "fields"),
    [
        ({"uid": 1, "gid": 0}, ["process.user.uid"]),
        ({"uid": 0, "gid": 1}, ["process.user.gid"]),
        ({"uid": 0, "gid": 0, "additionalGids": [0]}, ["process.user.additionalGids"]),
        (
            {"uid": 5, "gid": 6, "additionalGids": [7]},
            ["process.user.uid", "process.user.gid", "process.user.additionalGids"],
        ),
    ],
)
def test_with_a_single_id_all_others_are_refused_by_path(
    theirs: str, rootfs: str, ordinary_user: User, who: dict[str, Any], fields: list[str]
) -> None:
    made = _shell(rootfs, _WHO, USER, ordinary_user)
    made["process"]["user"] = who
    assert _run(theirs, ordinary_user, made)[:2] == ["refused", fields]


def _with_ranges(directory: Path, user: User, first: int, count: int) -> tuple[str, ...]:
    """What runs a program where these ids, and no others, are the user's (subuid(5))."""
    for name in ("subuid", "subgid"):
        if not os.path.exists(f"/etc/{name}"):
            capabilities.skip_lacking(f"a file /etc/{name}")
        (directory / name).write_text(f"{user.uid}:{first}:{count}\n", encoding="utf-8")
    script = (
        'mount --bind "$0/subuid" /etc/subuid && mount --bind "$0/subgid" /etc/subgid && exec "$@"'
    )
    return ("unshare", "-m", "sh", "-c", script, str(directory))


needs_maps = pytest.mark.needs_program("setpriv", "newuidmap", "newgidmap", "unshare")


@needs_maps
def test_with_the_programs_a_user_has_all_the_ids_it_was_given(
    theirs: str, rootfs: str, ordinary_user: User, open_directory: Path
) -> None:
    made = _shell(rootfs, f"{_WHO}; touch /data/mine", USER, ordinary_user)
    made["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [7, 9], "umask": 0}
    for field, own in (("uidMappings", ordinary_user.uid), ("gidMappings", ordinary_user.gid)):
        made["linux"][field] = [
            {"containerID": 0, "hostID": own, "size": 1},
            {"containerID": 1, "hostID": 200000, "size": 65535},
        ]
    volume = open_directory / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    bind = {"destination": "/data", "type": "bind", "source": str(volume), "options": ["bind"]}
    made["mounts"].append(bind)
    inside = _with_ranges(open_directory, ordinary_user, 200000, 65536)
    assert _run(theirs, ordinary_user, made, *inside) == [0, "1000\n1001\n1001 7 9\n0000\n", ""]
    found = (volume / "mine").stat()
    assert (found.st_uid, found.st_gid) == (200999, 201000)
    made["process"]["user"] = {"uid": 70000, "gid": 0, "additionalGids": [1, 70000]}
    fields = ["process.user.uid", "process.user.additionalGids[1]"]
    assert _run(theirs, ordinary_user, made, *inside)[:2] == ["refused", fields]


@needs_maps
def test_ids_that_a_user_wasnt_given_are_refused_in_the_programs_words(
    theirs: str, rootfs: str, ordinary_user: User, open_directory: Path
) -> None:
    made = _shell(rootfs, _WHO, USER, ordinary_user)
    made["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 300000, "size": 10}]
    inside = _with_ranges(open_directory, ordinary_user, 200000, 65536)
    how, what, text = _run(theirs, ordinary_user, made, *inside)
    assert (how, what) == ("failed", "linux.uidMappings")
    assert "newuidmap: uid range [0-10) -> [300000-300010) not allowed" in text


@pytest.mark.needs_program("setpriv")
@pytest.mark.parametrize("network", [False, True])
def test_a_users_network_is_none_or_the_hosts(
    theirs: str, ordinary_user: User, network: bool
) -> None:
    options = {"host_root_readonly": True, "network": network}
    given = {"args": ["/bin/ls", "/sys/class/net"], "options": options}
    code, out, err = _run(theirs, ordinary_user, given)
    assert (code, err) == (0, "")
    assert sorted(out.split()) == (sorted(os.listdir("/sys/class/net")) if network else ["lo"])


@pytest.mark.needs_program("setpriv")
@pytest.mark.needs_cgroups("pids")
def test_limits_that_arent_delegated_are_refused_by_path(
    theirs: str, rootfs: str, ordinary_user: User
) -> None:
    made = _shell(rootfs, "true", USER, ordinary_user)
    made["linux"]["resources"] = {"pids": {"limit": 5}}
    how, fields, reasons = _run(theirs, ordinary_user, made)
    assert (how, fields) == ("refused", ["linux.resources.pids.limit"])
    assert "this user may not make /" in reasons["linux.resources.pids.limit"]


@pytest.mark.needs_program("setpriv")
@pytest.mark.needs_cgroups("pids")
def test_limits_that_are_delegated_hold_a_users_sandbox(
    theirs: str, rootfs: str, ordinary_user: User
) -> None:
    machine = discover()
    if not {"pids", "freezer"} <= machine.v1.keys():
        capabilities.skip_lacking("pids and freezer of cgroup version 1")
    script = "i=0; while [ $i -lt 9 ]; do sleep 1000 & i=$((i + 1)); done"
    made = _shell(rootfs, script, USER, ordinary_user)
    path = unique()
    made["linux"] |= {"resources": {"pids": {"limit": 5}}, "cgroupsPath": f"{path}/box"}
    tops = [machine.v1[each].top for each in ("pids", "freezer")]
    with delegated(tops, path, ordinary_user):
        code, _, err = _run(theirs, ordinary_user, made)
    assert code == 2
    assert "can't fork: Resource temporarily unavailable" in err


@pytest.mark.needs_program("setpriv")
def test_an_id_map_of_a_mount_is_refused_by_path(
    theirs: str, rootfs: str, ordinary_user: User
) -> None:
    made = _shell(rootfs, "true", USER, ordinary_user)
    made["mounts"].append(
        {"destination": "/data", "source": f"{rootfs}/etc", "options": ["bind", "idmap"]}
    )
    how, fields, reasons = _run(theirs, ordinary_user, made)
    assert (how, fields) == ("refused", ["mounts[7].options[1]"])
    assert "only root" in reasons["mounts[7].options[1]"]
