"""doctor and spec as people and programs run them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from asyncrt import Spec
from tests.cli.command import Asyncrt
from tests.helpers.capabilities import User
from tests.helpers.processes import asyncrt_as


def test_the_doctor_says_what_is_there_and_how_to_mend_the_rest(asyncrt: Asyncrt) -> None:
    status, out, err = asyncrt.inside("doctor")
    header, *lines = out.splitlines()
    assert header.split("  ")[0] == "CHECK"
    status_json, text, _ = asyncrt.inside("doctor", "--format", "json")
    found = json.loads(text)
    assert [each["check"] for each in found] == [line.split("  ")[0] for line in lines]
    assert set(found[0]) == {"check", "state", "found", "mend"}
    missing = any(each["state"] == "missing" for each in found)
    assert (status, status_json, err) == (int(missing), int(missing), "")
    assert asyncrt.left() == []


def test_the_doctor_fails_where_no_container_can_be_kept_track_of(asyncrt: Asyncrt) -> None:
    Path(asyncrt.root, "file").touch()
    asyncrt.root = f"{asyncrt.root}/file"
    out = asyncrt("doctor", "--format", "json", status=1)
    root = next(each for each in json.loads(out) if each["check"] == "root directory")
    assert root["state"] == "missing"
    os.unlink(asyncrt.root)


def test_the_doctor_looks_with_the_eyes_of_who_asks(ordinary_user: User) -> None:
    done = asyncrt_as(ordinary_user, "doctor", "--format", "json")
    assert done.stderr == ""
    found = {each["check"]: each for each in json.loads(done.stdout)}
    assert ordinary_user.name in found["/etc/subuid"]["found"]


@pytest.mark.parametrize("flag", ["--rootless", "--rootful", None])
def test_a_spec_to_begin_with_is_written_once(
    asyncrt: Asyncrt, tmp_path: Path, flag: str | None
) -> None:
    options = [] if flag is None else [flag]
    out = asyncrt.do("spec", *options, "--bundle", tmp_path)
    assert out == f"wrote {tmp_path}/config.json\n"
    linux = Spec.from_bundle(tmp_path).config.linux
    assert linux is not None
    rootless = os.geteuid() != 0 if flag is None else flag == "--rootless"
    assert bool(linux.uid_mappings) is rootless
    before = (tmp_path / "config.json").read_bytes()
    status, out, err = asyncrt.inside("spec", "--bundle", tmp_path)
    assert (status, out) == (1, "")
    assert err == (
        f"asyncrt: {tmp_path}/config.json is there already; "
        "remove it, or name another directory with --bundle\n"
    )
    assert (tmp_path / "config.json").read_bytes() == before
    status, _, err = asyncrt.inside("spec", "--bundle", tmp_path / "missing")
    assert status == 1
    assert f"there is no directory '{tmp_path}/missing'" in err
