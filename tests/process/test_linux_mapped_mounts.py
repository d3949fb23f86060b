"""Mounts that aren't what lies on the disk: owners mapped to others, an image's files copied up."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from tests.helpers import capabilities, sandboxes
from tests.helpers.containers import destroyed, init_of
from tests.helpers.processes import REPOSITORY
from tests.helpers.sandboxes import EVERYBODY, MAPPED, ROOT, config, mount, said, spec

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

_TRY = """
import sys
from asyncrt.launch import idmaps, mounts
lines = [[0, 1000, 1]]
idmap = {"uid": lines, "gid": lines, "path": "", "recursive": False}
wanted = {"at": "x", "source": sys.argv[1], "idmap": idmap}
[namespace] = idmaps.open_all([wanted]).values()
idmaps.apply(mounts.clone_path(sys.argv[1], recursive=False), wanted, namespace)
"""


_KEPT = ["below", "link", "queue", "socket"]


def _mapping(inside: int, outside: int, size: int) -> dict[str, Any]:
    lines = [{"containerID": inside, "hostID": outside, "size": size}]
    return {"uidMappings": lines, "gidMappings": lines}


@pytest.fixture
def volume(open_directory: Path, root: str) -> Path:
    """A directory with a file of 7:8, in a file system whose ids can be mapped."""
    base = next(filter(_can_be_mapped, (str(open_directory), root)), None)
    if base is None:
        capabilities.skip_lacking("a file system whose ids can be mapped")
    path = Path(base, ".volume")
    path.mkdir()
    path.chmod(0o777)
    (path / "file").touch()
    os.chown(path / "file", 7, 8)
    return path


def _can_be_mapped(base: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", _TRY, base],
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.fixture
def image(open_directory: Path) -> str:
    """A root file system of this test's own, with something of each kind to be copied up."""
    made = sandboxes.make_rootfs(str(open_directory / "image"))
    top = Path(made, "etc", "kept")
    (top / "below" / "deep").mkdir(parents=True)
    (top / "below" / "program").write_text("#!/bin/sh\necho ran\n", encoding="utf-8")
    os.symlink("/etc/passwd", top / "link")
    os.mkfifo(top / "queue")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "socket"))
    os.chown(top / "below" / "program", 3, 4)
    (top / "below" / "program").chmod(0o4755)
    (top / "below" / "deep").chmod(0o1777)
    os.utime(top / "below" / "program", (1_000_000_000, 1_000_000_000))
    top.chmod(0o755)
    return made


def _shell(rootfs: str, script: str, *mounts: dict[str, Any], who: str = ROOT) -> dict[str, Any]:
    made = config(rootfs, ["/bin/sh", "-c", script], who=who)
    made["mounts"] += mounts
    return made


def _bind(volume: Path, *options: str, **more: Any) -> dict[str, Any]:
    return {**mount("/data", "bind", *options, source=str(volume)), **more}


_OWNERS = "stat -c '%u %g' /data/file; touch /data/new; stat -c '%u %g' /data/new"


async def test_an_id_map_shows_other_owners_and_writes_them_back(
    engine: asyncrt.Engine, rootfs: str, volume: Path
) -> None:
    mapping = _mapping(0, 1000, 100)
    made = _shell(rootfs, _OWNERS, _bind(volume, "bind", "idmap", **mapping))
    made["process"]["user"] = {"uid": 1005, "gid": 1006}
    made["process"]["cwd"] = "/"
    assert await said(engine, made) == "1007 1008\n1005 1006\n"
    found = (volume / "new").stat()
    assert (found.st_uid, found.st_gid) == (5, 6)


async def test_mappings_alone_ask_for_an_id_map(
    engine: asyncrt.Engine, rootfs: str, volume: Path
) -> None:
    """An older runtime would ignore them; the option is there to keep it from that."""
    bind = _bind(volume, "bind", **_mapping(7, 2007, 2))
    found = await said(engine, _shell(rootfs, "stat -c %u /data/file", bind))
    assert found == "2007\n"


async def test_an_id_map_without_mappings_is_the_containers(
    engine: asyncrt.Engine, rootfs: str, volume: Path
) -> None:
    """The disk's owners show as they are, though the container's ids are others on the host."""
    made = _shell(rootfs, _OWNERS, _bind(volume, "bind", "idmap"), who=MAPPED)
    assert await said(engine, made) == "7 8\n0 0\n"
    assert (volume / "new").stat().st_uid == 0


async def test_an_id_map_can_be_that_of_a_user_namespace_joined_by_path(
    engine: asyncrt.Engine, root: str, rootfs: str, volume: Path
) -> None:
    first = await engine.create("first", spec=spec(_shell(rootfs, "true", who=MAPPED)))
    async with destroyed(first):
        made = _shell(rootfs, "stat -c '%u %g' /data/file", _bind(volume, "bind", "idmap"))
        path = f"/proc/{init_of(first, root)}/ns/user"
        made["linux"]["namespaces"].append({"type": "user", "path": path})
        assert await said(engine, made) == "7 8\n"


@pytest.mark.parametrize(("option", "below"), [("idmap", "7"), ("ridmap", "1007")])
async def test_ridmap_is_for_all_mounts_below_and_idmap_for_one(
    engine: asyncrt.Engine, rootfs: str, volume: Path, option: str, below: str
) -> None:
    inner = volume / "inner"
    inner.mkdir()
    subprocess.run(["mount", "--bind", str(volume), str(inner)], check=True)
    try:
        bind = _bind(volume, "rbind", option, **_mapping(0, 1000, 100))
        script = "stat -c %u /data/file /data/inner/file"
        assert await said(engine, _shell(rootfs, script, bind)) == f"1007\n{below}\n"
    finally:
        subprocess.run(["umount", str(inner)], check=True)


