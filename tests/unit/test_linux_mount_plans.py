"""Id maps, copies and labels of mounts: what is planned, and what is refused with its reason."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from asyncrt.errors import SpecInvalid, SpecUnsupported
from asyncrt.oci import Spec
from asyncrt.platforms import linux
from asyncrt.platforms.linux import machine
from tests.helpers.sandboxes import MAPPED, ROOT, config, mount, spec

pytestmark = pytest.mark.needs_root

_ONE = [{"containerID": 0, "hostID": 1000, "size": 10}]
_MAPS = {"uidMappings": _ONE, "gidMappings": [{**_ONE[0], "hostID": 2000}]}


def _with(*mounts: dict[str, Any], who: str = ROOT) -> dict[str, Any]:
    made = config("/rootfs", ["true"], who=who)
    made["mounts"] = list(mounts)
    return made


def _planned(made: dict[str, Any]) -> list[Any]:
    root = linux.plan(spec(made))["linux"]["root"]
    assert root is not None
    return list(root["mounts"])


def _refused(made: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SpecUnsupported) as caught:
        linux.plan(spec(made))
    return dict.fromkeys(caught.value.fields, "") | dict(caught.value.reasons)


@pytest.fixture
def maps_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any kernel."""
    monkeypatch.setattr(machine, "has_mapped_mounts", lambda: True)


def _bind(*options: str, **more: Any) -> dict[str, Any]:
    return {**mount("/data", "bind", *options, source="/srv"), **more}


@pytest.mark.parametrize(
    ("bind", "recursive"),
    [
        (_bind("bind", **_MAPS), False),
        (_bind("rbind", "idmap", **_MAPS), False),
        (_bind("rbind", "ridmap", **_MAPS), True),
    ],
)
def test_a_map_of_the_mounts_own(maps_mounts: None, bind: dict[str, Any], recursive: bool) -> None:
    [found] = _planned(_with(bind, who=MAPPED))
    assert found["idmap"] == {
        "uid": [[0, 1000, 10]],
        "gid": [[0, 2000, 10]],
        "path": "",
        "recursive": recursive,
    }


def test_without_mappings_the_map_is_the_containers(maps_mounts: None) -> None:
    [found] = _planned(_with(_bind("bind", "idmap"), who=MAPPED))
    assert found["idmap"]["uid"] == [[0, 100000, 65536]]
    joined = _with(_bind("bind", "idmap"))
    joined["linux"]["namespaces"].append({"type": "user", "path": "/proc/9/ns/user"})
    [found] = _planned(joined)
    assert (found["idmap"]["uid"], found["idmap"]["path"]) == ([], "/proc/9/ns/user")


@pytest.mark.parametrize(
    ("wanted", "field", "why"),
    [
        (mount("/data", "tmpfs", "ro", "idmap"), "mounts[0].options[1]", "bind"),
        ({**mount("/data", "tmpfs"), **_MAPS}, "mounts[0].uidMappings", "bind"),
        (_bind("bind", "idmap"), "mounts[0].options[1]", "no uidMappings"),
        (mount("/data", "proc", "tmpcopyup"), "mounts[0].options[0]", "tmpfs"),
        (_bind("bind", "tmpcopyup"), "mounts[0].options[1]", "tmpfs"),
        (_bind("bind", "size=1"), "mounts[0].options[1]", "mounted already"),
        (mount("/data", "tmpfs", "x=" + "y" * 256), "mounts[0].options[0]", "255 bytes"),
    ],
)
def test_what_a_mount_cant_have_is_refused_with_the_reason(
    maps_mounts: None, wanted: dict[str, Any], field: str, why: str
) -> None:
    found = _refused(_with(wanted))
    assert list(found) == [field]
    assert why in found[field]


def test_an_ordinary_user_and_an_old_kernel_have_no_id_maps_of_mounts(
    monkeypatch: pytest.MonkeyPatch, maps_mounts: None
) -> None:
    made = _with(_bind("bind", "idmap", **_MAPS), who=MAPPED)
    monkeypatch.setattr(machine, "has_mapped_mounts", lambda: False)
    assert "kernel" in _refused(made)["mounts[0].uidMappings"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "only root" in _refused(made)["mounts[0].uidMappings"]


@pytest.mark.parametrize("field", ["uidMappings", "gidMappings"])
def test_mappings_of_uids_come_with_those_of_gids(field: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        Spec.decode(json.dumps(_with(_bind("bind", **{field: _ONE}))).encode())
    other = {"uidMappings": "gidMappings", "gidMappings": "uidMappings"}[field]
    assert caught.value.json_path == f"mounts[0].{other}"


def test_a_mount_label_is_for_all_that_is_mounted_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """config-linux.md, "Mount Label"; the way runc gives it to each type."""
    monkeypatch.setattr(machine, "has_selinux", lambda: True)
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    context = ("context", label)
    made = _with(
        mount("/tmp", "tmpfs", "size=1m"),
        mount("/dev/pts", "devpts"),
        mount("/dev/mqueue", "mqueue"),
        mount("/proc", "proc"),
        mount("/sys", "sysfs"),
        mount("/own", "tmpfs", "context=mine"),
        _bind("bind"),
    )
    made["linux"]["mountLabel"] = label
    root = linux.plan(spec(made))["linux"]["root"]
    assert root is not None
    tmpfs, pts, mqueue, proc, sysfs, own, bind = root["mounts"]
    assert tmpfs["data"][1:] == [("size", "1m"), context]
    assert pts["data"][1:] == [context]
    assert (mqueue["data"][1:], mqueue["label"]) == ([], label)
    for each in (proc, sysfs, bind):
        assert context not in each["data"]
        assert "label" not in each
    assert own["data"][1:] == [("context", "mine")]
    assert root["label"] == label, "for what covers masked paths"


def test_a_mount_label_without_selinux_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_selinux", lambda: False)
    made = _with()
    made["linux"]["mountLabel"] = "x"
    assert "no SELinux" in _refused(made)["linux.mountLabel"]
