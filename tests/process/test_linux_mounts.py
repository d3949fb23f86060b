"""Mounts of a sandbox: where they come to lie, what their options do, and that nothing gets out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from tests.helpers import sandboxes
from tests.helpers.containers import destroyed
from tests.helpers.sandboxes import MAPPED, ROOT, config, mount, said, spec

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

as_root = pytest.mark.parametrize("who", [ROOT, MAPPED])


@pytest.fixture
def image(open_directory: Path) -> str:
    """A root file system of this test's own, to be planted with traps."""
    return sandboxes.make_rootfs(str(open_directory / "image"))


@pytest.fixture
def volume(open_directory: Path) -> Path:
    """A directory of the host's with a file, for everybody."""
    path = open_directory / "volume"
    path.mkdir()
    path.chmod(0o777)
    path.joinpath("file").write_text("of the host\n", encoding="utf-8")
    return path


def _shell(rootfs: str, script: str, *mounts: dict[str, Any], who: str = ROOT) -> dict[str, Any]:
    made = config(rootfs, ["/bin/sh", "-c", script], who=who)
    made["mounts"] += mounts
    return made


async def _fails(engine: asyncrt.Engine, made: dict[str, Any]) -> asyncrt.StartFailed:
    """The error of a create that fails, with nothing left of it."""
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("box", spec=spec(made))
    assert await engine.list() == []
    return caught.value


@as_root
async def test_a_bind_shows_the_hosts_files_and_can_be_read_only(
    engine: asyncrt.Engine, rootfs: str, volume: Path, who: str
) -> None:
    script = "cat /data/file; touch /data/new 2>/dev/null || echo refused"
    bind = mount("/data", "bind", "bind", "ro", source=str(volume))
    assert await said(engine, _shell(rootfs, script, bind, who=who)) == "of the host\nrefused\n"
    bind = mount("/data", "bind", "bind", source=str(volume))
    assert await said(engine, _shell(rootfs, script, bind, who=who)) == "of the host\n"
    assert (volume / "new").exists()


@as_root
async def test_a_file_can_be_bound(
    engine: asyncrt.Engine, rootfs: str, volume: Path, who: str
) -> None:
    bind = mount("/etc/passwd", "none", "bind", "ro", source=str(volume / "file"))
    assert await said(engine, _shell(rootfs, "cat /etc/passwd", bind, who=who)) == "of the host\n"


async def test_a_relative_source_is_below_the_bundle(
    engine: asyncrt.Engine, rootfs: str, volume: Path
) -> None:
    made = _shell(rootfs, "cat /data/file", mount("/data", "bind", "bind", source="."))
    done = await engine.run("box", spec=spec(made, bundle=str(volume)), stdout=asyncrt.PIPE)
    assert done.stdout == b"of the host\n"


async def test_rro_is_for_all_mounts_below_and_ro_for_one(
    engine: asyncrt.Engine, rootfs: str, volume: Path
) -> None:
    (volume / "inner").mkdir()
    inner = mount("/data/inner", "tmpfs", "mode=777")
    script = "touch /data/inner/x 2>/dev/null && echo written; true"
    outer = mount("/data", "bind", "rbind", "ro", source=str(volume))
    assert await said(engine, _shell(rootfs, script, outer, inner)) == "written\n"
    again = mount("/data", "bind", "rbind", "rro", source="/proc/sys")
    assert (
        await said(engine, _shell(rootfs, "grep -c ' /data proc ro' /proc/mounts", again)) == "1\n"
    )


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (("nosuid", "nodev", "noexec"), "rw,nosuid,nodev,noexec,relatime"),
        (("noexec", "exec"), "rw,relatime"),
        (("noatime",), "rw,noatime"),
        (("strictatime",), "rw"),
        (("noatime", "relatime"), "rw,relatime"),
        (("nodiratime",), "rw,nodiratime,relatime"),
        (("nosymfollow",), "rw,relatime,nosymfollow"),
        (("ro", "rw"), "rw,relatime"),
        (("rw", "ro"), "ro,relatime"),
        (("sync",), "rw,sync,relatime"),
        (("defaults", "async", "loud", "nomand"), "rw,relatime"),
    ],
)
async def test_options_do_what_they_say_and_the_last_one_counts(
    engine: asyncrt.Engine, rootfs: str, options: tuple[str, ...], shown: str
) -> None:
    made = _shell(
        rootfs, "grep ' /data ' /proc/mounts | cut -d' ' -f4", mount("/data", "tmpfs", *options)
    )
    assert (await said(engine, made)).strip() == shown


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ((), "master"),
        (("rprivate",), ""),
        (("slave",), "master"),
        (("rshared",), "shared"),
        (("unbindable",), "unbindable"),
    ],
)
async def test_a_binds_propagation(
    engine: asyncrt.Engine,
    rootfs: str,
    volume: Path,
    shared_mount: None,
    options: tuple[str, ...],
    shown: str,
) -> None:
    bind = mount("/data", "bind", "rbind", *options, source=str(volume))
    script = "grep ' /data ' /proc/self/mountinfo | sed 's/ - .*//' | cut -d' ' -f7-"
    found = await said(engine, _shell(rootfs, script, bind))
    assert [each.partition(":")[0] for each in found.split()][:1] == ([shown] if shown else [])


