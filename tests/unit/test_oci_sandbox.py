"""Specs of sandboxes as data: what they ask for, as root and as an ordinary user."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
from pathlib import Path
from typing import Any

import pytest

from asyncrt.errors import SpecInvalid
from asyncrt.oci import Spec, default_config, id_maps
from asyncrt.oci.default_seccomp import default_seccomp
from asyncrt.oci.sandbox_config import parse_size
from asyncrt.oci.words import CAPABILITIES, SECCOMP_ACTIONS
from asyncrt.platforms.linux.seccomp import assemble
from asyncrt.platforms.linux.syscalls import numbers
from tests.unit.test_linux_seccomp import PC, section, verdict

ALLOW = SECCOMP_ACTIONS["SCMP_ACT_ALLOW"]
ERRNO = SECCOMP_ACTIONS["SCMP_ACT_ERRNO"]


def made(**options: Any) -> dict[str, Any]:
    """The config of a sandbox on the host's root, or of what `options` say."""
    options.setdefault("host_root_readonly", "rootfs" not in options)
    spec = Spec.sandbox(["job", "--all"], **options)
    found: dict[str, Any] = json.loads(spec.encoded())
    return found


def kinds(config: dict[str, Any]) -> set[str]:
    return {each["type"] for each in config["linux"]["namespaces"]}


def at(config: dict[str, Any], destination: str) -> dict[str, Any]:
    found = [each for each in config["mounts"] if each["destination"] == destination]
    assert len(found) == 1, destination
    return dict(found[0])


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getegid", lambda: 0)


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 1235)
    monkeypatch.setattr(shutil, "which", lambda _: None)


@pytest.mark.usefixtures("as_root")
def test_roots_sandbox_needs_no_user_namespace() -> None:
    config = made()
    assert kinds(config) == {"pid", "ipc", "uts", "mount", "cgroup", "network"}
    assert "uidMappings" not in config["linux"]
    assert config["process"]["user"] == {"uid": 0, "gid": 0}
    assert "gid=5" in at(config, "/dev/pts")["options"]
    assert "ro" in at(config, "/sys/fs/cgroup")["options"]


@pytest.mark.usefixtures("as_user")
def test_an_ordinary_users_sandbox_on_the_hosts_root_is_that_user() -> None:
    config = made()
    assert "user" in kinds(config)
    assert config["process"]["user"] == {"uid": 1234, "gid": 1235}
    assert config["linux"]["uidMappings"] == [{"containerID": 1234, "hostID": 1234, "size": 1}]
    assert config["linux"]["gidMappings"] == [{"containerID": 1235, "hostID": 1235, "size": 1}]
    # A group that isn't mapped can own nothing.
    assert "gid=5" not in at(config, "/dev/pts")["options"]


@pytest.mark.usefixtures("as_user")
def test_an_ordinary_users_sandbox_of_an_image_is_root_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = made(rootfs="/srv/image")
    assert config["process"]["user"] == {"uid": 0, "gid": 0}
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1234, "size": 1}]
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    ranges = {"/etc/subuid": [(100000, 65536)], "/etc/subgid": [(200000, 1000), (300000, 5)]}
    monkeypatch.setattr(id_maps, "given_ranges", ranges.__getitem__)
    config = made(rootfs="/srv/image")
    assert config["linux"]["uidMappings"] == [
        {"containerID": 0, "hostID": 1234, "size": 1},
        {"containerID": 1, "hostID": 100000, "size": 65536},
    ]
    assert config["linux"]["gidMappings"] == [
        {"containerID": 0, "hostID": 1235, "size": 1},
        {"containerID": 1, "hostID": 200000, "size": 1000},
        {"containerID": 1001, "hostID": 300000, "size": 5},
    ]
    assert "gid=5" in at(config, "/dev/pts")["options"]


def test_the_ranges_of_a_user_are_found_by_name_and_number(tmp_path: Path) -> None:
    name = pwd.getpwuid(os.geteuid()).pw_name
    file = tmp_path / "subuid"
    file.write_text(
        f"{name}:100000:65536\nother:5:5\n{os.geteuid()}:400000:10\n{name}:x:1\n{name}:7:0\n\nbad\n"
    )
    assert id_maps.given_ranges(str(file)) == [(100000, 65536), (400000, 10)]
    assert id_maps.given_ranges(str(tmp_path / "missing")) == []


