"""asyncrt exec: one more process in a container that runs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import TELLS, Asyncrt
from tests.helpers.processes import wait_gone


@pytest.fixture
def web(asyncrt: Asyncrt) -> Iterator[Asyncrt]:
    """The command, on a root with a container "web" that runs."""
    asyncrt.detached("web", "sleep", "1000", options=["-e", "OF=container"])
    yield asyncrt
    asyncrt.do("delete", "--force", "web")


def test_arguments_streams_and_status_are_the_programs(web: Asyncrt, tmp_path: Path) -> None:
    # An engine dropped every argument of an exec that contained "detach".
    script = 'echo detach "$@"; echo "$OF $MORE"; pwd; cat; echo err >&2; exit 123'
    given = tmp_path / "input"
    given.write_text("input")
    with given.open() as stdin:
        out, err = web.both(
            *("exec", "web", "-e", "MORE=exec", "--cwd", "/usr", "--"),
            *("sh", "-c", script, "sh", "--detach", "-d", "--", "detach"),
            stdin=stdin,
            status=123,
        )
    assert out == "detach --detach -d -- detach\ncontainer exec\n/usr\ninput"
    assert err == "err\n"


def test_a_program_without_dashes_before_it_keeps_its_options(web: Asyncrt) -> None:
    assert web("exec", "web", "echo", "-d", "--user", "--", "x") == "-d --user -- x\n"


def test_signals_go_to_the_process_and_not_to_init(web: Asyncrt, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    argv = ("exec", "--pid-file", pid_file, "web", "--", "sh", "-c", f"echo $$; {TELLS}")
    with web.start(*argv) as running:
        pid = running.line()
        assert running.line() == "ready"
        running.signal(signal.SIGINT)
        assert running.line() == "INT"
        web("kill", "--pid", pid, "web", "USR1")
        assert running.line() == "USR1"
        running.signal(signal.SIGTERM)
        assert running.end() == (7, "TERM\n", "")
    assert pid_file.read_text() == pid
    assert web.views()["web"]["status"] == "running"


def test_detached_it_goes_on_and_shows_in_ps(web: Asyncrt, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    web("exec", "-d", "--pid-file", pid_file, "web", "--", "sleep", "2000", **quiet)
    pid = int(pid_file.read_text())
    found = {each["pid"]: each["command"] for each in web.json("ps", "web", "-f", "json")}
    assert sorted(found.values()) == [["sleep", "1000"], ["sleep", "2000"]]
    assert found[pid] == ["sleep", "2000"]
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    table = web("ps", "web").splitlines()
    assert table[0].split() == ["PID", "PPID", "USER", "STATE", "STARTED", "CPU", "RSS", "COMMAND"]
    assert table[2].split()[0] == str(pid)
    assert table[2].endswith("sleep 2000")


def test_a_killed_command_takes_its_program_along(web: Asyncrt) -> None:
    with web.start("exec", "web", "--", "sh", "-c", f"echo $$; {TELLS}") as running:
        pid = int(running.line())
        assert running.line() == "ready"
        running.signal(signal.SIGKILL)
        wait_gone(pid)
    assert web.views()["web"]["status"] == "running"


def test_past_its_deadline_it_is_killed_and_init_is_not(web: Asyncrt) -> None:
    _, err = web.both("exec", "--deadline", "0.05", "web", "--", "sleep", "9", status=137)
    assert err == "asyncrt: 'sleep' was killed: it reached its deadline\n"
    assert web.views()["web"]["status"] == "running"


def test_what_cant_be_executed_is_named(web: Asyncrt) -> None:
    assert "'nope'" in web.fails("exec", "web", "--", "nope")
    assert "/nowhere" in web.fails("exec", "--cwd", "/nowhere", "web", "--", "true")
    assert "nobody-here" in web.fails("exec", "--user", "nobody-here", "web", "--", "true")
    assert "missing program" in web.fails("exec", "web", status=2)
