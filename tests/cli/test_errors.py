"""Bad input: one clear line each, the right status, nothing left."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.command import Asyncrt, at_once

PROGRAM = ["--", "true"]


def test_bad_input_is_one_line_and_leaves_nothing(asyncrt: Asyncrt, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "malformed").mkdir()
    (tmp_path / "malformed" / "config.json").write_text("{")
    (tmp_path / "wrong").mkdir()
    config = {"ociVersion": "1.2.0", "process": {"args": "true", "cwd": "/"}}
    (tmp_path / "wrong" / "config.json").write_text(json.dumps(config))
    script = tmp_path / "script"
    script.write_text("#!/nowhere/interpreter\n")
    script.chmod(0o755)
    plain = tmp_path / "plain"
    plain.touch()
    cases: list[tuple[list[object], str]] = [
        (["run", "it", "--", "nope"], "'nope': No such file"),
        (["run", "it", "--env", "PATH=/x:/y", "--", "nope"], "; it isn't in PATH=/x:/y: give its"),
        (["run", "it", "--cwd", "/usr", "--", "./nope"], "; looked for in /usr, the working"),
        (["run", "it", "--", "/nope"], "program '/nope': No such file or directory\n"),
        (["spec", "-b", tmp_path / "new"], "new': 'mkdir -p' it first"),
        (["run", "it", "-b", tmp_path / "wrong" / "config.json"], "directory that has the config"),
        (["run", "--keep", "it", "--", "/usr"], "Is a directory"),
        (["run", "it", "--", plain], "Permission denied"),
        (["run", "it", "--", script], "/nowhere/interpreter"),
        (["run", "--cwd", "/nowhere", "it", *PROGRAM], "/nowhere"),
        (["run", "-d", "-u", "nobody-here", "it", *PROGRAM], "nobody-here"),
        (["create", "it", "-b", tmp_path / "empty"], "empty/config.json: No such file"),
        (["create", "it", "-b", tmp_path / "malformed"], "malformed/config.json"),
        (["create", "it", "-b", tmp_path / "wrong"], "process.args"),
    ]
    # An id each: two run at the same time.
    calls = [
        (1, [f"it{number}" if each == "it" else each for each in args])
        for number, (args, _) in enumerate(cases)
    ]
    for (args, hint), line in zip(cases, at_once(asyncrt, calls), strict=True):
        assert hint in line, args
    assert asyncrt.left() == []


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["run", "..", *PROGRAM], "names a directory"),
        (["run", "a/b", *PROGRAM], "'/'"),
        (["run", "", *PROGRAM], "empty"),
        (["run", "x" * 300, *PROGRAM], "300 characters"),
        (["run", "a\n", *PROGRAM], r"\n"),
        (["run", "\N{ARABIC-INDIC DIGIT ONE}", *PROGRAM], "contains"),
        (["start", "missing"], "no container 'missing'"),
        (["state", ""], "''"),
        (["kill", "*"], "'*'"),
        (["kill", "--signal", "", "web"], "''"),
        (["list", "--sandbox", "../x"], "'/'"),
        (["delete", "--force", "--sandbox", ".."], "names a directory"),
        (["delete", "--force", "--sandbox", "."], "names a directory"),
    ],
)
def test_an_id_that_cant_be_is_refused(asyncrt: Asyncrt, args: list[str], hint: str) -> None:
    assert _line(asyncrt, 1, args, hint)
    assert asyncrt.left() == []


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["run", "--deadline", "0", "it", *PROGRAM], "more than 0"),
        (["run", "--deadline=-1", "it", *PROGRAM], "more than 0"),
        (["run", "--deadline", "nan", "it", *PROGRAM], "more than 0"),
        (["run", "-e", "NOTHING", "it", *PROGRAM], "NAME=VALUE"),
        (["run", "--bundle", ".", "it", *PROGRAM], "not both"),
        (["create", "--user", "0", "it"], "config.json"),
        (["run", "--keep", "--detach", "it", *PROGRAM], "--keep"),
        (["stop", "--grace", "-1", "it"], "0 or more"),
        (["list", "-q", "--format", "json"], "exclude"),
        (["list", "--annotation", "=v"], "'=v' has no key"),
        (["prune", "--annotation", ""], "'' has no key"),
        (["spec", "--bundle", ""], "names no directory"),
        (["kill", "--all", "--pid", "1", "it"], "exclude"),
        (["kill", "--pid", "one", "it"], "is not a valid whole number"),
        (["exec", "it"], "missing program"),
        (["run", "it"], "missing program"),
        (["runn", "it"], "'runn'; did you mean one of: 'prune', 'run'; see"),
        (["ls"], "'ls'; did you mean one of: 'list', 'logs'; see"),
        (["delete"], "missing argument"),
        (["delete", "--farce", "it"], "no such option '--farce'"),
        (
            ["delete", "it", "--rm"],
            "no such option '--rm'; a container goes with its program in 'do'",
        ),
        (["run", "--name", "it", *PROGRAM], "no such option '--name'; the id is a word of its own"),
        (["run", "--workdir", "/", "it", *PROGRAM], "no such option '--workdir'; --cwd is"),
        (["kill", "--signal"], "kill: option '--signal' requires an argument; see 'asyncrt kill "),
        (["rm", "it"], "no such command 'rm'; 'asyncrt delete' removes"),
        (["stats", "it"], "no such command 'stats'; 'asyncrt events --stats' shows"),
        (["inspect", "it"], "no such command 'inspect'; 'asyncrt state' shows"),
        (["top", "it"], "no such command 'top'; 'asyncrt ps' shows"),
        (["restart", "it"], "no such command 'restart'; a container runs once"),
        (["frobnicate"], "no such command 'frobnicate'"),
        (["--log-format", "xml", "list"], "xml"),
    ],
)
def test_what_isnt_understood_is_one_line_and_status_2(
    asyncrt: Asyncrt, args: list[str], hint: str
) -> None:
    assert _line(asyncrt, 2, args, hint).rstrip().endswith("--help'")
    assert asyncrt.left() == []


def _line(asyncrt: Asyncrt, wanted: int, args: list[str], hint: str) -> str:
    status, out, err = asyncrt.inside(*args)
    assert (status, out) == (wanted, "")
    assert err.startswith("asyncrt: ")
    assert err.count("\n") == 1
    assert hint in err
    return err


def test_a_root_that_cant_be_trusted_is_refused(root: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name, why in (("file", "not a directory"), ("link", "link"), ("open", "0777")):
        line = _line(Asyncrt(str(tmp_path / name)), 1, ["run", "it", *PROGRAM], why)
        assert str(tmp_path / name) in line
    assert os.listdir(tmp_path / "open") == []


def test_debug_adds_the_traceback_and_the_line_stays_last(asyncrt: Asyncrt) -> None:
    _, err = asyncrt.both("state", "missing", options=["--debug"], status=1)
    assert "\nTraceback (most recent call last):\n" in err
    assert err.splitlines()[-1].startswith("asyncrt: no container 'missing'")


def test_the_log_has_transitions_and_errors(asyncrt: Asyncrt, tmp_path: Path) -> None:
    log = tmp_path / "log"
    asyncrt("run", "it", *PROGRAM, options=["--log", str(log), "--log-format", "json"])
    asyncrt.fails("state", "it", options=["--log", str(log), "--log-format", "json"])
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "msg", "logger"} <= each.keys() for each in records)
    assert any("created -> running" in each["msg"] for each in records)
    assert records[-1]["level"] == "error"
    assert "no container 'it'" in records[-1]["msg"]

    asyncrt.fails("state", "it", options=["--log", str(log)])
    last = log.read_text().splitlines()[-1]
    assert " ERROR asyncrt.cli: no container 'it'" in last

    line = asyncrt.fails("list", options=["--log", str(tmp_path / "missing" / "log")])
    assert line == f"asyncrt: {tmp_path}/missing/log: No such file or directory\n"
