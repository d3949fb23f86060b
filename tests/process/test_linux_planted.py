"""Images and sources with traps in them: what is planted before, or swapped meanwhile, leads nowhere."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

import asyncrt
from asyncrt.launch import inside
from tests.helpers import capabilities, sandboxes
from tests.helpers.cgroups import limited, unique
from tests.helpers.containers import destroyed, sleeper, started
from tests.helpers.processes import run_python
from tests.helpers.sandboxes import EVERYBODY, MAPPED, ROOT, USER, mount, said_by, shell, spec

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

everybody = pytest.mark.parametrize("who", EVERYBODY)


async def test_nothing_is_imported_from_the_containers_files(
    engine: asyncrt.Engine, tmp_path: Path
) -> None:
    """The interpreter that sets a container up looks for modules at paths that the image has too."""
    image = sandboxes.make_rootfs(str(tmp_path / "image"))
    for directory in {os.path.dirname(os.__file__), *(each for each in sys.path if each)}:
        os.makedirs(f"{image}/{directory}", exist_ok=True)
        for name in ("json", "traceback", "linecache", "encodings", "homes", "pwd", "socket"):
            Path(f"{image}/{directory}/{name}.py").write_text(
                "open('/tmp/imported', 'w')\n", encoding="utf-8"
            )
    made = shell(image, "ls /tmp")
    made["process"]["user"] = {"uid": 1000, "gid": 1000}
    assert await sandboxes.said(engine, made) == ""
    made["process"]["args"] = ["nothing"]
    container = await engine.create("box", spec=spec(made))
    async with destroyed(container):
        with pytest.raises(asyncrt.StartFailed):
            await container.start()


async def test_hazard_39_a_planted_terminal_isnt_taken(
    engine: asyncrt.Engine, tmp_path: Path
) -> None:
    """CVE-2025-52565: what is bound over /dev/console is one of a devpts, by descriptor."""
    image = sandboxes.make_rootfs(str(tmp_path / "image"))
    os.makedirs(f"{image}/dev/pts")
    Path(f"{image}/dev/pts/ptmx").write_text("planted", encoding="utf-8")
    made = shell(image, "true")
    made["process"]["terminal"] = True
    made["mounts"] = [each for each in made["mounts"] if not each["destination"].startswith("/dev")]
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("box", spec=spec(made))
    assert caught.value.what == "process.terminal"
    del made["process"]["terminal"]
    made["process"]["args"] = ["/bin/sleep", "1000"]
    container = await engine.create("box", spec=spec(made))
    async with destroyed(container):
        await container.start()
        with pytest.raises(asyncrt.StartFailed) as caught:
            await container.exec(["/bin/true"], terminal=True)
        assert caught.value.what == "process.terminal"
    assert Path(f"{image}/dev/pts/ptmx").read_text(encoding="utf-8") == "planted"


@everybody
def test_hazard_38_a_proc_that_is_renamed_while_it_is_made_is_masked_all_the_same(
    open_directory: Path, who: str
) -> None:
    """CVE-2021-30465, CVE-2025-31133: who can write to the image swaps what the masks are found by.

    A hook does it, right before they are put on; what is mounted goes with the directory's name.
    """
    image = sandboxes.make_rootfs(str(open_directory / "image"))
    Path(image, "false").mkdir()
    Path(image, "false", "keys").touch()
    Path(image, "false", "sys").mkdir()
    made = shell(
        image, "cat /moved/timer_list | wc -l; true > /moved/sys/kernel/shm_rmid_forced", who
    )
    swap = f"cd {image} && mv proc moved && mv false proc"
    made["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", swap]}]}
    if who == USER:
        user = capabilities.ordinary_user()
        assert user is not None
        for path in (image, f"{image}/proc", f"{image}/false"):
            os.chown(path, user.uid, user.gid)
    out = said_by(who, made)
    assert out.startswith("0\n")
    assert "Read-only file system" in out


def _planted(directory: Path, who: str, link: str) -> str:
    """An image of that one's own, with a link in it."""
    image = sandboxes.make_rootfs(str(directory / "image"))
    os.symlink(link, f"{image}/out")
    user = capabilities.ordinary_user()
    assert user is not None
    uid = {ROOT: 0, MAPPED: 100000, USER: user.uid}[who]
    for place in (image, f"{image}/etc"):
        os.chown(place, uid, uid)
    return image


