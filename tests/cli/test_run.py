"""asyncrt run: attached, detached, its signals and its pid file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.command import TELLS, Asyncrt
from tests.helpers.processes import wait_gone, wait_until


def test_it_exits_with_exactly_the_programs_status_and_deletes(asyncrt: Asyncrt) -> None:
    cases = [
        (0, ["true"]),
        (1, ["false"]),
        (123, ["sh", "-c", "exit 123"]),
        (255, ["sh", "-c", "exit 255"]),
        (128 + signal.SIGKILL, ["sh", "-c", "kill -KILL $$"]),
        (128 + signal.SIGRTMIN, ["sh", "-c", f"kill -{int(signal.SIGRTMIN)} $$"]),
    ]

    def one(number: int) -> tuple[str, str]:
        status, program = cases[number]
        return asyncrt.both("run", f"job{number}", "--", *program, status=status)

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(one, range(len(cases)))) == {("", "")}
    assert asyncrt.left() == []


def test_the_programs_arguments_pass_untouched(asyncrt: Asyncrt) -> None:
    # An engine dropped every argument of an exec that contained "detach".
    given = [
        "--detach",
        "detach",
        "-d",
        "",
        "--keep",
        "--",
        "-h",
        "--help",
        "two words",
        "\N{SNOWMAN}",
        "a\nb",
        "*",
    ]
    out = asyncrt("run", "it", "--", "printf", "<%s>", *given)
    assert out == "".join(f"<{each}>" for each in given)


def test_its_streams_are_the_programs(asyncrt: Asyncrt, tmp_path: Path) -> None:
    given = tmp_path / "input"
    given.write_text("from a file")
    with given.open() as stdin:
        out, err = asyncrt.both("run", "cat", "--", "sh", "-c", "cat; echo errors >&2", stdin=stdin)
    assert (out, err) == ("from a file", "errors\n")


def test_closed_streams_dont_become_files_of_ours(asyncrt: Asyncrt, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program = (
        f"readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 >{seen}; echo out; echo err >&2"
    )
    done = subprocess.run(
        [
            "sh",
            "-c",
            'exec "$@" <&- >&- 2>&-',
            "sh",
            *asyncrt.argv("run", "it", "--", "sh", "-c", program),
        ],
        check=False,
    )
    assert done.returncode == 0
    assert [line for line in seen.read_text().splitlines() if line != str(seen)] == [
        "/dev/null"
    ] * 2


def test_environment_directory_and_user_are_given_not_inherited(asyncrt: Asyncrt) -> None:
    options = [
        "-e",
        "ONE=1=1",
        "--env",
        "TWO=",
        "-e",
        "ONE=2",
        "--cwd",
        "/usr",
        "-u",
        str(os.getuid()),
    ]
    out = asyncrt("run", *options, "it", "--", "sh", "-c", "pwd; id -u; env", env={"SECRET": "x"})
    cwd, uid, *env = out.splitlines()
    assert (cwd, uid) == ("/usr", str(os.getuid()))
    assert {"ONE=2", "TWO="} <= set(env)
    assert not any(each.startswith("SECRET") for each in env)


def test_keep_leaves_it_stopped_and_the_output_tells_why(asyncrt: Asyncrt) -> None:
    _, err = asyncrt.both(
        *("run", "--keep", "--deadline", "0.05", "late", "--", "sleep", "1000"),
        status=128 + signal.SIGKILL,
    )
    assert err == "asyncrt: 'late' was killed: it reached its deadline\n"
    late = asyncrt.views()["late"]
    assert late["status"] == "stopped"
    assert late["exit"]["reason"] == "deadline"
    asyncrt.do("delete", "late")


def test_signals_are_passed_on_again_and_again(asyncrt: Asyncrt) -> None:
    with asyncrt.start("run", "it", "--", "sh", "-c", TELLS) as running:
        assert running.line() == "ready"
        for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            running.signal(number)
            assert running.line() == number.name.removeprefix("SIG")
        running.signal(signal.SIGTERM)
        assert running.end() == (7, "TERM\n", "")
    assert asyncrt.left() == []


def test_a_burst_of_signals_arrives_whole(asyncrt: Asyncrt) -> None:
    with asyncrt.start("run", "it", "--", "sh", "-c", TELLS) as running:
        assert running.line() == "ready"
        different = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
        for number in different:
            running.signal(number)
        heard = {running.line() for _ in different}
        assert heard == {each.name.removeprefix("SIG") for each in different}
        running.signal(signal.SIGQUIT)  # not trapped
        assert running.end()[0] == 128 + signal.SIGQUIT


def test_an_ignored_hangup_stays_ignored(asyncrt: Asyncrt) -> None:
    argv = asyncrt.argv("run", "it", "--", "sh", "-c", TELLS)
    nohup = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *argv]
    with subprocess.Popen(nohup, stdout=subprocess.PIPE, text=True) as popen:
        assert popen.stdout is not None
        assert popen.stdout.readline() == "ready\n"
        popen.send_signal(signal.SIGHUP)
        popen.send_signal(signal.SIGUSR1)
        assert popen.stdout.readline() == "USR1\n"
        popen.send_signal(signal.SIGTERM)
        assert popen.wait(20) == 7


class HeldBundle:
    """A bundle whose createRuntime hook tells that it runs, and waits until it is let go."""

    def __init__(self, directory: Path, program: list[str]) -> None:
        self.path = directory / "bundle"
        self.path.mkdir()
        self._here = directory / "here"
        self._go = directory / "go"
        for fifo in (self._here, self._go):
            os.mkfifo(fifo)
        script = f"echo here >{self._here}; read line <{self._go}"
        config = {
            "ociVersion": "1.2.0",
            "process": {"args": program, "cwd": "/", "env": ["PATH=/usr/bin:/bin"]},
            "hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]},
        }
        (self.path / "config.json").write_text(json.dumps(config))

    def wait_until_held(self) -> None:
        assert self._here.read_text() == "here\n"

    def let_go(self) -> None:
        self._go.write_text("go\n")


def test_a_signal_before_the_program_runs_is_not_lost(asyncrt: Asyncrt, tmp_path: Path) -> None:
    bundle = HeldBundle(tmp_path, ["sleep", "1000"])
    with asyncrt.start("run", "--bundle", bundle.path, "it") as running:
        bundle.wait_until_held()
        running.signal(signal.SIGWINCH)
        running.signal(signal.SIGTERM)
        bundle.let_go()
        assert running.end() == (128 + signal.SIGTERM, "", "")
    assert asyncrt.left() == []


def test_a_second_request_to_end_gives_the_start_up(asyncrt: Asyncrt, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    bundle = HeldBundle(tmp_path, ["touch", str(ran)])
    with asyncrt.start("run", "--bundle", bundle.path, "it") as running:
        bundle.wait_until_held()
        running.signal(signal.SIGTERM)
        running.signal(signal.SIGINT)
        code, out, err = running.end()
    assert (code in {128 + signal.SIGINT, 128 + signal.SIGTERM}, out, err) == (True, "", "")
    assert not ran.exists()
    assert asyncrt.left() == []


def test_an_interrupted_create_leaves_nothing(asyncrt: Asyncrt, tmp_path: Path) -> None:
    bundle = HeldBundle(tmp_path, ["true"])
    with asyncrt.start("create", "--bundle", bundle.path, "it") as running:
        bundle.wait_until_held()
        running.signal(signal.SIGTERM)
        assert running.end() == (128 + signal.SIGTERM, "", "")
    assert asyncrt.left() == []


def test_a_killed_command_leaves_nothing_running(asyncrt: Asyncrt) -> None:
    with asyncrt.start("run", "it", "--", "sh", "-c", TELLS) as running:
        assert running.line() == "ready"
        running.signal(signal.SIGKILL)
        wait_gone(running.pid)
        assert asyncrt.do("wait", "it") == f"{128 + signal.SIGKILL}\n"
        view = asyncrt.views()["it"]
        assert (view["status"], view["exit"]["reason"]) == ("stopped", "lease")
        asyncrt.do("delete", "it")
    assert asyncrt.left() == []


def test_detached_it_returns_at_once_and_has_no_input(asyncrt: Asyncrt, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = "readlink /proc/$$/fd/0; exec sleep 1000"
    asyncrt("run", "-d", "--pid-file", pid_file, "it", "--", "sh", "-c", program)
    view = asyncrt.views()["it"]
    assert view["status"] == "running"
    assert pid_file.read_text() == str(view["pid"])
    wait_until(lambda: asyncrt("logs", "it") == "/dev/null\n", "it has told of its input")
    asyncrt.do("stop", "--grace", "0", "it")
    asyncrt.do("delete", "it")


def test_a_pid_file_is_replaced_whole(asyncrt: Asyncrt, tmp_path: Path) -> None:
    # Truncating and writing would show in the old file, and readers could see it empty.
    pid_file = tmp_path / "pid"
    pid_file.write_text("old")
    with pid_file.open() as old:
        out = asyncrt("run", "--pid-file", pid_file, "it", "--", "sh", "-c", "echo $$")
        assert old.read() == "old"
    assert pid_file.read_text() == out.strip()
    assert os.listdir(tmp_path) == ["pid"]


def test_a_fifo_as_pid_file_is_written_in_place(asyncrt: Asyncrt, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with asyncrt.start("run", "--pid-file", fifo, "it", "--", "sh", "-c", "echo $$") as running:
        # The program is over before there is a reader; the pid waits for one.
        pid = running.line()
        assert fifo.read_text() == pid
        assert running.end() == (0, "", "")
    assert fifo.is_fifo()


def test_a_fifo_nobody_reads_can_be_given_up(asyncrt: Asyncrt, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with asyncrt.start("create", "--pid-file", fifo, "it", "--", "true") as running:
        _until_opening(running.pid)
        running.signal(signal.SIGINT)
        assert running.end() == (128 + signal.SIGINT, "", "")
    assert asyncrt.left() == []


def _until_opening(pid: int) -> None:
    """Wait until a thread of the process sits in the open of a FIFO, which no event tells."""

    def opening() -> bool:
        for task in os.listdir(f"/proc/{pid}/task"):
            for file in ("wchan", "stack"):  # the one tells some kernels' users, the other root
                with contextlib.suppress(OSError):
                    where = Path(f"/proc/{pid}/task/{task}/{file}").read_text()
                    if "fifo_open" in where or "wait_for_partner" in where:
                        return True
        return False

    wait_until(opening, "a thread waits for the FIFO's reader")


@pytest.mark.parametrize("target", ["missing/pid", "file/pid", "."])
def test_a_pid_file_that_cant_be_is_told_before_anything_starts(
    asyncrt: Asyncrt, tmp_path: Path, target: str
) -> None:
    (tmp_path / "file").touch()
    ran = tmp_path / "ran"
    line = asyncrt.fails("run", "--pid-file", tmp_path / target, "it", "--", "touch", ran)
    assert "can't write the pid file" in line
    assert not ran.exists()
    assert asyncrt.left() == []


@pytest.mark.needs_cgroups("memory", "pids", "cpu")
def test_limits_of_a_plain_program_hold(asyncrt: Asyncrt) -> None:
    limited = ("--memory", "32M", "--pids", "16", "--cpu", "0.5")
    grow = (
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=256M",
        "count=1",
    )  # of that size is its buffer
    asyncrt("run", *limited, "big", "--", *grow, status=128 + 9)
    asyncrt.do("create", *limited, "held", "--", "/bin/true")
    config = json.loads((Path(asyncrt.root) / "held.d" / "config.json").read_text())
    assert config["linux"]["resources"] == {
        "memory": {"limit": 32 << 20, "swap": 32 << 20},
        "pids": {"limit": 16},
        "cpu": {"quota": 50_000, "period": 100_000},
    }
    asyncrt.do("delete", "--force", "held")
    assert asyncrt.left() == []


def test_limits_of_a_bundle_are_its_configs(asyncrt: Asyncrt, tmp_path: Path) -> None:
    for words in (("--memory", "32M"), ("--pids", "16"), ("--cpu", "0.5")):
        line = asyncrt.fails("run", *words, "--bundle", tmp_path, "x", status=2)
        assert f"{words[0]} is for a program; a bundle says it in config.json" in line
