"""What the linux platform plans, and what it refuses, field by field."""

from __future__ import annotations

import copy
import os
import stat
from typing import Any

import pytest

from asyncrt.errors import SpecInvalid, SpecUnsupported
from asyncrt.launch import mounts, namespaces
from asyncrt.oci import derive_exec
from asyncrt.platforms import linux
from tests.helpers import sandboxes
from tests.helpers.sandboxes import MAPPED, ROOT, config, mount, spec

pytestmark = pytest.mark.needs_root


def changed(*path: str | int, to: object, who: str = ROOT) -> dict[str, Any]:
    """An ordinary config with one value another."""
    made = copy.deepcopy(config("/rootfs", ["true"], who=who))
    at: Any = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return made


def refused(made: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(SpecUnsupported) as caught:
        linux.plan(spec(made))
    assert linux.unsupported(spec(made)) == list(caught.value.fields)
    return caught.value.fields


def planned_mount(*options: str, type: str = "tmpfs", source: str | None = None) -> dict[str, Any]:
    made = changed("mounts", to=[mount("/data", type, *options, source=source)])
    root = linux.plan(spec(made))["linux"]["root"]
    assert root is not None
    return dict(root["mounts"][0])


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("hostname",), "h", None),
        (("mounts", 0, "options"), ["tmpcopyup"], "mounts[0].options[0]"),
        (("mounts", 1, "options"), ["tmpcopyup"], None),
        (("mounts", 0, "options"), ["ro", "idmap"], "mounts[0].options[1]"),
        (("mounts", 0, "options"), ["bind", "sync"], "mounts[0].options[1]"),
        (("mounts", 0, "options"), ["bind", "size=1"], "mounts[0].options[1]"),
        (("mounts", 0, "options"), ["x=" + "y" * 256], "mounts[0].options[0]"),
        (("mounts", 0, "options"), [""], "mounts[0].options[0]"),
        (("mounts", 0, "type"), None, "mounts[0].type"),
        (("linux", "rootfsPropagation"), "sideways", "linux.rootfsPropagation"),
        (("linux", "sysctl"), {"kernel.panic": "1"}, 'linux.sysctl["kernel.panic"]'),
        (("linux", "sysctl"), {"net/../kernel/panic": "1"}, 'linux.sysctl["net/../kernel/panic"]'),
        (("linux", "sysctl"), {"vm.swappiness": "1"}, 'linux.sysctl["vm.swappiness"]'),
        (("linux", "timeOffsets"), {"boottime": {"secs": 1}}, "linux.timeOffsets"),
        (
            ("linux", "uidMappings"),
            [{"containerID": 0, "hostID": 0, "size": 1}],
            "linux.uidMappings",
        ),
        (("linux", "devices"), [{"path": "/dev/x", "type": "x"}], "linux.devices[0].type"),
        (("linux", "devices"), [{"path": "/dev/x", "type": "c"}], "linux.devices[0].major"),
        (
            ("linux", "devices"),
            [{"path": "/dev/x", "type": "b", "major": 1, "minor": -1}],
            "linux.devices[0].minor",
        ),
        (
            ("linux", "devices"),
            [{"path": "/", "type": "c", "major": 1, "minor": 1}],
            "linux.devices[0].path",
        ),
        (("linux", "intelRdt"), {"closID": "x"}, "linux.intelRdt"),
        (("linux", "netDevices"), {"eth0": {}}, "linux.netDevices"),
        (("linux", "netDevices"), {}, None),
        (("linux", "mountLabel"), "x", "linux.mountLabel"),
        (("vm",), {"hypervisor": {"path": "/x"}}, "vm"),
    ],
)
def test_what_cant_be_honoured_is_refused_by_its_path(
    path: tuple[str | int, ...], value: object, field: str | None
) -> None:
    made = changed(*path, to=value)
    if field is None:
        linux.plan(spec(made))
    else:
        assert field in refused(made)