@pytest.fixture
def shared_mount(volume: Path) -> Iterator[None]:
    """The volume as a mount that propagates, which the root of this machine may be or not."""
    import subprocess

    subprocess.run(["mount", "--bind", str(volume), str(volume)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(volume)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(volume)], check=True)


async def test_what_is_mounted_inside_doesnt_show_outside(
    engine: asyncrt.Engine, rootfs: str, volume: Path, shared_mount: None
) -> None:
    before = sandboxes.mounts_below(rootfs, str(volume))
    (volume / "inner").mkdir()
    bind = mount("/data", "bind", "rbind", source=str(volume))
    inner = mount("/data/inner", "tmpfs")
    container = await engine.create("box", spec=spec(_shell(rootfs, "read x", bind, inner)))
    async with destroyed(container):
        assert sandboxes.mounts_below(rootfs, str(volume)) == before


@as_root
async def test_an_overlay_takes_writes(
    engine: asyncrt.Engine, rootfs: str, volume: Path, who: str
) -> None:
    for name in ("lower", "upper", "work"):
        (volume / name).mkdir()
        if who == MAPPED:
            os.chown(volume / name, 100000, 100000)
    (volume / "lower" / "a").write_text("a\n", encoding="utf-8")
    layers = [f"{name}dir={volume / name}" for name in ("lower", "upper", "work")]
    made = _shell(
        rootfs, "cat /data/a; echo b > /data/b", mount("/data", "overlay", *layers), who=who
    )
    assert await said(engine, made) == "a\n"
    assert (volume / "upper" / "b").read_text(encoding="utf-8") == "b\n"


async def test_many_lower_directories_are_more_than_one_option_takes(
    engine: asyncrt.Engine, rootfs: str, volume: Path
) -> None:
    lower = []
    for number in range(6):
        path = volume / f"layer-{number}{'-long' * 12}"
        path.mkdir()
        (path / str(number)).touch()
        lower.append(str(path))
    made = _shell(rootfs, "ls /data", mount("/data", "overlay", f"lowerdir={':'.join(lower)}"))
    assert (await said(engine, made)).split() == ["0", "1", "2", "3", "4", "5"]


async def test_a_remount_changes_what_is_mounted(engine: asyncrt.Engine, rootfs: str) -> None:
    made = _shell(
        rootfs,
        "grep ' /data ' /proc/mounts | cut -d' ' -f4",
        mount("/data", "tmpfs", "size=64k"),
        mount("/data", "tmpfs", "remount", "ro", "size=32k"),
    )
    assert (await said(engine, made)).startswith("ro,relatime,size=32k")


async def test_hazard_42_cgroups_are_read_only_and_the_containers_own(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    """CVE-2022-0492."""
    made = _shell(
        rootfs,
        "grep ' /sys/fs/cgroup' /proc/mounts | cut -d' ' -f4 | cut -d, -f1 | sort -u; "
        "find /sys/fs/cgroup -name cgroup.procs | head -1 | grep -c .; "
        "for f in $(find /sys/fs/cgroup -name cgroup.procs); do echo $$ > $f && echo written; done "
        "2>/dev/null; true",
        mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev"),
    )
    assert await said(engine, made) == "ro\n1\n"


async def test_a_missing_destination_is_made_inside(engine: asyncrt.Engine, image: str) -> None:
    made = _shell(image, "ls -d /deep/er", mount("/deep/er", "tmpfs"))
    assert await said(engine, made) == "/deep/er\n"
    assert os.path.isdir(os.path.join(image, "deep/er"))


@pytest.mark.parametrize("link", ["/etc", "../../../../../../etc", "/proc/self/root/etc"])
async def test_a_destination_through_a_link_stays_inside(
    engine: asyncrt.Engine, image: str, link: str
) -> None:
    """CVE-2021-30465 and its like."""
    os.symlink(link, os.path.join(image, "out"))
    made = _shell(image, "ls /etc", mount("/out/made", "tmpfs"))
    if link.startswith("/proc"):
        failure = await _fails(engine, made)
        assert failure.what == "mounts[7]"
    else:
        assert "made" in (await said(engine, made)).split()
    assert not os.path.exists("/etc/made")


async def test_dots_in_a_destination_stay_inside(engine: asyncrt.Engine, image: str) -> None:
    made = _shell(image, "ls -d /outside", mount("/../../outside", "tmpfs"))
    assert await said(engine, made) == "/outside\n"
    assert not os.path.exists("/outside")


@pytest.mark.parametrize("name", ["proc", "sys"])
async def test_hazard_40_a_link_for_proc_or_sys_is_refused(
    engine: asyncrt.Engine, image: str, name: str
) -> None:
    """Masks would be looked for elsewhere (GHSA-g2j6-57v7-gm8c)."""
    os.rmdir(os.path.join(image, name))
    os.symlink("tmp", os.path.join(image, name))
    failure = await _fails(engine, _shell(image, "true"))
    assert failure.path == f"/{name}"
    assert failure.errno == 40  # ELOOP


async def test_a_mask_through_a_link_masks_what_it_leads_to_inside(
    engine: asyncrt.Engine, image: str
) -> None:
    Path(image, "secret").write_text("inside\n", encoding="utf-8")
    os.symlink("/secret", os.path.join(image, "mask"))
    made = _shell(image, "cat /secret")
    made["linux"]["maskedPaths"] = ["/mask"]
    assert await said(engine, made) == ""


async def test_the_hosts_files_are_no_device_of_the_containers(
    engine: asyncrt.Engine, image: str
) -> None:
    """What lies at a device's place and isn't that device is told, not used or replaced."""
    os.rmdir(os.path.join(image, "dev"))
    os.mkdir(os.path.join(image, "dev"))
    Path(image, "dev", "zero").write_text("planted", encoding="utf-8")
    made = _shell(image, "true")
    made["mounts"] = [each for each in made["mounts"] if not each["destination"].startswith("/dev")]
    failure = await _fails(engine, made)
    assert failure.path == "/dev/zero"


async def test_devices_have_number_mode_and_owner(engine: asyncrt.Engine, rootfs: str) -> None:
    made = _shell(rootfs, "stat -c '%F %t %T %a %u %g' /dev/mine /dev/sub/block /dev/queue")
    made["linux"]["devices"] = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7},
        {"path": "/dev/sub/block", "type": "b", "major": 7, "minor": 9, "gid": 8},
        {"path": "/dev/queue", "type": "p"},
    ]
    assert (await said(engine, made)).splitlines() == [
        "character special file 1 3 640 7 0",
        "block special file 7 9 666 0 8",
        "fifo 0 0 666 0 0",
    ]


