"""Bad input: one clear line each, the right status, nothing left."""

from __future__ import annotations

import json
import os
from pathlib import Path

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
    cases: list[tuple[int, list[object], str]] = [
        (1, ["run", "..", *PROGRAM], "names a directory"),
        (1, ["run", "a/b", *PROGRAM], "'/'"),
        (1, ["run", "", *PROGRAM], "empty"),
        (1, ["run", "x" * 300, *PROGRAM], "300 characters"),
        (1, ["run", "a\n", *PROGRAM], r"\n"),
        (1, ["run", "\N{ARABIC-INDIC DIGIT ONE}", *PROGRAM], "contains"),
        (1, ["run", "it", "--", "nope"], "'nope': No such file"),
        (1, ["run", "it", "--", "/usr"], "Is a directory"),
        (1, ["run", "it", "--", plain], "Permission denied"),
        (1, ["run", "it", "--", script], "/nowhere/interpreter"),
        (1, ["run", "--cwd", "/nowhere", "it", *PROGRAM], "/nowhere"),
        (1, ["run", "-u", "nobody-here", "it", *PROGRAM], "nobody-here"),
        (1, ["create", "it", "-b", tmp_path / "empty"], "empty/config.json: No such file"),
        (1, ["create", "it", "-b", tmp_path / "malformed"], "malformed/config.json"),
        (1, ["create", "it", "-b", tmp_path / "wrong"], "process.args"),
        (1, ["start", "missing"], "no container 'missing'"),
        (1, ["state", ""], "''"),
        (1, ["kill", "*"], "'*'"),
        (2, ["run", "--deadline", "0", "it", *PROGRAM], "more than 0"),
        (2, ["run", "--deadline=-1", "it", *PROGRAM], "more than 0"),
        (2, ["run", "--deadline", "nan", "it", *PROGRAM], "more than 0"),
        (2, ["run", "-e", "NOTHING", "it", *PROGRAM], "NAME=VALUE"),
        (2, ["run", "--bundle", ".", "it", *PROGRAM], "not both"),
        (2, ["create", "--user", "0", "it"], "config.json"),
        (2, ["run", "--keep", "--detach", "it", *PROGRAM], "--keep"),
        (2, ["stop", "--grace", "-1", "it"], "0 or more"),
        (2, ["list", "-q", "--format", "json"], "exclude"),
        (2, ["exec", "it"], "missing program"),
        (2, ["delete"], "missing argument"),
        (2, ["delete", "--farce", "it"], "no such option '--farce'"),
        (2, ["frobnicate"], "no such command 'frobnicate'"),
    ]
    # An id each: two run at the same time.
    calls = [
        (status, [f"it{number}" if each == "it" else each for each in args])
        for number, (status, args, _) in enumerate(cases)
    ]
    lines = at_once(asyncrt, calls)
    for (_, args, hint), line in zip(cases, lines, strict=True):
        assert hint in line, args
    assert asyncrt.left() == []


def test_a_root_that_cant_be_trusted_is_refused(root: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name, why in (("file", "not a directory"), ("link", "link"), ("open", "0777")):
        line = Asyncrt(str(tmp_path / name)).fails("run", "it", *PROGRAM)
        assert str(tmp_path / name) in line
        assert why in line
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