async def test_a_file_system_whose_ids_cant_be_mapped_is_named_and_nothing_is_left(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    bind = _bind(Path("/proc/sys"), "bind", "idmap", **_mapping(0, 1000, 1))
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("box", spec=spec(_shell(rootfs, "true", bind)))
    assert caught.value.what == "mounts[7]: id map of a file system that takes none"
    assert (caught.value.path, caught.value.errno) == ("/proc/sys", errno.EINVAL)
    assert await engine.list() == []


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([(0, 1000, 10), (5, 2000, 10)], "mounts[7].uidMappings"),  # overlap inside
        ([(0, 1000, 0)], "mounts[7].uidMappings"),
    ],
)
async def test_an_id_map_that_the_kernel_refuses_is_named(
    engine: asyncrt.Engine, rootfs: str, lines: list[tuple[int, int, int]], what: str
) -> None:
    keys = ("containerID", "hostID", "size")
    uids = [dict(zip(keys, line, strict=True)) for line in lines]
    bind = _bind(Path("/etc"), "bind", uidMappings=uids, gidMappings=uids)
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("box", spec=spec(_shell(rootfs, "true", bind)))
    assert (caught.value.what, caught.value.path) == (what, "uid_map")
    assert caught.value.errno == errno.EINVAL


_LISTED = (
    "cd /etc/kept; stat -c '%n %F %a %u %g' . below below/* queue socket; stat -c %Y below/program;"
    "readlink link; below/program; stat -f -c %T ."
)


@pytest.mark.parametrize("who", [ROOT, MAPPED])
async def test_what_the_image_has_is_copied_up_and_looks_as_it_did(
    engine: asyncrt.Engine, image: str, who: str
) -> None:
    """Whose owner isn't in the container's map is nobody's there, before and after."""
    made = _shell(image, _LISTED, who=who)
    before = (await said(engine, made)).splitlines()[:-1]
    made["mounts"].append(mount("/etc/kept", "tmpfs", "tmpcopyup"))
    assert (await said(engine, made)).splitlines() == [*before, "tmpfs"]
    assert "below/program regular file 4755 " + ("3 4" if who == ROOT else "65534 65534") in before
    assert "below/deep directory 1777 " + ("0 0" if who == ROOT else "65534 65534") in before
    assert before[-3:] == ["1000000000", "/etc/passwd", "ran"]


async def test_what_is_written_to_a_copy_isnt_in_the_image(
    engine: asyncrt.Engine, image: str
) -> None:
    script = "cd /etc/kept; touch new; rm -f below/program; chmod 700 ."
    made = _shell(image, script, mount("/etc/kept", "tmpfs", "tmpcopyup"))
    assert await said(engine, made) == ""
    kept = Path(image, "etc/kept")
    assert sorted(os.listdir(kept)) == _KEPT
    assert "ran" in (kept / "below/program").read_text(encoding="utf-8")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o755


@pytest.mark.parametrize("who", EVERYBODY)
def test_everybody_can_copy_up_what_they_may_read(
    root: str, image: str, ordinary_user: capabilities.User, who: str
) -> None:
    made = config(
        image,
        ["/bin/sh", "-c", "cat /etc/kept/below/program | tail -1; touch /etc/kept/x; ls /etc/kept"],
        who=who,
        user=ordinary_user,
    )
    made["mounts"].append(mount("/etc/kept", "tmpfs", "tmpcopyup", "mode=700", "nosuid"))
    if who == sandboxes.USER:
        os.chown(root, ordinary_user.uid, ordinary_user.gid)
    user = ordinary_user if who == sandboxes.USER else None
    code, out, err = sandboxes.said_to(root, made, user)
    assert (code, out.split(), err) == (0, ["echo", "ran", *_KEPT, "x"], "")


async def test_a_copy_can_be_read_only_and_have_a_mode_of_its_own(
    engine: asyncrt.Engine, image: str
) -> None:
    copied = mount("/etc/kept", "tmpfs", "tmpcopyup", "ro", "mode=711")
    script = "stat -c %a /etc/kept; /etc/kept/below/program; touch /etc/kept/x 2>&1; true"
    assert await said(engine, _shell(image, script, copied)) == (
        "711\nran\ntouch: /etc/kept/x: Read-only file system\n"
    )


async def test_a_copy_for_which_there_is_no_room_names_the_file(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    copied = mount("/bin", "tmpfs", "tmpcopyup", "size=16k")
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("box", spec=spec(_shell(rootfs, "true", copied)))
    assert (caught.value.what, caught.value.path) == ("mounts[7]", "/bin/busybox")
    assert caught.value.errno == errno.ENOSPC
    assert await engine.list() == []


async def test_no_link_in_the_image_leads_a_copy_out(engine: asyncrt.Engine, image: str) -> None:
    """What is copied is the link, not what it points to on the host."""
    os.symlink("/etc", os.path.join(image, "etc/kept/out"))
    os.symlink("/etc/shadow", os.path.join(image, "etc/kept/below/shadow"))
    copied = mount("/etc/kept", "tmpfs", "tmpcopyup")
    script = "cd /etc/kept; readlink out; readlink below/shadow"
    assert await said(engine, _shell(image, script, copied)) == "/etc\n/etc/shadow\n"