@everybody
@pytest.mark.parametrize("link", ["/etc", "../../../../../../etc"])
def test_hazard_38_no_place_in_an_image_leads_out_of_it(
    open_directory: Path, who: str, link: str
) -> None:
    """CVE-2021-30465, CVE-2026-55686: mounts, devices, working directory, masks, all through a link."""
    image = _planted(open_directory, who, link)
    name = f"asyncrt-test-{os.getpid()}"
    made = shell(image, "ls /etc; pwd; cat /etc/passwd; true > /etc/passwd", who)
    made["root"]["readonly"] = False
    made["process"]["cwd"] = f"/out/{name}-cwd"
    made["mounts"] += [
        mount(f"/out/{name}-mount", "tmpfs"),
        mount(f"/out/{name}-file", "bind", "bind", source="/etc/passwd"),
    ]
    if who == ROOT:  # for others it is the host's node of the same name, which isn't there
        device = {"path": f"/out/{name}-device", "type": "c", "major": 1, "minor": 3}
        made["linux"]["devices"] = [device]
    made["linux"]["maskedPaths"] = ["/out/passwd"]
    made["linux"]["readonlyPaths"] = ["/out"]
    found = said_by(who, made).split()
    kinds = ["cwd", "file", "mount", *(["device"] if who == ROOT else [])]
    assert found[: len(kinds)] == sorted(f"{name}-{each}" for each in kinds)
    assert f"/etc/{name}-cwd" in found
    assert "root:x:0:0:root:/root:/bin/sh" not in found, "it is masked"
    assert not [each for each in os.listdir("/etc") if each.startswith(name)]
    assert Path("/etc/passwd").read_bytes()


@everybody
@pytest.mark.parametrize("change", ["mount", "cwd"])
def test_no_magic_link_is_followed(open_directory: Path, who: str, change: str) -> None:
    image = _planted(open_directory, who, "/proc/self/root/etc")
    name = f"/out/asyncrt-test-{os.getpid()}"
    made = shell(image, "true", who)
    made["root"]["readonly"] = False
    if change == "cwd":
        made["process"]["cwd"] = name
    else:
        made["mounts"].append(mount(name, "tmpfs"))
    assert said_by(who, made).startswith("container 'box': ")
    assert not os.path.lexists(f"/etc{name[4:]}")


@everybody
def test_dots_in_a_path_end_at_the_images_root(open_directory: Path, who: str) -> None:
    image = _planted(open_directory, who, "/etc")
    name = f"asyncrt-test-{os.getpid()}"
    made = shell(image, "ls /; pwd", who)
    made["root"]["readonly"] = False
    made["process"]["cwd"] = f"/../../../{name}-cwd"
    made["mounts"].append(mount(f"/../../../{name}-mount", "tmpfs"))
    found = said_by(who, made).split()
    assert {f"{name}-cwd", f"{name}-mount", f"/{name}-cwd"} <= {*found}
    assert not [each for each in os.listdir("/") if each.startswith(name)]


async def test_hazard_39_a_console_through_a_link_lies_inside(
    engine: asyncrt.Engine, tmp_path: Path
) -> None:
    image = sandboxes.make_rootfs(str(tmp_path / "image"))
    os.symlink("../../../../etc/passwd", f"{image}/dev/console")
    made = shell(image, "stat -c %F /etc/passwd; exit 3")
    made["process"]["terminal"] = True
    made["mounts"] = [each for each in made["mounts"] if each["destination"] != "/dev"]
    before = Path("/etc/passwd").read_bytes()
    container = await engine.create("box", spec=spec(made))
    async with destroyed(container), await container.attach() as terminal:
        await container.start()
        assert (await terminal.read()).strip() == b"character special file"
        assert (await container.wait()).exit_code == 3
    assert Path("/etc/passwd").read_bytes() == before
    assert Path(f"{image}/etc/passwd").read_text(encoding="utf-8").startswith("root:")


