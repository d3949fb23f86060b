"""features: the document says what a spec may ask for here, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asyncrt import Spec
from asyncrt.platforms import linux
from tests.cli.command import Asyncrt


@pytest.fixture
def document(asyncrt: Asyncrt) -> Any:
    return json.loads(asyncrt.do("features"))


def refused(config: dict[str, Any]) -> list[str]:
    made = {
        "ociVersion": "1.2.0",
        "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
        "root": {"path": "/"},
        **config,
    }
    ids = [{"containerID": 0, "hostID": 0, "size": 1}]
    kinds = [{"type": "mount"}, {"type": "user"}]
    made["linux"] = {
        "namespaces": kinds,
        "uidMappings": ids,
        "gidMappings": ids,
        **made.get("linux", {}),
    }
    return [
        path
        for path in linux.unsupported(Spec.decode(json.dumps(made).encode()))
        if not path.startswith(("process.user", "linux.uidM", "linux.gidM"))
    ]


def test_the_document_has_what_the_specification_asks_for(document: Any) -> None:
    assert document["ociVersionMin"] == "1.0.0"
    assert document["ociVersionMax"].startswith("1.2.")
    assert document["hooks"] == [
        *("prestart", "createRuntime", "createContainer", "startContainer"),
        *("poststart", "poststop"),
    ]
    assert {"pid", "mount", "network"} <= set(document["linux"]["namespaces"])
    assert "CAP_SYS_ADMIN" in document["linux"]["capabilities"]


def test_every_mount_option_it_names_is_honoured(document: Any) -> None:
    for option in document["mountOptions"]:
        bound = option in {"bind", "rbind", "idmap", "ridmap"}
        kind = {"type": "bind", "source": "/"} if bound else {"type": "tmpfs"}
        mount = {"destination": "/x", "source": "x", **kind, "options": [option]}
        assert refused({"mounts": [mount]}) == [], option


def test_the_seccomp_it_names_is_honoured_and_no_more(document: Any) -> None:
    found = document["linux"]["seccomp"]
    assert found["enabled"] is True
    assert "SCMP_ACT_NOTIFY" not in found["actions"]
    for flag in found["knownFlags"]:
        seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag]}
        known = flag in found["supportedFlags"] or flag.endswith("WAIT_KILLABLE_RECV")
        assert bool(refused({"linux": {"seccomp": seccomp}})) is not known, flag
    for action in found["actions"]:
        rule = {"names": ["read"], "action": action}
        seccomp = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": found["archs"],
            "syscalls": [rule],
        }
        assert refused({"linux": {"seccomp": seccomp}}) == [], action


def test_every_label_it_does_not_have_is_refused(document: Any) -> None:
    for name, field in (("apparmor", "apparmorProfile"), ("selinux", "selinuxLabel")):
        process = {"cwd": "/", "args": ["true"], field: "web"}
        has = document["linux"][name]["enabled"]
        assert (f"process.{field}" in refused({"process": process})) is not has


@pytest.mark.needs_root
@pytest.mark.needs_fuse
def test_it_names_what_there_is_for_overlays(document: Any) -> None:
    assert document["annotations"]["org.asyncrt.overlay"] == "kernel fuse-overlayfs"