_OPEN = "mknod /tmp/made c 1 11 2>/dev/null; for d in /dev/log /tmp/made; do [ -c $d ] && true > $d && echo $d; done"


async def test_only_the_devices_of_the_config_can_be_opened(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    """Who may make nodes makes one of any device; which of them work is the cgroup's to say."""
    made = _shell(rootfs, f"({_OPEN}) 2>/dev/null; true")
    sets = ("bounding", "effective", "permitted")
    made["process"]["capabilities"] = {each: ["CAP_MKNOD"] for each in sets}
    made["mounts"] = [each for each in made["mounts"] if each["destination"] != "/tmp"]
    made["mounts"].append(mount("/tmp", "tmpfs"))
    assert await said(engine, made) == ""
    made["linux"]["devices"] = [{"path": "/dev/log", "type": "c", "major": 1, "minor": 11}]
    assert (await said(engine, made)).split() == ["/dev/log", "/tmp/made"]


async def test_a_device_of_another_number_cant_be_bound(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    made = _shell(rootfs, "true", who=MAPPED)
    made["linux"]["devices"] = [{"path": "/dev/null", "type": "c", "major": 1, "minor": 5}]
    failure = await _fails(engine, made)
    assert (failure.what, failure.path) == ("linux.devices[0]", "/dev/null")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"root": {"path": "/nowhere"}}, "root.path"),
        ({"root": {"path": "/etc/passwd"}}, "root.path"),
        ({"mounts": [{"destination": "/data", "type": "nonsense"}]}, "mounts[0]"),
        ({"mounts": [mount("/data", "tmpfs", "nonsense=1")]}, "mounts[0]"),
        ({"mounts": [mount("/data", "bind", "bind", source="/nowhere")]}, "mounts[0]"),
        ({"mounts": [mount("/etc/passwd", "tmpfs")]}, "mounts[0]"),
    ],
)
async def test_a_step_that_fails_is_named_and_nothing_is_left(
    engine: asyncrt.Engine, rootfs: str, change: dict[str, Any], what: str
) -> None:
    failure = await _fails(engine, {**config(rootfs, ["/bin/true"]), **change})
    assert failure.what == what
    assert failure.errno
    assert failure.path
    assert sandboxes.mounts_below(rootfs) == []


async def test_a_read_only_root_takes_all_that_is_mounted_in_it_along(
    engine: asyncrt.Engine, image: str
) -> None:
    import subprocess

    inner = os.path.join(image, "data")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inner], check=True)
    try:
        script = "touch /data/x 2>&1; grep -c ' /data ' /proc/mounts"
        found = await said(engine, _shell(image, script))
    finally:
        subprocess.run(["umount", inner], check=True)
    assert found == "touch: /data/x: Read-only file system\n1\n"


async def test_the_hosts_root_can_be_the_root(engine: asyncrt.Engine) -> None:
    made = _shell("/", "test -e /etc/passwd; touch /etc/x 2>&1; ls /proc | grep -c '^[0-9]'")
    made["process"]["cwd"] = "/"
    made["process"]["env"] = ["PATH=/usr/bin:/bin"]
    first, count = (await said(engine, made)).splitlines()
    assert "Read-only file system" in first
    assert int(count) <= 4