def test_the_hosts_root_is_read_only_and_what_changes_on_it_is_covered() -> None:
    config = made(writable=["/srv", Path("/home")])
    assert config["root"] == {"path": "/", "readonly": True}
    # A socket takes connections on a read-only mount too.
    for each in ("/run", "/tmp"):
        assert at(config, each)["type"] == "tmpfs"
    for each in ("/srv", "/home"):
        assert at(config, each)["source"] == each
        assert set(at(config, each)["options"]) == {"rbind", "rw", "nosuid", "nodev"}
    image = made(rootfs="/srv/image")
    assert image["root"] == {"path": "/srv/image", "readonly": False}
    assert all(each["destination"] != "/run" for each in image["mounts"])


def test_a_relative_root_is_below_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert made(rootfs="image")["root"]["path"] == f"{tmp_path}/image"


def test_sharing_the_network_shares_sysfs_which_only_its_owner_may_mount() -> None:
    config = made(network=True)
    assert "network" not in kinds(config)
    assert at(config, "/sys")["source"] == "/sys"
    assert {"rbind", "rro"} <= set(at(config, "/sys")["options"])
    assert at(made(), "/sys")["type"] == "sysfs"


def test_limits_are_those_of_the_resources() -> None:
    linux = made(memory="256M", pids=64, cpu=0.5)["linux"]
    assert linux["resources"] == {
        "memory": {"limit": 256 << 20, "swap": 256 << 20},
        "pids": {"limit": 64},
        "cpu": {"quota": 50_000, "period": 100_000},
    }
    assert "resources" not in made()["linux"]
    assert made(cpu=0.0001)["linux"]["resources"]["cpu"]["quota"] == 1000


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (9, 9),
        ("7", 7),
        ("7b", 7),
        ("7k", 7 << 10),
        ("7KiB", 7 << 10),
        ("7G", 7 << 30),
        ("1T", 1 << 40),
    ],
)
def test_sizes_are_read_in_units_of_1024(text: int | str, size: int) -> None:
    assert parse_size(text, "at") == size


def test_hazard_43_nothing_gains_privileges_and_nothing_is_inheritable() -> None:
    process = made()["process"]
    assert process["noNewPrivileges"] is True
    assert set(process["capabilities"]) == {"bounding", "effective", "permitted"}
    assert set(process["capabilities"]["bounding"]) < set(CAPABILITIES)
    assert "CAP_SYS_ADMIN" not in process["capabilities"]["bounding"]