async def test_hazard_40_kernel_parameters_are_set_through_the_hosts_own_procfs(
    engine: asyncrt.Engine, tmp_path: Path
) -> None:
    """CVE-2025-52881: whatever the container has at /proc, a write goes where it is meant to."""
    image = sandboxes.make_rootfs(str(tmp_path / "image"))
    planted = Path(f"{image}/proc/sys/net/ipv4/ip_default_ttl")
    planted.parent.mkdir(parents=True)
    planted.write_text("planted", encoding="utf-8")
    made = shell(image, "cat /proc/sys/net/ipv4/ip_default_ttl /data/sys/net/ipv4/ip_default_ttl")
    made["mounts"] = [each for each in made["mounts"] if each["destination"] != "/proc"]
    made["mounts"].append(mount("/data", "proc"))
    made["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "77"}
    del made["linux"]["maskedPaths"], made["linux"]["readonlyPaths"]
    assert await sandboxes.said(engine, made) == "planted77\n"


def test_hazard_40_what_is_no_procfs_is_refused() -> None:
    for path in ("/", "/dev", "/sys"):
        fd = os.open(path, os.O_PATH)
        try:
            with pytest.raises(OSError, match="No such device"):
                inside._refuse_other(fd)
        finally:
            os.close(fd)


async def test_hazard_44_a_source_that_is_swapped_after_it_was_opened_changes_nothing(
    engine: asyncrt.Engine, rootfs: str, tmp_path: Path
) -> None:
    """A path that is checked and bound later (Flatpak's CVE-2026-34078); here a hook swaps it."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "mine").touch()
    made = shell(rootfs, "ls /data")
    made["mounts"].append(mount("/data", "bind", "bind", source=str(tmp_path / "source")))
    swap = f"cd {tmp_path} && mv source gone && ln -s /etc source"
    made["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", swap]}]}
    assert await sandboxes.said(engine, made) == "mine\n"
    assert os.path.islink(tmp_path / "source")


_OTHER_NULL = """
import os
from asyncrt import _libc
from asyncrt.launch import devices, mounts, namespaces
from asyncrt.launch.failure import Failure
namespaces.unshare(namespaces.CLONE_NEWNS)
slash = os.open("/", os.O_PATH)
mounts.change(slash, propagation=mounts.MS_PRIVATE, recursive=True)
os.close(devices.real_null())
place = os.open("/dev/null", os.O_PATH)
mounts.attach(mounts.clone_path("/dev/zero", recursive=False), place)
try:
    devices.real_null()
except Failure as failure:
    print(failure.report())
"""


def test_hazard_38_what_covers_a_mask_is_checked_to_be_the_null_device() -> None:
    """CVE-2025-31133."""
    done = run_python(_OTHER_NULL)
    assert "'what': 'linux.maskedPaths', 'path': '/dev/null'" in done.stdout, done


@pytest.mark.needs_cgroups("pids")
@pytest.mark.parametrize("who", [ROOT, MAPPED])
async def test_a_cgroup_that_others_are_in_is_no_sandboxs(
    engine: asyncrt.Engine, rootfs: str, who: str
) -> None:
    """They would be limited, paused and killed with it; and stay in it when it is gone."""
    path = unique()
    async with destroyed(await started(engine, "others", limited(sleeper(), path))) as others:
        made = shell(rootfs, "true", who)
        made["linux"] |= {"cgroupsPath": path, "resources": {"pids": {"limit": 7}}}
        with pytest.raises(asyncrt.StartFailed) as caught:
            await engine.create("box", spec=spec(made))
        assert (caught.value.what, caught.value.errno) == ("linux.cgroupsPath", errno.ENOTEMPTY)
        assert (await others.view()).status is asyncrt.Status.RUNNING
