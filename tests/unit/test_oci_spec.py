"""Specs made in Python, processes exec'd from them, hooks, memberships, and the state report."""

from __future__ import annotations

import grp
import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from asyncrt.errors import SpecInvalid
from asyncrt.oci import (
    DEFAULT_PATH,
    HOOK_KINDS,
    Hook,
    Process,
    Spec,
    derive_exec,
    hook_plans,
    membership,
    placed,
    state_report,
)
from asyncrt.oci.users import resolve_user

DEFAULT = f"PATH={DEFAULT_PATH}"


def made(*args: Any, **options: Any) -> Process:
    process = Spec.command(*args, **options).config.process
    assert process is not None
    return process


def refused(*args: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(SpecInvalid) as caught:
        Spec.command(*args, **options)
    str(caught.value).encode()  # can be printed
    return caught.value.json_path, caught.value.why


def test_a_command_asks_for_nothing_but_its_program_and_inherits_no_environment() -> None:
    spec = Spec.command(["sleep", "60"])
    assert json.loads(spec.encoded()) == {
        "ociVersion": "1.2.0",
        "process": {"args": ["sleep", "60"], "env": [DEFAULT], "cwd": "/"},
    }
    assert spec.bundle is None
    assert repr(spec) == "Spec(args=['sleep', '60'], bundle=None)"


def test_an_environment_gets_a_path_only_if_it_has_none() -> None:
    assert made(["a"], env={"A": "1"}).env == (DEFAULT, "A=1")
    assert made(["a"], env={"PATH": "", "A": "1"}).env == ("PATH=", "A=1")
    assert made(["a"], env={}).env == (DEFAULT,)


def test_paths_are_taken_for_arguments_and_working_directory() -> None:
    process = made([Path("/bin/ls"), Path("x")], cwd=Path("/tmp"))
    assert (process.args, process.cwd) == (("/bin/ls", "x"), "/tmp")


@pytest.mark.parametrize(
    ("options", "json_path"),
    [
        ({"args": []}, "process.args"),
        ({"args": "sleep 60"}, "process.args"),
        ({"args": b"sleep"}, "process.args"),
        ({"args": 7}, "process.args"),
        ({"args": ["a", b"b"]}, "process.args[1]"),
        ({"args": ["a", None]}, "process.args[1]"),
        ({"args": ["a", "b\0c"]}, "process.args[1]"),
        ({"args": ["a", "\udcff"]}, "process.args[1]"),
        ({"args": [""]}, "process.args[0]"),
        ({"env": ["A=b"]}, "process.env"),
        ({"env": {"A": "1", "B": 2}}, "process.env[1]"),
        ({"env": {"A": b"1"}}, "process.env[0]"),
        ({"env": {"": "1"}}, "process.env[0]"),
        ({"env": {"A=B": "1"}}, "process.env[0]"),
        ({"env": {"PATH": "", "A": "\0"}}, "process.env[1]"),
        ({"env": {"PATH": "", "A": "\ud800"}}, "process.env[1]"),
        ({"cwd": "tmp"}, "process.cwd"),
        ({"cwd": b"/tmp"}, "process.cwd"),
        ({"cwd": "/\0"}, "process.cwd"),
        ({"umask": 0o1000}, "process.user.umask"),
        ({"umask": -1}, "process.user.umask"),
        ({"umask": "022"}, "process.user.umask"),
        ({"rlimits": {"NOFILES": (1, 1)}}, "process.rlimits[0].type"),
        ({"rlimits": {"CORE": (1, 1), "CPU": 3}}, "process.rlimits[1]"),
        ({"rlimits": {"CORE": (1, 2, 3)}}, "process.rlimits[0]"),
        ({"rlimits": {"CORE": (2, 1)}}, "process.rlimits[0].soft"),
        ({"rlimits": {"CORE": (-2, 1)}}, "process.rlimits[0].soft"),
        ({"rlimits": {"CORE": ("1", 1)}}, "process.rlimits[0].soft"),
        ({"rlimits": {"CORE": (1, 1), "RLIMIT_CORE": (1, 1)}}, "process.rlimits[1].type"),
        ({"no_new_privs": "yes"}, "process.noNewPrivileges"),
        ({"oom_score_adj": 1001}, "process.oomScoreAdj"),
        ({"oom_score_adj": 0.5}, "process.oomScoreAdj"),
        ({"annotations": {"a": 1}}, "annotations.a"),
        ({"annotations": {"": "1"}}, "annotations"),
        ({"annotations": {"a": "\ud800"}}, "annotations.a"),
        ({"hooks": {"postStop": []}}, "hooks"),
        ({"hooks": {"poststop": [Hook(path="true")]}}, "hooks.poststop[0].path"),
        ({"hooks": {"poststop": [Hook(path="/a", timeout=0)]}}, "hooks.poststop[0].timeout"),
        ({"hooks": {"createRuntime": ["/a"]}}, "hooks.createRuntime[0]"),
        ({"user": True}, "process.user"),
        ({"user": -1}, "process.user"),
        ({"user": 2**32 - 1}, "process.user"),
        ({"user": 1.0}, "process.user"),
        ({"user": ("a", "b")}, "process.user"),
    ],
)
def test_what_cannot_be_a_command_is_refused_with_its_path(
    options: dict[str, Any], json_path: str
) -> None:
    assert refused(**{"args": ["true"], **options})[0] == json_path


def test_a_number_json_cannot_hold_is_refused() -> None:
    assert refused(["a"], oom_score_adj=2**70)[0] in {"", "process.oomScoreAdj"}
    assert refused(["a"], rlimits={"CORE": (0, 2**70)})[0] in {"", "process.rlimits[0].hard"}


def test_limits_are_named_with_or_without_prefix_and_minus_one_is_unlimited() -> None:
    process = made(["a"], rlimits={"NOFILE": (10, -1), "RLIMIT_CORE": [0, 0]})
    assert [(each.type, each.soft, each.hard) for each in process.rlimits or ()] == [
        ("RLIMIT_NOFILE", 10, 2**64 - 1),
        ("RLIMIT_CORE", 0, 0),
    ]


def test_a_umask_alone_keeps_the_launchers_own_ids_and_groups() -> None:
    user = made(["a"], umask=0o77).user
    assert user is not None
    assert (user.uid, user.gid, user.umask) == (os.geteuid(), os.getegid(), 0o77)
    assert user.additional_gids == tuple(os.getgroups())


# -- users


def resolved(user: int | str) -> tuple[int, int, tuple[int, ...] | None]:
    found = resolve_user(user, json_path="process.user")
    return found.uid, found.gid, found.additional_gids


class Accounts:
    """A user database of two users, so that the tests don't depend on this machine's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, euid: int = 0) -> None:
        self.users = {"root": (0, 0), "web": (33, 34)}
        monkeypatch.setattr(pwd, "getpwnam", self._by_name)
        monkeypatch.setattr(pwd, "getpwuid", self._by_uid)
        monkeypatch.setattr(grp, "getgrnam", self._group)
        monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 50, 7] if name else [])
        monkeypatch.setattr(os, "geteuid", lambda: euid)
        monkeypatch.setattr(os, "getegid", lambda: 77)
        monkeypatch.setattr(os, "getgroups", lambda: [77, 78])

    def _entry(self, name: str) -> pwd.struct_passwd:
        uid, gid = self.users[name]
        return pwd.struct_passwd((name, "x", uid, gid, "", "/home", "/bin/sh"))

    def _by_name(self, name: str) -> pwd.struct_passwd:
        return self._entry(name)

    def _by_uid(self, uid: int) -> pwd.struct_passwd:
        return self._entry(next((n for n, ids in self.users.items() if ids[0] == uid), "none"))

    def _group(self, name: str) -> grp.struct_group:
        return grp.struct_group((name, "x", {"staff": 50}[name], []))


def test_a_name_brings_its_primary_and_supplementary_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Accounts(monkeypatch)
    assert resolved("web") == (33, 34, (7, 50))


def test_a_group_that_is_given_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Accounts(monkeypatch)
    assert resolved("web:staff") == (33, 50, ())
    assert resolved("web:0") == (33, 0, ())
    assert resolved("4242:4243") == (4242, 4243, ())


def test_a_uid_alone_has_the_primary_group_of_its_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    Accounts(monkeypatch)
    assert resolved(33) == resolved("33") == (33, 34, ())


def test_a_uid_without_an_entry_never_gets_group_0_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Accounts(monkeypatch)
    with pytest.raises(SpecInvalid, match="write 4242:GID"):
        resolved(4242)


def test_root_that_names_itself_has_the_groups_of_its_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Accounts(monkeypatch)
    assert resolved("root") == (0, 0, (7, 50))
    assert resolved(0) == (0, 0, ())


def test_a_truth_value_is_no_uid() -> None:
    assert refused(["a"], user=False)[1].startswith("expected a uid or a string")


@pytest.mark.parametrize("own", [33, "33", "web"], ids=repr)
def test_an_unprivileged_process_that_names_itself_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch, own: int | str
) -> None:
    Accounts(monkeypatch, euid=33)
    assert resolved(own) == (33, 77, (77, 78))


def test_an_own_uid_needs_no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    Accounts(monkeypatch, euid=4242)
    assert resolved(4242) == (4242, 77, (77, 78))


@pytest.mark.parametrize(
    "user",
    [
        "",
        ":",
        "web:",
        ":staff",
        "web:staff:50",
        "nobody-here",
        "web:no-such-group",
        " 33",
        "33 ",
        "+33",
        "-1",
        "033",
        "0x21",
        "3_3",
        "３３",
        "33\n",
        "web\0",
        "\udcff",
        "33.0",
        "4294967295",
        "4294967296",
        "18446744073709551616",  # 0 in 64 bits
        "9" * 5000,
        "33:4294967295",
        "33:-1",
        -1,
        2**32 - 1,
        2**64,
    ],
    ids=lambda user: ascii(user)[:20],
)
def test_a_user_is_parsed_strictly_or_refused(
    monkeypatch: pytest.MonkeyPatch, user: int | str
) -> None:
    Accounts(monkeypatch)
    with pytest.raises(SpecInvalid) as caught:
        resolve_user(user, json_path="process.user")
    assert caught.value.json_path == "process.user"


def test_odd_users_against_this_machines_own_database_are_refused_too() -> None:
    for user in ("no-such-user", "web\0", "\ud800", "root:no-such-group", "root:\0"):
        with pytest.raises(SpecInvalid):
            resolve_user(user, json_path="process.user")


# -- exec


def base(**options: Any) -> Process:
    return made(
        ["server"],
        env={"PATH": "/bin", "A": "1"},
        cwd="/srv",
        rlimits={"CORE": (0, 0)},
        no_new_privs=True,
        oom_score_adj=7,
        **options,
    )


def test_an_exec_has_the_containers_environment_directory_user_and_limits() -> None:
    process = derive_exec(base(user="7:8", umask=0o27), ["ls", "-l"])
    assert process.args == ("ls", "-l")
    assert (process.env, process.cwd) == (("PATH=/bin", "A=1"), "/srv")
    assert process.user is not None
    assert (process.user.uid, process.user.gid, process.user.umask) == (7, 8, 0o27)
    assert (process.no_new_privileges, process.oom_score_adj) == (True, 7)
    assert process.rlimits == base().rlimits


def test_an_exec_overrides_what_it_is_given() -> None:
    process = derive_exec(
        base(umask=0o27), ["ls"], env={"A": "2", "B": "3"}, cwd="/tmp", user="7:8"
    )
    assert process.env == ("PATH=/bin", "A=1", "A=2", "B=3")  # the last one wins in a plan
    assert process.cwd == "/tmp"
    assert process.user is not None
    assert (process.user.uid, process.user.gid, process.user.umask) == (7, 8, 0o27)


def test_an_exec_in_a_container_on_a_terminal_has_none_of_its_own() -> None:
    spec = Spec.decode(
        b'{"ociVersion": "1.2.0", "process": {"cwd": "/", "args": ["sh"], "terminal": true,'
        b' "consoleSize": {"height": 1, "width": 1}, "scheduler": {"policy": "SCHED_IDLE"}}}'
    )
    assert spec.config.process is not None
    process = derive_exec(spec.config.process, ["ls"])
    assert (process.terminal, process.console_size) == (None, None)
    assert process.scheduler is not None


@pytest.mark.parametrize(
    ("options", "json_path"),
    [
        ({"args": []}, "process.args"),
        ({"args": ["a\0"]}, "process.args[0]"),
        ({"cwd": "tmp"}, "process.cwd"),
        ({"env": {"A": "\0"}}, "process.env[0]"),
        ({"env": {"": "x"}}, "process.env[0]"),
        ({"user": "no-such-user"}, "process.user"),
        ({"user": "1 "}, "process.user"),
    ],
)
def test_what_cannot_be_executed_is_refused_with_its_path(
    options: dict[str, Any], json_path: str
) -> None:
    with pytest.raises(SpecInvalid) as caught:
        derive_exec(base(), **{"args": ["ls"], **options})
    assert caught.value.json_path == json_path


# -- hooks


@pytest.mark.parametrize("kind", HOOK_KINDS)
def test_each_kind_of_hook_gives_its_own_plans(kind: Any) -> None:
    hooks: dict[str, list[Hook]] = {each: [Hook(path=f"/bin/{each}")] for each in HOOK_KINDS}
    config = Spec.command(["a"], hooks=hooks).config
    assert [plan["path"] for plan in hook_plans(config, kind)] == [f"/bin/{kind}"]


def test_a_hook_plan_has_arguments_the_last_of_each_variable_and_seconds() -> None:
    hook = Hook(path="/bin/x", args=("x", "-v"), env=("A=1", "B=2", "A=3"), timeout=5)
    config = Spec.command(["a"], hooks={"poststop": [hook, Hook(path="/bin/y", args=())]}).config
    assert hook_plans(config, "poststop") == [
        {"path": "/bin/x", "args": ["x", "-v"], "env": ["A=3", "B=2"], "timeout": 5.0},
        {"path": "/bin/y", "args": ["/bin/y"], "env": [], "timeout": None},
    ]
    assert hook_plans(config, "prestart") == []
    assert hook_plans(Spec.command(["a"]).config, "prestart") == []


# -- membership

CRI = "io.kubernetes.cri"
TYPES = [(f"{CRI}.container-type", f"{CRI}.sandbox-id")]
TYPES += [(f"{CRI}-o.ContainerType", f"{CRI}-o.SandboxID")]


def annotated(**annotations: str) -> Any:
    return Spec.command(["a"], annotations=annotations).config


@pytest.mark.parametrize(("kind", "id"), TYPES)
def test_annotations_decide_membership(kind: str, id: str) -> None:
    assert membership(annotated(**{kind: "sandbox", id: "self"}))[:2] == (True, None)
    assert membership(annotated(**{kind: "container", id: "pod"}))[:2] == (False, "pod")
    assert membership(annotated(other="x")) == (False, None, "", "")


@pytest.mark.parametrize(("kind", "id"), TYPES)
def test_an_unknown_type_and_a_container_without_a_sandbox_are_refused(kind: str, id: str) -> None:
    for bad in ("podsandbox", "", "Sandbox"):
        with pytest.raises(SpecInvalid) as caught:
            membership(annotated(**{kind: bad}))
        assert caught.value.json_path == f'annotations["{kind}"]'
    for without in ({}, {id: ""}):
        with pytest.raises(SpecInvalid) as caught:
            membership(annotated(**{kind: "container", **without}))
        assert caught.value.json_path == f'annotations["{id}"]'


def test_containerds_annotations_win_over_cri_os() -> None:
    (containerd, sandbox_id), (crio, _) = TYPES
    config = annotated(**{crio: "sandbox", containerd: "container", sandbox_id: "pod"})
    assert membership(config).sandbox_id == "pod"


def test_a_spec_placed_in_a_sandbox_keeps_all_else_as_it_was_byte_for_byte() -> None:
    given = b'{"ociVersion":"1.2.0", "process":{"args":["a"],  "cwd":"/"},"x-new":{"y": [1,2 ]},'
    given += b'"annotations":{"k":"v"}}'
    spec = Spec.decode(given, bundle="/b", path="/b/config.json")
    made = placed(spec, "pod")
    assert b'"process":{"args":["a"],  "cwd":"/"}' in made.encoded()
    assert b'"x-new":{"y": [1,2 ]}' in made.encoded()
    kind, id = TYPES[0]
    assert made.config.annotations == {"k": "v", kind: "container", id: "pod"}
    again = Spec.decode(made.encoded(), bundle="/b")
    assert (made, made.config, made.path) == (again, again.config, "/b/config.json")
    assert placed(made, "pod") is made
    with pytest.raises(SpecInvalid):
        placed(made, "other")
    assert membership(placed(Spec.command(["a"]), None).config).is_sandbox


# -- the state report


def test_a_state_report_has_what_the_specification_asks_for() -> None:
    report = state_report(
        oci_version="1.2.0",
        id="web",
        status="running",
        pid=42,
        bundle="/b",
        annotations=Spec.command(["a"], annotations={"k": "v"}).config.annotations,
    )
    assert json.loads(json.dumps(report)) == {
        "ociVersion": "1.2.0",
        "id": "web",
        "status": "running",
        "pid": 42,
        "bundle": "/b",
        "annotations": {"k": "v"},
    }


def test_a_stopped_container_has_no_pid_that_could_be_somebody_elses() -> None:
    common: dict[str, Any] = {"oci_version": "1.2.0", "id": "web", "bundle": None}
    assert "pid" not in state_report(status="stopped", pid=42, **common)
    assert "pid" not in state_report(status="creating", pid=None, **common)
    assert state_report(status="creating", pid=42, **common)["pid"] == 42
    assert state_report(status="stopped", pid=0, **common)["annotations"] == {}