@pytest.mark.usefixtures("as_root")
def test_capabilities_asked_for_reach_an_ordinary_user_inside() -> None:
    asked = made(capabilities=["CAP_NET_ADMIN"], user="1000:1000")["process"]["capabilities"]
    assert asked["ambient"] == asked["inheritable"] == asked["bounding"] == ["CAP_NET_ADMIN"]
    assert "ambient" not in made(capabilities=["CAP_NET_ADMIN"])["process"]["capabilities"]
    assert "ambient" not in made(user="1000:1000")["process"]["capabilities"]


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"host_root_readonly": False}, "root.path"),
        ({"host_root_readonly": True, "rootfs": "/srv"}, "root.path"),
        ({"rootfs": b"/srv"}, "root.path"),
        ({"writable": "/srv"}, "mounts"),
        ({"writable": ["srv"]}, "mounts"),
        ({"memory": "much"}, "linux.resources.memory.limit"),
        ({"memory": "0"}, "linux.resources.memory.limit"),
        ({"memory": -1}, "linux.resources.memory.limit"),
        ({"memory": True}, "linux.resources.memory.limit"),
        ({"memory": "9999999T"}, "linux.resources.memory.limit"),
        ({"memory": "٣M"}, "linux.resources.memory.limit"),
        ({"pids": 0}, "linux.resources.pids.limit"),
        ({"pids": 1.5}, "linux.resources.pids.limit"),
        ({"cpu": 0}, "linux.resources.cpu.quota"),
        ({"cpu": float("nan")}, "linux.resources.cpu.quota"),
        ({"cpu": float("inf")}, "linux.resources.cpu.quota"),
        ({"user": "nobody at all"}, "process.user"),
        ({"cwd": "here"}, "process.cwd"),
        ({"hostname": 7}, "hostname"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_path_it_stands_for(
    options: dict[str, Any], path: str
) -> None:
    with pytest.raises(SpecInvalid) as caught:
        made(**options)
    assert caught.value.json_path == path


@pytest.mark.parametrize("rootless", [True, False])
def test_a_config_to_begin_with_is_valid(rootless: bool) -> None:
    config = default_config(rootless=rootless)
    spec = Spec.decode(json.dumps(config).encode())
    linux = spec.config.linux
    assert linux is not None
    assert bool(linux.uid_mappings) is rootless
    assert any(each.type == "user" for each in linux.namespaces or ()) is rootless
    assert linux.seccomp is not None


def profile(*capabilities: str) -> bytes:
    return assemble(section(**default_seccomp(capabilities)), PC)


def test_the_default_profile_names_only_system_calls_that_exist() -> None:
    known = {name for column in ("x86_64", "x86", "arm", "riscv64") for name in numbers(column)}
    # Of machines whose numbers we don't have, or of others' tables.
    others = {"recv", "send", "epoll_ctl_old", "epoll_wait_old", "fstatat64"}
    syscalls: Any = default_seccomp(["CAP_SYS_ADMIN"])["syscalls"]
    named = {name for each in syscalls for name in each["names"]}
    assert named - known - others == set()


def test_the_default_profile_decides_every_system_call_there_is() -> None:
    # One it forgot would fail as if the kernel didn't have it.
    program = profile()
    rest = {
        name
        for name in numbers("x86_64")
        if verdict(program, name, *([0xFF] * 6)) == ERRNO | errno.ENOSYS
    }
    assert rest == {"clone3", "personality", "socket"}  # these by their arguments
    with_admin = profile("CAP_SYS_ADMIN")
    assert verdict(with_admin, "clone", 0x10000000) == ALLOW
    assert verdict(with_admin, "clone3") == ALLOW


@pytest.mark.parametrize("arch", PC)
def test_the_default_profile_keeps_the_kernels_doors_shut(arch: str) -> None:
    program = profile()

    def of(name: str, *args: int) -> int:
        return verdict(program, name, *args, arch=arch)

    eperm = ERRNO | errno.EPERM
    for name in ("mount", "unshare", "setns", "keyctl", "bpf", "kexec_load", "io_uring_setup"):
        assert of(name) == eperm, name
    for name in ("pivot_root", "open_by_handle_at", "userfaultfd", "init_module", "reboot"):
        assert of(name) == eperm, name
    assert of("clone3") == ERRNO | errno.ENOSYS
    assert of("clone", 0x10000000) == ERRNO | errno.ENOSYS  # CLONE_NEWUSER
    assert of("clone", 0x00010F00) == ALLOW  # a thread
    # Typing for the terminal's user, also with what the kernel doesn't look at set.
    for request in (0x5412, 0x541C, 0xFFFFFFFF_00005412):
        assert of("ioctl", 0, request) == eperm
    assert of("ioctl", 0, 0x5413) == ALLOW
    for family in (40, 0x1_00000028):
        assert of("socket", family) == ERRNO | errno.EAFNOSUPPORT
    for family in (*range(40), *range(41, 46)):
        assert of("socket", family) == ALLOW, family
    assert of("personality", 0x8) == ALLOW
    assert of("personality", 0x0040000) == ERRNO | errno.ENOSYS  # ADDR_NO_RANDOMIZE


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_BPF", "bpf"),
        ("CAP_SYS_PTRACE", "pidfd_getfd"),
    ],
)
def test_a_capability_opens_what_it_is_for(capability: str, name: str) -> None:
    assert verdict(profile(), name) == ERRNO | errno.EPERM
    assert verdict(profile(capability), name) == ALLOW
