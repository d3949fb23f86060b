"""list in its three forms, on a terminal, in a pipe, and where nobody reads it."""

from __future__ import annotations

import json
import os
import pty
import signal
from pathlib import Path

import pytest

from tests.cli.command import Asyncrt

LONG = "a" * 200  # the longest an id may be


def _on_terminal(asyncrt: Asyncrt, *args: str, columns: int = 60) -> str:
    """What the command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    env = {"COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": ""}
    try:
        with asyncrt.start(*args, stdout=theirs, stderr=theirs, env=env) as running:
            os.close(theirs)
            written = b""
            try:
                while part := os.read(ours, 65536):
                    written += part
            except OSError:  # EIO: the last who had the terminal open has closed it
                pass
            assert running.end()[0] == 0
    finally:
        os.close(ours)
    return written.decode().replace("\r\n", "\n")


def test_table_json_and_quiet_tell_the_same(asyncrt: Asyncrt) -> None:
    asyncrt.detached("web", "sleep", "1000")
    asyncrt("run", "--keep", LONG, "--", "sh", "-c", "exit 3", status=3)
    (Path(asyncrt.root) / "broken.state").write_text("{")
    (Path(asyncrt.root) / "broken.lock").touch()

    assert asyncrt("list", "-q").split() == [LONG, "broken", "web"]

    views = asyncrt.views()
    assert views["web"]["status"] == "running"
    assert views["web"]["exit"] is None
    assert views[LONG]["pid"] is None
    assert views[LONG]["exit"]["status_code"] == views[LONG]["exit"]["exit_code"] == 3
    assert views["broken"]["status"] is None
    assert "broken.state" in views["broken"]["broken"]

    # In a pipe nothing is cut or coloured, however wide a terminal is said to be.
    out, err = asyncrt.both("list", env={"COLUMNS": "40", "FORCE_COLOR": "1"})
    header, first, second, third = out.splitlines()
    assert header.split() == ["ID", "STATUS", "PID", "EXIT", "CREATED", "OWNER", "BUNDLE"]
    assert first.split()[:4] == [LONG, "stopped", "-", "3"]
    assert second.split()[:2] == ["broken", "broken"]
    assert third.split()[:3] == ["web", "running", str(views["web"]["pid"])]
    assert first.index("stopped") == third.index("running") == header.index("STATUS")
    assert err.startswith("asyncrt: warning: broken: ")

    shown = _on_terminal(asyncrt, "list")
    assert LONG in shown
    assert "\x1b[32mrunning" in shown

    asyncrt.inside("delete", "--force", LONG, "broken", "web")
    assert asyncrt.left() == []


def test_an_empty_root_is_an_empty_table(asyncrt: Asyncrt) -> None:
    assert asyncrt("list").split()[:2] == ["ID", "STATUS"]
    assert asyncrt("list", "-q") == ""
    assert json.loads(asyncrt("list", "--format", "json")) == []


def test_a_reader_that_has_enough_is_no_error(asyncrt: Asyncrt) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        _, err = asyncrt.both("list", stdout=closed, status=128 + signal.SIGPIPE)
    assert err == ""


@pytest.mark.parametrize("args", [["list"], ["--help"]])
def test_a_full_disk_under_the_output_is_told(asyncrt: Asyncrt, args: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        _, err = asyncrt.both(*args, stdout=full, status=1)
    assert err == "asyncrt: can't write the output: No space left on device\n"


def test_what_a_workload_calls_itself_cant_drive_the_terminal(asyncrt: Asyncrt) -> None:
    asyncrt.detached("it", "sh", "-c", "sleep 1000 # \x1b]0;owned\x07\nlist\n:")
    out = asyncrt("ps", "it")
    assert "\x1b" not in out
    assert r"# \x1b]0;owned\x07\nlist" in out
    asyncrt.do("delete", "-f", "it")


def test_a_wait_of_over_a_second_shows_on_a_terminal(asyncrt: Asyncrt) -> None:
    asyncrt.detached("it", "sleep", "1000")
    ours, theirs = pty.openpty()
    try:
        with asyncrt.start("wait", "it", stderr=theirs, env={"TERM": "xterm"}) as waiting:
            os.close(theirs)
            seen = b""
            while b"waiting for it" not in seen:
                seen += os.read(ours, 65536)
            asyncrt.do("kill", "it", "KILL")
            assert waiting.line() == "137"
            assert waiting.end()[0] == 0
    finally:
        os.close(ours)
    asyncrt.do("delete", "it")


def test_a_sandbox_that_there_cant_be_is_a_mistake_and_no_empty_table(asyncrt: Asyncrt) -> None:
    for bad in ("../x", "", "a b"):
        assert repr(bad) in asyncrt.fails("list", "--sandbox", bad)


def test_what_create_and_run_annotate_is_found_by_it_program_or_bundle(
    asyncrt: Asyncrt, tmp_path: Path
) -> None:
    config = {
        "ociVersion": "1.2.0",
        "process": {"args": ["/bin/true"], "cwd": "/"},
        "annotations": {"team": "red", "kind": "bundle"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    blue = ["--annotation", "team=blue", "--annotation", "note=a=b"]
    asyncrt.do("create", *blue, "waiting", "--", "/bin/true")
    asyncrt.do("run", "--keep", *blue, "done", "--", "/bin/true")
    asyncrt.do("run", "--keep", *blue, "--bundle", tmp_path, "bundled")
    asyncrt.do("run", "--keep", "--bundle", tmp_path, "asis")
    for wanted, found in (
        (["team=blue"], "bundled\ndone\nwaiting\n"),
        (["team=blue", "note=a=b", "kind=bundle"], "bundled\n"),  # what isn't named stays
        (["team=red"], "asis\n"),
    ):
        words = [word for each in wanted for word in ("--annotation", each)]
        assert asyncrt.do("list", "-q", *words) == found
    assert asyncrt.views()["bundled"]["bundle"] == str(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == config
    for wrong in ("team", "=blue"):
        status, _, err = asyncrt.inside("run", "x", "--annotation", wrong, "--", "/bin/true")
        assert (status, err.count("\n")) == (2, 1)
        assert f"'--annotation': {wrong!r} isn't KEY=VALUE" in err
    asyncrt.do("delete", "--force", *asyncrt.views())
    assert asyncrt.left() == []
