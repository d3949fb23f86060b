"""update, as people and programs type it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Asyncrt
from tests.helpers.capabilities import User
from tests.helpers.cgroups import limited
from tests.helpers.containers import sleeper
from tests.helpers.processes import asyncrt_as

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroups("memory", "pids")]


@pytest.fixture(autouse=True)
def nothing_stays(asyncrt: Asyncrt) -> Iterator[None]:
    """Cgroups go with their containers."""
    yield
    if asyncrt.views():
        asyncrt.do("delete", "--force", *asyncrt.views())


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    spec = limited(sleeper(), memory={"limit": 64 << 20}, pids={"limit": 9})
    (tmp_path / "config.json").write_bytes(spec.encoded())
    return str(tmp_path)


def _told(asyncrt: Asyncrt, id: str) -> dict[str, Any]:
    config = json.loads(Path(asyncrt.root, f"{id}.d", "config.json").read_text())
    found: dict[str, Any] = config["linux"]["resources"]
    return found


def test_by_flags_by_file_and_by_standard_input(
    asyncrt: Asyncrt, bundle: str, tmp_path: Path
) -> None:
    for id in ("web", "db"):
        asyncrt.do("create", "--bundle", bundle, id)
    asyncrt.do("update", "--memory", "96M", "--pids-limit", "20", "web", "db")
    for id in ("web", "db"):
        assert _told(asyncrt, id) == {"memory": {"limit": 96 << 20}, "pids": {"limit": 20}}
    file = tmp_path / "limits.json"
    file.write_text('{"pids": {"limit": 30}, "cpu": {"shares": 0, "cpus": ""}}')
    asyncrt.do("update", "-r", str(file), "we")
    assert _told(asyncrt, "web")["pids"] == {"limit": 30}
    file.write_text('{"memory": {"limit": 33554432}}')
    with file.open() as text:
        assert asyncrt("update", "--resources", "-", "web", stdin=text) == ""
    assert _told(asyncrt, "web") == {"memory": {"limit": 32 << 20}, "pids": {"limit": 30}}
    asyncrt.do("update", "--memory", "-1", "--pids-limit", "-1", "web")
    assert _told(asyncrt, "web") == {"memory": {"limit": -1}, "pids": {"limit": -1}}


def test_one_that_is_refused_stops_no_other(asyncrt: Asyncrt, bundle: str) -> None:
    asyncrt.do("create", "--bundle", bundle, "web")
    asyncrt.detached("plain", "sleep", "1000")
    status, out, err = asyncrt.inside("update", "--pids-limit", "20", "plain", "nobody", "web")
    assert (status, out, err.count("\n")) == (1, "", 2)
    assert "can't update container 'plain': linux.resources: it has no cgroup" in err
    assert "no container 'nobody'" in err
    assert _told(asyncrt, "web")["pids"] == {"limit": 20}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "{",
            "standard input: malformed JSON: Expecting property name enclosed in double quotes at line 1, column 2",
        ),
        ("[]", "standard input: expected an object"),
        (
            '{"memory": {"limt": 5}}',
            "standard input: linux.resources.memory.limt: there is no such limit",
        ),
        ('{"cpu": {"quota": 5}}', "linux.resources.cpu.quota: 5 is below 1000 microseconds"),
        ("{}", "standard input: linux.resources: nothing to change is named"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    asyncrt: Asyncrt, bundle: str, tmp_path: Path, text: str, why: str
) -> None:
    asyncrt.do("create", "--bundle", bundle, "web")
    file = tmp_path / "limits.json"
    file.write_text(text)
    with file.open() as given:
        assert why in asyncrt.fails("update", "-r", "-", "web", stdin=given)
    assert _told(asyncrt, "web") == {"memory": {"limit": 64 << 20}, "pids": {"limit": 9}}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["web"], "name a limit"),
        (["-r", "-", "--memory", "5M", "web"], "exclude each other"),
        (["--memory", "much", "web"], "'much' is neither bytes"),
        (["--pids-limit", "x", "web"], "'x' is not a valid integer"),
        (["--l3-cache-schema", "L3:0=f", "web"], "--l3-cache-schema: caches and memory bandwidth"),
        (["--mem-bw-schema", "MB:0=20", "--pids-limit", "5", "web"], "/sys/fs/resctrl"),
    ],
)
def test_what_isnt_understood(asyncrt: Asyncrt, arguments: list[str], why: str) -> None:
    assert why in asyncrt.fails("update", *arguments, status=2)


@pytest.mark.parametrize(
    ("limits", "why", "advice"),
    [
        ({"cpu": {"cpus": "8191"}}, "cpu.cpus (there is no 8191 in ", "leave that out"),
        (
            {"unified": {"nothing.max": "1", "no.max": "1"}},
            "has the nothing controller), linux.resources.unified",
            "leave these out",
        ),
        ({"pids": {"limit": 1 << 40}}, "pids.max: Invalid argument: ", "give another"),
    ],
)
def test_what_this_machine_doesnt_have_is_told_with_the_container_and_what_to_do(
    asyncrt: Asyncrt,
    bundle: str,
    tmp_path: Path,
    limits: dict[str, object],
    why: str,
    advice: str,
) -> None:
    asyncrt.do("create", "--bundle", bundle, "web")
    file = tmp_path / "limits.json"
    file.write_text(json.dumps(limits))
    said = asyncrt.fails("update", "--resources", str(file), "web")
    assert "can't update container 'web': " in said
    assert why in said
    assert said.rstrip().endswith(f"{advice}; nothing is changed")
    assert _told(asyncrt, "web") == {"memory": {"limit": 64 << 20}, "pids": {"limit": 9}}


def test_an_ordinary_user_without_a_cgroup_is_told_what_it_takes_to_have_one(
    ordinary_user: User, open_directory: Path
) -> None:
    root = open_directory / "root"
    root.mkdir(mode=0o700)
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    config = open_directory / "config.json"
    config.write_bytes(sleeper().encoded())
    config.chmod(0o644)

    def do(*words: str) -> tuple[int, str]:
        done = asyncrt_as(ordinary_user, "--root", str(root), *words)
        return done.returncode, done.stderr

    assert do("run", "--detach", "--bundle", str(open_directory), "web") == (0, "")
    status, said = do("update", "--memory", "64M", "web")
    assert do("delete", "--force", "web") == (0, "")
    assert (status, said.count("\n")) == (1, 1)
    assert "it has no cgroup: create it with limits, or with a cgroupsPath, to have one" in said
    assert "this user may not make " in said
    assert "have a cgroup delegated to it" in said


RUNC_SAYS = re.compile(r"^ +(--[a-z0-9-]+) value(?:, -(\w) value)?", re.MULTILINE)


@pytest.mark.needs_program("runc")
def test_every_option_of_runcs_is_taken_or_refused_by_name(asyncrt: Asyncrt, bundle: str) -> None:
    """By somebody who types what runc took, or by a program that was written for it."""
    said = subprocess.run(["runc", "update", "--help"], capture_output=True, text=True, check=True)
    options = {name for name, _ in RUNC_SAYS.findall(said.stdout)}
    assert len(options) > 10
    values = {"--cpuset-cpus": "0", "--cpuset-mems": "0", "--resources": "/nowhere"}
    for name in options:
        _, _, err = asyncrt.inside("update", name, values.get(name, "1000"), "nobody")
        why = "no container 'nobody'"
        if name == "--resources":
            why = "/nowhere: No such file"
        elif name in {"--l3-cache-schema", "--mem-bw-schema"}:
            why = f"{name}: caches and memory bandwidth"
        assert why in err, name


def test_a_file_that_isnt_there_is_named(asyncrt: Asyncrt, bundle: str) -> None:
    asyncrt.do("create", "--bundle", bundle, "web")
    assert "/nowhere: No such file" in asyncrt.fails("update", "-r", "/nowhere", "web")
