"""An exec's process: the container's own with additions, or an object that is completed by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt.errors import SpecInvalid
from asyncrt.oci import Process, User, complete_exec, derive_exec, process_of
from asyncrt.oci.config import Capabilities, ConsoleSize, IOPriority, Rlimit, Scheduler

BASE = Process(
    cwd="/srv",
    args=("init",),
    env=("PATH=/bin",),
    user=User(uid=7, gid=8, umask=0o27, additional_gids=(9,)),
    terminal=True,
    console_size=ConsoleSize(height=1, width=2),
    rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=5, hard=6),),
    no_new_privileges=True,
    oom_score_adj=3,
    capabilities=Capabilities(bounding=("CAP_KILL",), effective=("CAP_KILL",)),
    apparmor_profile="some",
    selinux_label="label",
    scheduler=Scheduler(policy="SCHED_BATCH"),
    io_priority=IOPriority(io_class="IOPRIO_CLASS_IDLE"),
)
ROOT = msgspec.structs.replace(BASE, user=User(uid=0, gid=0))
LEAST = {"cwd": "/", "args": ["ls"]}


def sets(process: Process) -> dict[str, tuple[str, ...]]:
    assert process.capabilities is not None
    return {
        name: found
        for name in process.capabilities.__struct_fields__
        if (found := getattr(process.capabilities, name))
    }


def test_groups_are_added_to_the_containers() -> None:
    process = derive_exec(BASE, ["ls"], additional_gids=[5, 4])
    assert process.user == User(uid=7, gid=8, umask=0o27, additional_gids=(9, 5, 4))


def test_groups_are_added_to_those_of_another_user() -> None:
    process = derive_exec(BASE, ["ls"], user="1:2", additional_gids=[5])
    assert process.user == User(uid=1, gid=2, umask=0o27, additional_gids=(5,))


def test_groups_are_added_to_whom_a_process_without_a_user_is_run_as() -> None:
    base = msgspec.structs.replace(BASE, user=None)
    assert derive_exec(base, ["ls"]).user is None
    found = derive_exec(base, ["ls"], additional_gids=[5]).user
    assert found == User(uid=0, gid=0, additional_gids=(5,))
    nobody = User(uid=3, gid=4, additional_gids=(1,))
    found = derive_exec(base, ["ls"], additional_gids=[5], nobody=nobody).user
    assert found == User(uid=3, gid=4, additional_gids=(1, 5))


@given(st.one_of(st.text(), st.floats(), st.booleans(), st.none(), st.integers(max_value=-1)))
def test_whatever_is_no_group_id_is_refused(bad: Any) -> None:
    """HAZARDS 43: a lenient parse became 0 elsewhere."""
    for each in (bad, 2**32 - 1, 2**64):
        with pytest.raises(SpecInvalid) as caught:
            derive_exec(BASE, ["ls"], additional_gids=[1, each])
        assert caught.value.json_path == "process.user.additionalGids"


def test_a_text_is_no_list_of_groups() -> None:
    with pytest.raises(SpecInvalid, match="expected a list"):
        derive_exec(BASE, ["ls"], additional_gids="12")  # type: ignore[arg-type]  # wrong on purpose


def test_roots_capabilities_are_neither_inheritable_nor_ambient() -> None:
    """HAZARDS 43, CVE-2022-27650."""
    assert sets(derive_exec(ROOT, ["ls"], capabilities=["CAP_KILL", "CAP_CHOWN"])) == {
        "bounding": ("CAP_KILL", "CAP_CHOWN"),
        "effective": ("CAP_KILL", "CAP_CHOWN"),
        "permitted": ("CAP_KILL", "CAP_CHOWN"),
    }


@pytest.mark.parametrize("options", [{}, {"user": "7:8"}], ids=["as it is", "asked for"])
def test_another_users_capabilities_outlive_the_exec(options: dict[str, Any]) -> None:
    base = BASE if not options else ROOT
    found = sets(derive_exec(base, ["ls"], capabilities=["CAP_CHOWN"], **options))
    assert found["ambient"] == found["inheritable"] == found["permitted"] == ("CAP_CHOWN",)
    assert found["bounding"] == found["effective"] == ("CAP_KILL", "CAP_CHOWN")


def test_capabilities_of_a_container_without_any() -> None:
    base = msgspec.structs.replace(ROOT, capabilities=None)
    assert derive_exec(base, ["ls"]).capabilities is None
    assert sets(derive_exec(base, ["ls"], capabilities=["CAP_KILL"]))["bounding"] == ("CAP_KILL",)


@pytest.mark.parametrize("bad", ["", "KILL", "cap_kill", "CAP_KILL ", "CAP_NONE", "ALL", 5, None])
def test_an_unknown_capability_is_refused(bad: Any) -> None:
    with pytest.raises(SpecInvalid, match="unknown capability") as caught:
        derive_exec(BASE, ["ls"], capabilities=["CAP_CHOWN", bad])
    assert caught.value.json_path == "process.capabilities"


def test_no_new_privileges_can_be_asked_for_and_not_be_taken_back() -> None:
    base = msgspec.structs.replace(BASE, no_new_privileges=None)
    assert derive_exec(base, ["ls"], no_new_privs=True).no_new_privileges
    assert not derive_exec(base, ["ls"]).no_new_privileges
    assert derive_exec(BASE, ["ls"]).no_new_privileges


def test_labels_replace_the_containers() -> None:
    found = derive_exec(BASE, ["ls"], apparmor_profile="other")
    assert (found.apparmor_profile, found.selinux_label) == ("other", "label")
    found = derive_exec(BASE, ["ls"], selinux_label="")
    assert (found.apparmor_profile, found.selinux_label) == ("some", "")
    with pytest.raises(SpecInvalid) as caught:
        derive_exec(BASE, ["ls"], apparmor_profile="a\0")
    assert caught.value.json_path == "process.apparmorProfile"


def test_what_a_process_object_leaves_out_is_the_containers() -> None:
    found = complete_exec(BASE, process_of(LEAST))
    assert found == msgspec.structs.replace(
        BASE, cwd="/", args=("ls",), terminal=None, console_size=None
    )


def test_what_a_process_object_says_is_what_counts() -> None:
    said = {
        **LEAST,
        "env": [],
        "user": {"uid": 0, "gid": 0},
        "terminal": True,
        "consoleSize": {"height": 3, "width": 4},
        "rlimits": [],
        "noNewPrivileges": False,
        "oomScoreAdj": 0,
        "capabilities": {},
        "apparmorProfile": "",
        "selinuxLabel": "",
        "scheduler": {"policy": "SCHED_OTHER"},
        "ioPriority": {"class": "IOPRIO_CLASS_BE"},
        "execCPUAffinity": {"initial": "0", "final": "1"},
    }
    given = process_of(said)
    found = complete_exec(BASE, given)
    user = User(uid=0, gid=0, umask=0o27)  # which few objects have, and none can take back
    assert found == msgspec.structs.replace(given, user=user)
    assert set(said) == set(Process.__struct_encode_fields__)  # or something new isn't tested here


@pytest.mark.parametrize(
    ("bad", "json_path"),
    [
        ({"args": ["ls"]}, "process.cwd"),
        ({**LEAST, "cwd": "srv"}, "process.cwd"),
        ({**LEAST, "args": []}, "process.args"),
        ({**LEAST, "args": [1]}, "process.args[0]"),
        ({**LEAST, "env": ["A"]}, "process.env[0]"),
        ({**LEAST, "env": ["A=\0"]}, "process.env[0]"),
        ({**LEAST, "user": {"uid": -1, "gid": 0}}, "process.user.uid"),
        ({**LEAST, "user": {"uid": "0", "gid": 0}}, "process.user.uid"),
        ({**LEAST, "user": {"uid": 0}}, "process.user.gid"),
        (
            {**LEAST, "rlimits": [{"type": "NOFILE", "soft": 1, "hard": 1}]},
            "process.rlimits[0].type",
        ),
        ({**LEAST, "terminal": 1}, "process.terminal"),
        ({**LEAST, "oomScoreAdj": 1001}, "process.oomScoreAdj"),
        ({**LEAST, "scheduler": {"policy": "FAST"}}, "process.scheduler.policy"),
        ([], "process"),
        (None, "process"),
        ("ls", "process"),
    ],
    ids=str,
)
def test_a_fault_of_a_process_file_is_told_by_path_and_file(
    tmp_path: Path, bad: Any, json_path: str
) -> None:
    path = tmp_path / "process.json"
    path.write_text(json.dumps(bad))
    for named in (path, str(path)):
        with pytest.raises(SpecInvalid) as caught:
            process_of(named)
        assert (caught.value.json_path, caught.value.path) == (json_path, str(path))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "{",
        '{"cwd": "/"} x',
        '{"cwd": "/"}, "linux": {}',
        '{"cwd": "/"}}, "root": {"path": "/"',
        '{"cwd": NaN}',
        "[" * 100_000,
        '{"cwd": "\udc80"}',
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_what_is_no_json_object_is_refused_with_the_files_name(tmp_path: Path, text: str) -> None:
    """Put into a config as it is, some of these would be a config's."""
    path = tmp_path / "process.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SpecInvalid) as caught:
        process_of(path)
    assert caught.value.path == str(path)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SpecInvalid) as caught:
            process_of(path)
        assert caught.value.path == str(path)


def test_what_json_cannot_say_is_refused() -> None:
    wrong: list[Any] = [{"args": [object()]}, {1j: 2}, {"cwd": "/\udc80"}]
    for bad in wrong:
        with pytest.raises(SpecInvalid):
            process_of({**LEAST, **bad})


def test_a_process_object_needs_a_program() -> None:
    with pytest.raises(SpecInvalid) as caught:
        complete_exec(BASE, process_of({"cwd": "/"}))
    assert caught.value.json_path == "process.args"
