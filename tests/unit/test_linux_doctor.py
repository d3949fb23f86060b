"""What the doctor says of machines that lack something, and that it is true of this one."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from pathlib import Path

import pytest

from asyncrt import _durable, _fskind
from asyncrt.launch import fuse
from asyncrt.oci import id_maps
from asyncrt.platforms.cgroups import machine as cgroups_machine
from asyncrt.platforms.cgroups.machine import Hierarchy, Machine
from asyncrt.platforms.linux import (
    cgroups_here,
    doctor,
    doctor_namespaces,
    doctor_overlays,
    machine,
)
from asyncrt.platforms.linux.cgroups_here import Here
from asyncrt.platforms.linux.doctor import examine
from asyncrt.platforms.linux.finding import Finding


def named(findings: list[Finding], name: str) -> Finding:
    found = [each for each in findings if each.check == name]
    assert len(found) == 1, name
    return found[0]


def test_whatever_is_not_well_has_its_mend_and_nothing_else_has() -> None:
    for each in examine():
        assert bool(each.mend) is (each.state != "ok"), each
        assert each.found
        assert "\n" not in f"{each.found}{each.mend}"


def test_it_looks_at_everything_a_sandbox_needs() -> None:
    checks = {each.check for each in examine()}
    assert checks >= {
        "machine",
        "namespaces",
        "new user namespace",
        "system calls",
        "exit status by pidfd",
        "seccomp",
        "security labels",
        "cgroups",
        "overlays",
        "fuse-overlayfs",
        "/dev/shm",
        "root directory",
        "open files",
    }


_NO_PRIVILEGES = {"user": 0, "uts": errno.EPERM, "net": errno.EPERM, "proc": errno.EPERM}


@pytest.mark.parametrize(
    ("tried", "parameters", "mend"),
    [
        ({"user": errno.ENOSPC}, {}, "user.max_user_namespaces="),
        ({"user": 0, "net": errno.ENOSPC, "proc": 0}, {}, "user.max_net_namespaces="),
        ({"user": errno.EPERM}, {"kernel/unprivileged_userns_clone": "0"}, "userns_clone=1"),
        (
            _NO_PRIVILEGES,
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            "apparmor_restrict_unprivileged_userns=0",
        ),
        (_NO_PRIVILEGES, {}, "security module"),
        ({"user": 0, "net": 0, "proc": errno.EPERM}, {}, "systempaths=unconfined"),
        ({"user": errno.EPERM}, {}, "seccomp=unconfined"),
    ],
)
def test_why_no_user_namespace_can_be_made_decides_the_mend(
    tried: dict[str, int],
    parameters: dict[str, str],
    mend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(machine, "try_namespaces", lambda _: dict(tried))
    monkeypatch.setattr(machine, "parameter", lambda path: parameters.get(path, ""))
    (found,) = doctor_namespaces.new()
    assert mend in found.mend
    assert found.state == "missing"


def test_root_needs_namespaces_and_capabilities_and_no_user_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tried(kinds: dict[str, int]) -> dict[str, int]:
        return {"user": errno.EPERM} if "user" in kinds else {"pid": errno.ENOSPC, "proc": 0}

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine, "try_namespaces", tried)
    monkeypatch.setattr(_durable, "read", lambda _: b"CapEff:\t%016x\n" % (2**41 - 1))
    own, user = doctor_namespaces.new()
    assert (own.check, own.state, user.state) == ("new pid namespace", "missing", "limited")
    lacking = 2**41 - 1 - (1 << 21) - (1 << 12)
    monkeypatch.setattr(_durable, "read", lambda _: b"CapEff:\t%016x\n" % lacking)
    own, _ = doctor_namespaces.new()
    assert own.found == "no CAP_SYS_ADMIN CAP_NET_ADMIN"
    assert "--cap-add SYS_ADMIN --cap-add NET_ADMIN" in own.mend


@pytest.mark.needs_userns
def test_namespaces_are_tried_and_nothing_is_mounted_here() -> None:
    mounted = Path("/proc/self/mountinfo").read_text()
    kinds = {"user": 0x10000000, "mnt": 0x20000, "pid": 0x20000000}
    assert machine.try_namespaces(kinds) == {"user": 0, "mnt": 0, "pid": 0, "proc": 0}
    assert machine.try_namespaces({"nonsense": 0x1}) == {"nonsense": errno.EINVAL}
    assert machine.try_namespaces({"user": 0x1, "mnt": 0x20000}) == {"user": errno.EINVAL}
    assert Path("/proc/self/mountinfo").read_text() == mounted


def test_a_user_without_more_ids_is_told_how_to_get_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234567)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(id_maps, "given_ranges", lambda _: [])
    monkeypatch.setattr(id_maps, "free_range", lambda _: (165536, 231071))
    programs, uids, gids = doctor_namespaces.ids()
    assert "uidmap" in programs.mend
    assert uids.mend == "echo 1234567:165536:65536 >> /etc/subuid"
    monkeypatch.setattr(machine, "user_name", lambda: "web")
    _, uids, gids = doctor_namespaces.ids()
    assert uids.mend == "usermod --add-subuids 165536-231071 web"
    assert gids.mend == "usermod --add-subgids 165536-231071 web"
    assert {each.state for each in (programs, uids, gids)} == {"limited"}
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(doctor_namespaces, "_has_power", lambda _: True)
    monkeypatch.setattr(_durable, "read", lambda _: b"Name:\tx\nNoNewPrivs:\t0\n")
    monkeypatch.setattr(id_maps, "given_ranges", lambda _: [(100000, 65536), (5, 4)])
    assert [each.state for each in doctor_namespaces.ids()] == ["ok", "ok"]
    assert doctor_namespaces.ids()[0].found.startswith("65540 ids")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert doctor_namespaces.ids() == []


def test_programs_that_get_no_privilege_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("newuidmap", "newgidmap"):
        (tmp_path / name).touch()
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / name))
    (found,) = doctor_namespaces._programs()
    assert found.mend == f"chmod u+s {tmp_path}/newuidmap {tmp_path}/newgidmap"
    monkeypatch.setattr(doctor_namespaces, "_has_power", lambda _: True)
    monkeypatch.setattr(_durable, "read", lambda _: b"Name:\tx\nNoNewPrivs:\t1\n")
    (found,) = doctor_namespaces._programs()
    assert "no_new_privs is set" in found.found


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        ("", 100000),
        ("a:100000:65536\n", 165536),
        ("a:231072:65536\nb:100000:65536\nbroken\nc:x:y\n", 165536),
        ("a:100000:65536\nb:165537:10\n", 165547),
        ("a:500:99501\n", 100001),
        ("a:0:100000\n", 100000),
    ],
)
def test_ids_that_are_given_to_nobody_yet_are_offered(
    tmp_path: Path, lines: str, first: int
) -> None:
    (tmp_path / "subuid").write_text(lines)
    assert id_maps.free_range(str(tmp_path / "subuid")) == (first, first + 65535)
    assert id_maps.free_range(str(tmp_path / "missing")) == (100000, 165535)


def test_a_call_that_the_kernel_or_a_filter_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = {442: errno.ENOSYS, 435: errno.EPERM}
    monkeypatch.setattr(machine, "try_call", lambda number, *_: lacking.get(number, errno.EINVAL))
    there, *rest = doctor._calls()
    assert "mount_setattr" not in there.found
    assert {(each.check, each.state, each.mend) for each in rest} == {
        ("mount_setattr", "missing", "boot Linux 5.12 or newer"),
        (
            "clone3",
            "missing",
            "in a container: start that one with --security-opt seccomp=unconfined",
        ),
    }


def test_a_call_is_tried_and_not_made() -> None:
    assert machine.try_call(437, -1, 0, 0, 0) == errno.EINVAL  # openat2
    assert machine.try_call(9999) == errno.ENOSYS


def test_a_kernel_without_filters_or_exit_status_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_seccomp", lambda: False)
    monkeypatch.setattr(machine, "tells_exit_status", lambda: False)
    assert named(doctor._seccomp(), "seccomp").state == "missing"
    assert doctor._exit_status().mend == "boot Linux 6.15 or newer"


def test_a_machine_whose_system_calls_have_unknown_numbers_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "machine_architectures", lambda: ())
    assert doctor._kernel().state == "missing"


ALL = ("cpu", "memory", "pids")


@pytest.mark.parametrize(
    ("here", "uid", "check", "state", "mend"),
    [
        (
            Here("none", "", writable=False, controllers=()),
            0,
            "cgroups",
            "limited",
            "mount -t cgroup2",
        ),
        (
            Here("hybrid", "/c", writable=False, controllers=ALL, read_only=("/a", "/b")),
            0,
            "cgroup delegation",
            "limited",
            "mount -o remount,bind,rw /a && mount -o remount,bind,rw /b",
        ),
        (
            Here("v2", "/c", writable=False, controllers=ALL),
            0,
            "cgroup delegation",
            "limited",
            "chown 0 /c/{.,cgroup.procs",
        ),
        (
            Here("v2", "/c", writable=False, controllers=ALL),
            1,
            "cgroup delegation",
            "limited",
            "Delegate=yes",
        ),
        (
            Here("v1", "/c", writable=False, controllers=ALL),
            1,
            "cgroup delegation",
            "limited",
            "unified_cgroup_hierarchy=1",
        ),
        (
            Here("v2", "/c", writable=True, controllers=("pids",)),
            1,
            "cgroup limits",
            "limited",
            "Delegate=cpu cpuset",
        ),
        (
            Here("v2", "/c", writable=True, controllers=()),
            0,
            "cgroup limits",
            "limited",
            "no_v1=all",
        ),
        (Here("v2", "/c", writable=True, controllers=ALL), 1, "cgroup limits", "ok", ""),
    ],
)
def test_cgroups_that_can_not_limit_are_told(
    here: Here, uid: int, check: str, state: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(doctor, "_SYSTEMD", "/")
    monkeypatch.setattr(cgroups_here, "look", lambda: here)
    found = named(doctor._cgroups(), check)
    assert found.state == state
    assert mend in found.mend


def test_the_cgroups_of_this_process_are_those_that_are_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("memory", "cpu", "unified"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    (tmp_path / "unified" / "cgroup.controllers").write_text("pids memory\n")
    v1 = {
        name: Hierarchy(str(tmp_path / name), str(tmp_path / name), v2=False)
        for name in ("memory", "cpu")
    }
    v2 = Hierarchy(str(tmp_path), str(tmp_path / "unified"), v2=True)
    memory, unified = str(tmp_path / "memory"), str(tmp_path / "unified")
    for machine_of, expected in (
        (Machine({}, v2), Here("v2", unified, writable=True, controllers=("memory", "pids"))),
        (Machine(v1, None), Here("v1", memory, writable=True, controllers=("cpu", "memory"))),
        (Machine(v1, v2), Here("hybrid", memory, writable=True, controllers=("cpu", "memory"))),
        (Machine({}, None), Here("none", "", writable=False, controllers=())),
    ):
        monkeypatch.setattr(cgroups_machine, "discover", lambda found=machine_of: found)
        assert cgroups_here.look() == expected
    (tmp_path / "unified" / "cgroup.procs").unlink()
    monkeypatch.setattr(cgroups_machine, "discover", lambda: Machine({}, v2))
    assert cgroups_here.look().writable is False


def test_a_root_directory_is_looked_at_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "root"
    assert doctor._root(str(path)).state == "ok"
    assert os.listdir(tmp_path) == []
    path.mkdir(parents=True, mode=0o700)
    assert doctor._root(str(path)).state == "ok"
    path.chmod(0o777)
    found = doctor._root(str(path))
    assert found.state == "missing"
    assert "others may write" in found.found
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert doctor._root(str(link)).state == "missing"
    monkeypatch.setattr(_fskind, "kind_of", lambda _: "network")
    assert doctor._root(str(tmp_path / "new")).state == "limited"
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert "can't be made" in doctor._root(str(tmp_path / "new")).found


def test_few_open_files_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 524288))
    assert doctor._open_files().mend == "ulimit -n 65536"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert doctor._open_files().mend == f"prlimit --pid {os.getppid()} --nofile=65536:65536"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (-1, -1))
    assert doctor._open_files().state == "ok"


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.EACCES, "chmod 666 /dev/fuse"),
        (errno.ENOENT, "mknod -m 666 /dev/fuse c 10 229"),
        (errno.ENODEV, "modprobe fuse"),
        (errno.EPERM, "--device /dev/fuse"),
    ],
)
def test_why_nobody_serves_an_overlay_decides_the_mend(
    number: int, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuse, "program", lambda: "/bin/fuse-overlayfs")
    monkeypatch.setattr(doctor_overlays, "try_fuse", lambda: number)
    found = named(doctor_overlays.overlays(), "fuse-overlayfs")
    assert found.state == "limited"
    assert mend in found.mend
    assert os.strerror(number) in found.found
    assert "fuse-overlayfs" not in doctor_overlays.kinds()
    monkeypatch.setattr(doctor_overlays, "try_fuse", lambda: 0)
    assert named(doctor_overlays.overlays(), "fuse-overlayfs").state == "ok"
    assert "fuse-overlayfs" in doctor_overlays.kinds()
    monkeypatch.setattr(fuse, "program", lambda: "")
    assert "apt-get install" in named(doctor_overlays.overlays(), "fuse-overlayfs").mend
    assert "fuse-overlayfs" not in doctor_overlays.kinds()


@pytest.mark.parametrize(
    ("tried", "state", "found"),
    [
        ((0, 0), "ok", "over / too"),
        ((0, errno.EINVAL), "ok", "not over /"),
        ((errno.ENODEV, errno.ENODEV), "limited", "No such device"),
    ],
)
def test_where_the_kernel_makes_an_overlay_is_told(
    tried: tuple[int, int], state: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_overlays, "try_kernels", lambda: tried)
    told = named(doctor_overlays.overlays(), "overlays")
    assert told.state == state
    assert found in told.found
    assert ("kernel" in doctor_overlays.kinds()) is (state == "ok")
