"""asyncrt exec: one more process in a container that runs."""

from __future__ import annotations

import json
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


def test_its_groups_and_no_new_privileges(web: Asyncrt) -> None:
    show = ("--", "grep", "-E", "^(Groups|NoNewPrivs)", "/proc/self/status")
    groups = ("-g", "77", "--additional-gids", "78") if os.geteuid() == 0 else ()
    found = dict(
        each.split(":\t")
        for each in web("exec", "web", "--no-new-privs", *groups, *show).splitlines()
    )
    assert found["NoNewPrivs"] == "1"
    assert {*groups} - {"-g", "--additional-gids"} <= {*found["Groups"].split()}


@pytest.mark.parametrize(
    "bad", ["-1", "+5", " 5", "05", "5_0", "0x5", "٥", "", "root", "4294967295"]
)
def test_what_is_no_group_id_is_a_usage_error(web: Asyncrt, bad: str) -> None:
    """HAZARDS 43: a lenient parse became 0 elsewhere."""
    assert "group id" in web.fails("exec", "web", f"--additional-gids={bad}", "--", "id", status=2)


def test_a_process_file_says_all_of_it(web: Asyncrt, tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    process = {
        "args": ["sh", "-c", "echo $A; pwd; [ -t 1 ] && echo tty; exit 4"],
        "cwd": "/usr",
        "env": ["A=said"],
    }
    file.write_text(json.dumps({**process, "user": {"uid": os.geteuid(), "gid": os.getegid()}}))
    assert web("exec", "-p", file, "web", status=4) == "said\n/usr\n"
    file.write_text(json.dumps({**process, "terminal": True}))
    with web.start("exec", "web", "--process", file) as running:
        assert running.end() == (4, "said\n/usr\ntty\n", "")
    said = web.fails("exec", "--detach", "--process", file, "web", status=2)
    assert "a terminal with --detach needs a --console-socket" in said


def test_a_fault_of_a_process_file_is_told_with_its_place(web: Asyncrt, tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    assert str(file) in web.fails("exec", "-p", file, "web")
    file.write_text('{"cwd": "/", "args": ["true", 5]}')
    said = web.fails("exec", "-p", file, "web")
    assert "process.args[1]" in said
    assert str(file) in said
    file.write_text('{"cwd": "/", "args": ["true"], "capabilities": {"effective": ["CAP_KILL"]}}')
    assert "process.capabilities" in web.fails("exec", "-p", file, "web")
    for options in (
        ["--", "true"],
        ["--user", ""],
        ["-e", "A=1"],
        ["-g", "0"],
        ["--apparmor", "x"],
    ):
        assert "its file says" in web.fails("exec", "-p", file, "web", *options, status=2)


def test_capabilities_and_a_cgroup_need_a_container_that_has_them(web: Asyncrt) -> None:
    for label in (["--apparmor", "some"], ["--process-label", "some"]):
        line = web.fails("exec", "web", *label, "--", "true")
        assert f"{label[0]}: it isn't to be had on the host platform" in line
    said = web.fails("exec", "web", "--cap", "CAP_KILL", "--", "true")
    assert "--cap: it isn't to be had on the host platform" in said
    assert "unknown capability 'kill'" in web.fails("exec", "web", "-c", "kill", "--", "true")
    assert "has no cgroup" in web.fails("exec", "web", "--cgroup", "part", "--", "true")