@pytest.mark.parametrize("kind", ["mount", "uts", "ipc", "network"])
def test_what_belongs_to_a_namespace_is_refused_without_it(kind: str) -> None:
    made = config("/rootfs", ["true"])
    made["linux"]["namespaces"] = [
        each for each in made["linux"]["namespaces"] if each["type"] != kind
    ]
    made["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "1"}
    assert (
        set(refused(made))
        == {
            "mount": {
                *("root.path", "root.readonly", "mounts"),
                *("linux.maskedPaths", "linux.readonlyPaths"),
            },
            "uts": {"hostname"},
            "ipc": {'linux.sysctl["kernel.shmmax"]'},
            "network": {'linux.sysctl["net.ipv4.ip_forward"]'},
        }[kind]
    )


@pytest.mark.parametrize(("kind", "field"), [("mount", "root.path"), ("uts", "hostname")])
def test_a_namespace_that_is_wanting_is_named_and_no_other_platform_advised(
    kind: str, field: str
) -> None:
    made = config("/rootfs", ["true"])
    made["linux"]["namespaces"] = [
        each for each in made["linux"]["namespaces"] if each["type"] != kind
    ]
    with pytest.raises(SpecUnsupported) as caught:
        linux.plan(spec(made))
    why = f'{field} (the config names no {kind} namespace: add {{"type": "{kind}"}} to linux.namespaces)'
    assert why in str(caught.value)
    assert str(caught.value).endswith("; take these out of the spec")


@pytest.mark.parametrize(
    ("user", "fields"),
    [
        ({"uid": 65536, "gid": 0}, ("process.user.uid",)),
        ({"uid": 0, "gid": 65536}, ("process.user.gid",)),
        ({"uid": 0, "gid": 0, "additionalGids": [1, 70000]}, ("process.user.additionalGids[1]",)),
    ],
)
def test_an_id_without_a_map_is_refused(user: dict[str, Any], fields: tuple[str, ...]) -> None:
    assert refused(changed("process", "user", to=user, who=MAPPED)) == fields


@pytest.mark.parametrize("field", ["uidMappings", "gidMappings"])
def test_a_new_user_namespace_needs_both_maps(field: str) -> None:
    made = config("/rootfs", ["true"], who=MAPPED)
    del made["linux"][field]
    with pytest.raises(SpecInvalid) as caught:
        linux.plan(spec(made))
    assert caught.value.json_path == f"linux.{field}"


def test_an_ordinary_user_needs_a_user_namespace_or_the_programs_for_wider_maps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    assert "linux.namespaces" in linux.unsupported(spec(config("/rootfs", ["true"])))
    monkeypatch.setattr("shutil.which", lambda name: None)
    wide = spec(config("/rootfs", ["true"], who=MAPPED))
    assert linux.unsupported(wide) == ["linux.uidMappings", "linux.gidMappings"]
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    maps = linux.plan(wide)["linux"]["maps"]
    assert maps is not None
    assert maps["programs"] == ["/usr/bin/newuidmap", "/usr/bin/newgidmap"]
    assert not maps["deny_setgroups"]


def test_a_single_id_of_an_ordinary_user_is_mapped_without_a_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    made = config("/rootfs", ["true"], who=MAPPED)
    for field in ("uidMappings", "gidMappings"):
        made["linux"][field] = [{"containerID": 0, "hostID": 1000, "size": 1}]
    plan = linux.plan(spec(made))
    maps = plan["linux"]["maps"]
    assert maps is not None
    assert (maps["programs"], maps["deny_setgroups"]) == (["", ""], True)
    assert plan["groups"] is None, "setgroups(2) is denied then"
    made["process"]["user"]["additionalGids"] = [0]
    assert refused(made) == ("process.user.additionalGids",)


@pytest.mark.parametrize(
    ("options", "set", "clear"),
    [
        ((), 0, 0),
        (("ro",), mounts.MOUNT_ATTR_RDONLY, 0),
        (("ro", "rw"), 0, mounts.MOUNT_ATTR_RDONLY),
        (("nosuid", "nodev"), mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NODEV, 0),
        (("noatime",), mounts.MOUNT_ATTR_NOATIME, mounts.MOUNT_ATTR_ATIME),
    ],
)
def test_options_become_attributes(options: tuple[str, ...], set: int, clear: int) -> None:
    found = planned_mount(*options)
    assert (found["set"], found["clear"]) == (set, clear)


def test_options_of_the_file_system_are_passed_on_with_their_source() -> None:
    found = planned_mount("size=1m", "noswap", "sync", source="mine")
    assert found["data"] == [("source", "mine"), ("size", "1m"), ("noswap", None), ("sync", None)]
    assert planned_mount("ro", type="ext4", source="/dev/x")["data"][-1] == ("ro", None)


def test_lower_directories_too_long_for_one_option_are_passed_one_by_one() -> None:
    layers = ["/" + "a" * 100, "/b\\:c" + "d" * 100, "/" + "e" * 100]
    found = planned_mount(f"lowerdir={':'.join(layers)}", type="overlay")
    assert found["data"][1:] == [
        ("lowerdir+", layers[0]),
        ("lowerdir+", layers[1].replace("\\:", ":")),
        ("lowerdir+", layers[2]),
    ]


@pytest.mark.parametrize(
    ("written", "path"),
    [("/a/../b", "/b"), ("../x", "/x"), ("//a//b/", "/a/b"), ("a", "/a"), ("/..", "/")],
)
def test_destinations_are_normal_and_absolute(written: str, path: str) -> None:
    made = changed("mounts", to=[mount(written, "tmpfs")])
    root = linux.plan(spec(made))["linux"]["root"]
    assert root is not None
    assert root["mounts"][0]["to"] == path


def test_a_relative_root_is_below_the_bundle_and_invalid_without_one() -> None:
    made = changed("root", "path", to="rootfs")
    root = linux.plan(spec(made, bundle="/bundle"))["linux"]["root"]
    assert root is not None
    assert root["path"] == "/bundle/rootfs"
    with pytest.raises(SpecInvalid, match="relative"):
        linux.plan(spec(made))
    del made["root"]
    with pytest.raises(SpecInvalid) as caught:
        linux.plan(spec(made))
    assert caught.value.json_path == "root"


def test_a_device_of_the_config_takes_the_place_of_a_default_one() -> None:
    device = {"path": "/dev/tty", "type": "c", "major": 4, "minor": 0, "fileMode": 0o600}
    root = linux.plan(spec(changed("linux", "devices", to=[device])))["linux"]["root"]
    assert root is not None
    found = {each["path"]: each for each in root["devices"]}
    assert len(found) == 6
    assert found["/dev/tty"]["mode"] == stat.S_IFCHR | 0o600
    assert found["/dev/tty"]["at"] == "linux.devices[0]"


def test_a_bound_dev_is_left_as_it_is() -> None:
    made = changed("mounts", to=[mount("/dev", "bind", "rbind", source="/dev")])
    root = linux.plan(spec(made))["linux"]["root"]
    assert root is not None
    assert not root["fill_dev"]


def test_an_exec_joins_all_namespaces_new_or_by_path() -> None:
    made = config("/rootfs", ["true"], who=MAPPED)
    made["linux"]["namespaces"][4] = {"type": "network", "path": "/proc/1/ns/net"}
    whole = spec(made)
    assert whole.config.process is not None
    plan = linux.plan_exec(whole, derive_exec(whole.config.process, ["ls"]))
    kinds = (*sandboxes.NAMESPACES, "user")
    from asyncrt.platforms.linux.namespaces import KINDS

    assert plan["joins"]["kinds"] == sum(KINDS[kind] for kind in kinds)
    assert plan["joins"]["ids"] == (0, 0)
    assert "privileges" in plan
    first = linux.plan(whole)["linux"]
    assert not first["new"] & namespaces.CLONE_NEWNET
    assert not first["loopback"], "the network is another's"
    assert first["join"] == [("linux.namespaces[4]", "/proc/1/ns/net", namespaces.CLONE_NEWNET)]
