"""What the host platform plans, what it refuses and by which names, and how a platform is chosen."""

from __future__ import annotations

import json
import os
import pwd
import resource
from typing import Any

import pytest

from asyncrt.errors import SpecInvalid, SpecUnsupported
from asyncrt.oci import Spec, derive_exec
from asyncrt.oci import homes as homes_module
from asyncrt.platforms import Beside, _identity, host
from tests.helpers.host_specs import TRUE, refused, spec_of


def test_a_plain_command_plans_nothing_but_itself() -> None:
    spec = Spec.command(["a", "b"], env={"PATH": "/bin", "HOME": "/x"}, cwd="/tmp")
    assert dict(host.plan(spec)) == {
        "args": ["a", "b"],
        "env": ["PATH=/bin", "HOME=/x"],
        "cwd": "/tmp",
        "uid": None,
        "gid": None,
        "groups": None,
        "umask": None,
        "rlimits": [],
        "no_new_privs": False,
        "oom_score_adj": None,
        "terminal": None,
    }


def test_a_plan_is_pure_data_that_json_takes() -> None:
    spec = Spec.command(["a"], rlimits={"CPU": (1, 2)}, umask=0o77)
    assert json.loads(json.dumps(host.plan(spec)))["rlimits"] == [[resource.RLIMIT_CPU, 1, 2]]


def test_limits_umask_privileges_and_score_are_planned() -> None:
    plan = host.plan(
        Spec.command(
            ["a"],
            rlimits={"NOFILE": (10, -1), "LOCKS": (-1, -1)},
            umask=0o27,
            no_new_privs=True,
            oom_score_adj=0,
        )
    )
    assert plan["rlimits"] == [(resource.RLIMIT_NOFILE, 10, -1), (10, -1, -1)]
    assert (plan["umask"], plan["no_new_privs"], plan["oom_score_adj"]) == (0o27, True, 0)
    assert (plan["uid"], plan["gid"], plan["groups"]) == (None, None, None)  # the umask's own user


def test_the_last_duplicate_of_a_variable_wins() -> None:
    plan = host.plan(spec_of({"env": ["A=1", "HOME=/h", "A=2=x", "B=", "A=3"]}))
    assert plan["env"] == ["A=3", "HOME=/h", "B="]


