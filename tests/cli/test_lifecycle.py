"""create, start, kill, stop, pause, resume, wait, state: one container driven from a shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.cli.command import TELLS, Asyncrt, at_once
from tests.helpers.processes import wait_until


def _bundle(directory: Path, **config: Any) -> None:
    process = {"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/usr/bin:/bin"]}
    whole = {"ociVersion": "1.2.0", "process": process, "annotations": {"a": "b"}, **config}
    (directory / "config.json").write_text(json.dumps(whole))


def test_from_create_to_delete_by_hand(asyncrt: Asyncrt, tmp_path: Path) -> None:
    _bundle(tmp_path)
    pid_file = tmp_path / "pid"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # The bundle is the current directory, as with other runtimes.
    asyncrt("create", "--pid-file", pid_file, "web", cwd=str(tmp_path), **quiet)
    state = asyncrt.json("state", "we")
    assert state == {
        "ociVersion": state["ociVersion"],
        "id": "web",
        "status": "created",
        "pid": int(pid_file.read_text()),
        "bundle": str(tmp_path),
        "annotations": {"a": "b"},
    }
    asyncrt("start", "web")
    assert asyncrt.json("state", "web")["status"] == "running"
    assert asyncrt("list", "-q") == "web\n"
    with asyncrt.start("wait", "web") as waiting:
        assert asyncrt("kill", "web", "TERM") == ""
        assert waiting.end() == (0, "143\n", "")
    # A second wait gives the same answer as the first.
    again = asyncrt.json("wait", "--format", "json", "web")
    assert (again["id"], again["status_code"], again["signal"]) == ("web", 143, signal.SIGTERM)
    assert again["reason"] == "signal"
    assert datetime.fromisoformat(again["started_at"]) < datetime.fromisoformat(
        again["finished_at"]
    )
    state = asyncrt.json("state", "web")
    assert state["status"] == "stopped"
    assert "pid" not in state
    assert asyncrt("delete", "web") == ""
    assert asyncrt.left() == []


def test_signals_go_by_name_in_any_spelling_and_by_number(asyncrt: Asyncrt) -> None:
    with asyncrt.start("run", "it", "--", "sh", "-c", TELLS) as running:
        assert running.line() == "ready"
        for spelled, heard in (
            ("hup", "HUP"),
            ("SIGUSR1", "USR1"),
            ("sigUsr2", "USR2"),
            (int(signal.SIGINT), "INT"),
        ):
            asyncrt("kill", "it", spelled)
            assert running.line() == heard
        for wrong in ("NOPE", "0x9", "99", "SIG"):
            status, _, err = asyncrt.inside("kill", "it", wrong)
            assert (status, err.count("\n")) == (1, 1)
            assert "no signal" in err
        asyncrt("kill", "it")
        assert running.end() == (7, "TERM\n", "")


def test_kill_by_pid_and_by_group_hits_only_that(asyncrt: Asyncrt) -> None:
    program = """
        setsid sh -c 'trap "" TERM; sleep 1000 & echo $! $$; wait; echo group over' &
        read line
    """
    read, write = os.pipe()
    with (
        os.fdopen(read) as stdin,
        os.fdopen(write, "w") as input,
        asyncrt.start("run", "it", "--", "sh", "-c", program, stdin=stdin) as running,
    ):
        sleep, group = running.line().split()
        comm = Path(f"/proc/{sleep}/comm")
        wait_until(lambda: comm.read_text() == "sleep\n", "the child has executed its program")
        processes = asyncrt.json("ps", "--format", "json", "it")
        by_pid = {each["pid"]: each for each in processes}
        assert by_pid[int(sleep)]["command"] == ["sleep", "1000"]
        assert by_pid[int(sleep)]["ppid"] == int(group)
        # The test's own process is none of the container's.
        at_once(
            asyncrt,
            [
                (1, ["kill", "--pid", os.getpid(), "it"]),
                (1, ["kill", "--pgid", os.getpgid(0), "it"]),
            ],
        )
        asyncrt("kill", "--pid", sleep, "it", "KILL")
        assert running.line() == "group over"
        input.write("\n")
        input.flush()
        assert running.end() == (0, "", "")


def test_kill_all_reaches_what_init_left(asyncrt: Asyncrt) -> None:
    program = "setsid sh -c 'trap \"\" TERM; echo ready; sleep 1000' & wait"
    with asyncrt.start("run", "it", "--", "sh", "-c", program) as running:
        assert running.line() == "ready"
        asyncrt("kill", "--all", "it", "kill")
        # Its output ends only when nobody holds it any more.
        assert running.end() == (128 + signal.SIGKILL, "", "")


def test_stop_gives_grace_then_kills_and_goes_on_after_a_failure(asyncrt: Asyncrt) -> None:
    stubborn = "trap '' TERM; echo ready; while :; do sleep 1000; done"
    with (
        asyncrt.start("run", "--keep", "good", "--", "sh", "-c", TELLS) as good,
        asyncrt.start("run", "--keep", "bad", "--", "sh", "-c", stubborn) as bad,
    ):
        assert good.line() == bad.line() == "ready"
        line = asyncrt.fails("stop", "--grace", "0.3", "nope", "good", "bad")
        assert "'nope'" in line
        assert good.end() == (7, "TERM\n", "")
        assert bad.end()[0] == 128 + signal.SIGKILL
    lines = asyncrt("wait", "good", "bad").splitlines()
    assert sorted(lines) == ["bad 137", "good 7"]
    assert "is stopped" in asyncrt.inside("stop", "good")[2]
    asyncrt.do("delete", "good", "bad")


def test_pause_holds_and_resume_lets_go_on(asyncrt: Asyncrt) -> None:
    with asyncrt.start("run", "it", "--", "sh", "-c", TELLS) as running:
        assert running.line() == "ready"
        asyncrt("pause", "it")
        assert asyncrt.views()["it"]["status"] == "paused"
        assert "it is paused" in asyncrt.fails("pause", "it")
        assert "it is paused" in asyncrt.inside("exec", "it", "--", "true")[2]
        asyncrt("kill", "it", "USR1")  # arrives when it resumes
        asyncrt("resume", "it")
        assert running.line() == "USR1"
        assert "it is running" in asyncrt.inside("resume", "it")[2]
        asyncrt.do("pause", "it")
        asyncrt.do("kill", "it", "KILL")
        assert running.end()[0] == 128 + signal.SIGKILL


def test_an_interrupted_wait_leaves_the_container_alone(asyncrt: Asyncrt, tmp_path: Path) -> None:
    asyncrt.detached("it", "sleep", "1000")
    log = tmp_path / "log"
    os.mkfifo(log)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        options = ["--debug", "--log", str(log)]
        with asyncrt.start("wait", "it", options=options) as waiting, log.open() as records:
            # This record is the event that it is past its start-up.
            while " asyncrt.cli: wait: " not in records.readline():
                pass
            waiting.signal(number)
            assert waiting.end() == (128 + number, "", "")
    assert asyncrt.views()["it"]["status"] == "running"
    asyncrt.do("delete", "-f", "it")