def test_home_comes_from_the_user_that_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    homes = {os.geteuid(): "/home/me", 33: "/var/www", 34: ""}

    def getpwuid(uid: int) -> pwd.struct_passwd:
        return pwd.struct_passwd(("n", "x", uid, 0, "", homes[uid], "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    monkeypatch.setattr(homes_module, "_known", {})
    monkeypatch.setattr(_identity, "_has_capability", lambda number: True)
    monkeypatch.setattr(_identity, "_is_mapped", lambda number, name: True)

    def home(user: dict[str, int] | None) -> list[str]:
        return host.plan(spec_of({"env": ["XHOME=1"], **({"user": user} if user else {})}))["env"]

    assert home(None) == ["XHOME=1", "HOME=/home/me"]
    assert home({"uid": 33, "gid": 33}) == ["XHOME=1", "HOME=/var/www"]
    assert home({"uid": 34, "gid": 34}) == ["XHOME=1", "HOME=/"]
    assert home({"uid": 35, "gid": 35}) == ["XHOME=1", "HOME=/"]  # no such entry
    assert host.plan(spec_of({"env": ["HOME="]}))["env"] == ["HOME="]


def test_a_spec_without_a_program_is_invalid_not_unsupported() -> None:
    for data, path in (
        ({"ociVersion": "1.2.0"}, "process"),
        ({"ociVersion": "1.2.0", "process": {"cwd": "/"}}, "process.args"),
        ({"ociVersion": "1.2.0", "process": {"cwd": "/", "args": None}}, "process.args"),
    ):
        with pytest.raises(SpecInvalid) as caught:
            host.plan(Spec.decode(json.dumps(data).encode(), path="/b/config.json"))
        assert (caught.value.json_path, caught.value.path) == (path, "/b/config.json")


PROCESS_REQUESTS: dict[str, Any] = {
    "capabilities": {"bounding": ["CAP_KILL"]},
    "apparmorProfile": "p",
    "selinuxLabel": "l",
    "scheduler": {"policy": "SCHED_IDLE"},
    "ioPriority": {"class": "IOPRIO_CLASS_IDLE"},
    "execCPUAffinity": {"final": "0"},
}
CONFIG_REQUESTS: dict[str, Any] = {
    "hostname": "h",
    "domainname": "d",
    "mounts": [{"destination": "/x"}],
    "vm": {"kernel": {"path": "/k"}},
    "windows": {"layerFolders": ["x"]},
    "solaris": {"milestone": "x"},
    "zos": {"namespaces": ["x"]},
    "freebsd": {"jail": {"host": "x"}},
}
LINUX_REQUESTS: dict[str, Any] = {
    "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
    "gidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
    "timeOffsets": {"monotonic": {"secs": 0}},
    "devices": [{"path": "/dev/x", "type": "c"}],
    "netDevices": {"eth0": {"name": "eth1"}},
    "intelRdt": {"closID": "c"},
    "memoryPolicy": {"mode": "MPOL_BIND"},
    "sysctl": {"a.b": "1"},
    "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
    "rootfsPropagation": "slave",
    "maskedPaths": ["/proc/kcore"],
    "readonlyPaths": ["/proc/sys"],
    "mountLabel": "l",
    "personality": {"domain": "LINUX32"},
}


@pytest.mark.parametrize("field", PROCESS_REQUESTS)
def test_what_a_plain_process_cannot_be_is_refused(field: str) -> None:
    assert refused(spec_of({field: PROCESS_REQUESTS[field]})) == (f"process.{field}",)


@pytest.mark.parametrize("field", CONFIG_REQUESTS)
def test_what_a_plain_process_cannot_have_is_refused(field: str) -> None:
    assert refused(spec_of(**{field: CONFIG_REQUESTS[field]})) == (field,)


@pytest.mark.parametrize("field", LINUX_REQUESTS)
def test_every_kind_of_isolation_is_refused(field: str) -> None:
    assert refused(spec_of(linux={field: LINUX_REQUESTS[field]})) == (f"linux.{field}",)


def test_each_namespace_is_refused_by_its_index() -> None:
    kinds = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]
    spec = spec_of(linux={"namespaces": [{"type": each} for each in kinds]})
    assert refused(spec) == tuple(f"linux.namespaces[{index}]" for index in range(8))


def test_every_field_is_named_at_once_and_in_one_error() -> None:
    spec = spec_of(
        PROCESS_REQUESTS,
        root={"path": "rootfs", "readonly": True},
        linux={"namespaces": [{"type": "pid"}], **LINUX_REQUESTS},
        **CONFIG_REQUESTS,
    )
    wanted = {f"process.{each}" for each in PROCESS_REQUESTS}
    wanted |= {"root.path", "root.readonly", "linux.namespaces[0]"}
    wanted |= set(CONFIG_REQUESTS) | {f"linux.{each}" for each in LINUX_REQUESTS}
    found = refused(spec)
    assert set(found) == wanted
    assert len(found) == len(wanted)


def test_every_field_of_a_config_is_either_honoured_or_refused() -> None:
    """A field that is decoded one day and forgotten here would be ignored silently."""
    config = spec_of(linux={}).config
    assert config.process is not None
    assert config.linux is not None
    honoured = {"args", "env", "cwd", "user", "rlimits", "noNewPrivileges", "oomScoreAdj"}
    honoured |= {"terminal", "consoleSize"}
    assert set(config.process.__struct_encode_fields__) - honoured == set(PROCESS_REQUESTS)
    honoured = {"ociVersion", "process", "root", "hooks", "annotations", "linux"}
    assert set(config.__struct_encode_fields__) - honoured == set(CONFIG_REQUESTS)
    honoured = {"namespaces", "cgroupsPath", "resources"}
    assert set(config.linux.__struct_encode_fields__) - honoured == set(LINUX_REQUESTS)


def test_what_is_there_but_asks_for_nothing_passes() -> None:
    spec = spec_of(
        {
            "terminal": False,
            "consoleSize": {"height": 1, "width": 1},
            "capabilities": {"bounding": [], "ambient": None},
            "apparmorProfile": "",
            "rlimits": [],
        },
        hostname="",
        mounts=[],
        root={"path": "/", "readonly": False},
        vm=None,
        windows={},
        linux={
            "namespaces": [],
            "resources": {"memory": {}, "devices": [], "x": {"y": {"z": None, "w": False}}},
            "sysctl": {},
            "timeOffsets": {},
            "cgroupsPath": "",
            "maskedPaths": None,
        },
    )
    assert host.plan(spec)["args"] == ["true"]


@pytest.mark.parametrize(
    ("root", "fields"),
    [
        ({"path": "/"}, ()),
        ({"path": "//"}, ()),
        ({"path": "/", "readonly": True}, ("root.readonly",)),
        ({"path": "rootfs"}, ("root.path",)),
        ({"path": "."}, ("root.path",)),
        ({"path": ""}, ("root.path",)),
        ({"path": "/srv", "readonly": True}, ("root.path", "root.readonly")),
    ],
)
def test_only_the_hosts_own_writable_root_can_be_the_root(
    root: dict[str, Any], fields: tuple[str, ...]
) -> None:
    assert tuple(host.unsupported(spec_of(root=root))) == fields


def test_a_terminal_has_the_size_that_the_spec_says_if_it_can() -> None:
    assert host.plan(spec_of({}))["terminal"] is None
    assert host.plan(spec_of({"terminal": True}))["terminal"] == [0, 0]
    size = {"height": 24, "width": 80}
    assert host.plan(spec_of({"terminal": True, "consoleSize": size}))["terminal"] == [24, 80]
    assert host.plan(spec_of({"consoleSize": size}))["terminal"] is None
    size = {"height": 24, "width": 65536}
    assert host.plan(spec_of({"consoleSize": size}))["terminal"] is None
    assert refused(spec_of({"terminal": True, "consoleSize": size})) == ("process.consoleSize",)


def test_deeply_nested_requests_are_refused_not_overflowed() -> None:
    deep = '{"a":' * 400 + "{}" + "}" * 400
    text = f'{{"ociVersion":"1.2.0","process":{json.dumps(TRUE)},"linux":{{"intelRdt":{deep}}}}}'
    assert host.plan(Spec.decode(text.encode()))["args"] == ["true"]
    assert refused(Spec.decode(text.replace("{}", "[0]").encode())) == ("linux.intelRdt",)


def test_a_limit_the_interpreter_cannot_set_is_refused_by_its_path() -> None:
    limits = [{"type": "RLIMIT_AS", "soft": 1, "hard": 2**63}]
    assert refused(spec_of({"rlimits": limits})) == ("process.rlimits[0].hard",)
    limits = [{"type": "RLIMIT_AS", "soft": 2**63 - 1, "hard": 2**64 - 1}]
    assert host.plan(spec_of({"rlimits": limits}))["rlimits"] == [
        (resource.RLIMIT_AS, 2**63 - 1, -1)
    ]


CRI_TYPE = "io.kubernetes.cri.container-type"


def test_a_container_in_a_sandbox_is_refused_by_its_annotation_if_the_root_has_no_cgroup() -> None:
    assert host.plan(spec_of(annotations={CRI_TYPE: "sandbox"}))["args"] == ["true"]
    assert host.plan(spec_of(annotations={"any": "thing"}))["args"] == ["true"]
    spec = spec_of(annotations={CRI_TYPE: "container", "io.kubernetes.cri.sandbox-id": "pod"})
    root = Beside(spec_of(annotations={CRI_TYPE: "sandbox"}).config, has_cgroup=False)
    with pytest.raises(
        SpecUnsupported, match="its sandbox's root container has no cgroup"
    ) as caught:
        host.plan(spec, beside=root)
    assert caught.value.fields == (f'annotations["{CRI_TYPE}"]',)
    assert host.unsupported(spec, root) == [f'annotations["{CRI_TYPE}"]']


def test_an_unknown_container_type_is_for_whoever_makes_sandboxes_to_refuse() -> None:
    assert host.plan(spec_of(annotations={CRI_TYPE: "pod"}))["args"] == ["true"]


def test_a_refused_exec_is_named_from_the_place_it_has() -> None:
    process = spec_of({"apparmorProfile": "p"}).config.process
    assert process is not None
    with pytest.raises(SpecUnsupported) as caught:
        host.plan_process(process, "exec")
    assert caught.value.fields == ("exec.apparmorProfile",)
    process = spec_of({"terminal": True}).config.process
    assert process is not None
    assert host.plan_process(derive_exec(process, ["ls"]))["terminal"] is None


# -- identities
