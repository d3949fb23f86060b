"""do: a program in a throw-away sandbox, as people run it."""

from __future__ import annotations

import os
import pty
import signal
import tempfile
from pathlib import Path

import pytest

from tests.cli.command import Asyncrt
from tests.helpers.capabilities import User
from tests.helpers.leaks import LeakCheck
from tests.helpers.processes import asyncrt_as

pytestmark = pytest.mark.needs_root


def test_it_sees_the_hosts_files_and_changes_none(asyncrt: Asyncrt, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("kept")
    script = "cat there; ls -A /run; for each in there /etc/new /usr/new; do echo x >$each; done"
    out, err = asyncrt.both("do", "--", "sh", "-c", script, status=2, cwd=str(tmp_path))
    assert out == "kept"
    assert err.count("Read-only file system") == 3
    assert (tmp_path / "there").read_text() == "kept"
    assert os.listdir(tmp_path) == ["there"]
    assert asyncrt.left() == []


def test_it_writes_where_it_may_and_nowhere_else(asyncrt: Asyncrt, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    script = "echo x >in/new; touch /tmp/gone; touch new"
    _, err = asyncrt.both("do", "-w", "in", "sh", "-c", script, status=1, cwd=str(tmp_path))
    assert "new" in err
    assert (tmp_path / "in" / "new").read_text() == "x\n"
    assert os.listdir(tmp_path) == ["in"]
    assert not os.path.exists("/tmp/gone")


def test_its_status_is_the_programs_and_its_arguments_are_left_alone(asyncrt: Asyncrt) -> None:
    out = asyncrt("do", "sh", "-c", 'echo "$@"; exit 7', "sh", "--network", "-w", status=7)
    assert out == "--network -w\n"
    asyncrt("do", "--", "sh", "-c", "kill -9 $$", status=128 + 9)
    assert "missing program" in asyncrt.fails("do", status=2)
    assert "'nowhere'" in asyncrt.fails("do", "nowhere")
    assert asyncrt.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_what_does_not_catch_them(asyncrt: Asyncrt, number: signal.Signals) -> None:
    # As first process of its namespace it would never get them.
    with asyncrt.start("do", "--", "sh", "-c", "echo ready; exec sleep 1000") as running:
        assert running.line() == "ready"
        running.signal(number)
        assert running.end()[:2] == (128 + number, "")
    assert asyncrt.left() == []


@pytest.mark.needs_cgroups("memory", "pids", "cpu")
def test_its_limits_hold(asyncrt: Asyncrt) -> None:
    limited = ("do", "--memory", "32M", "--pids", "16", "--cpu", "0.5")
    grow = (
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=256M",
        "count=1",
    )  # of that size is its buffer
    _, err = asyncrt.both(*limited, "--", *grow, status=128 + 9)
    assert "was killed: out of memory" in err
    fork = "while :; do sleep 1000 & done"
    _, err = asyncrt.both(*limited, "--deadline", "20", "--", "sh", "-c", fork, status=2)
    assert "fork" in err
    assert "'much'" in asyncrt.fails("do", "--memory", "much", "true", status=2)
    assert asyncrt.left() == []


def test_a_deadline_ends_all_of_it(asyncrt: Asyncrt) -> None:
    script = "sleep 1000 & sleep 1000"
    _, err = asyncrt.both("do", "--deadline", "0.2", "--", "sh", "-c", script, status=128 + 9)
    assert "deadline" in err
    assert asyncrt.left() == []


def test_it_has_no_network_unless_it_is_to_share_the_hosts(asyncrt: Asyncrt) -> None:
    inside = asyncrt("do", "--", "ls", "/sys/class/net").split()
    assert inside == ["lo"]
    shared = asyncrt("do", "--network", "--", "ls", "/sys/class/net").split()
    assert shared == sorted(os.listdir("/sys/class/net"))


def test_secrets_in_the_environment_stay_outside(asyncrt: Asyncrt) -> None:
    env = {"API_TOKEN": "secret", "LANG": "C.UTF-8"}
    found = asyncrt("do", "-e", "A=b", "--", "env", env=env).splitlines()
    assert {"A=b", "LANG=C.UTF-8", f"PATH={os.environ['PATH']}"} <= set(found)
    assert not any(line.startswith("API_TOKEN") for line in found)


def test_other_processes_are_out_of_sight_and_privileges_gone(asyncrt: Asyncrt) -> None:
    script = "echo /proc/[0-9]*; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; unshare -U true"
    out, err = asyncrt.both("do", "--", "sh", "-c", script, status=1)
    assert out.splitlines() == ["/proc/1 /proc/2", "NoNewPrivs:\t1", "Seccomp:\t2"]
    assert "Operation not permitted" in err


def test_on_a_terminal_it_has_one_whose_keys_reach_it(asyncrt: Asyncrt) -> None:
    ours, theirs = pty.openpty()
    file = os.fdopen(theirs)
    try:
        with asyncrt.start(
            *("do", "--", "sh", "-c", "tty; exec sleep 1000"), stdin=file, stdout=file
        ) as running:
            said = b""
            while b"\n" not in said:
                said += os.read(ours, 1000)
            os.write(ours, b"\x03")
            assert running.end()[0] == 128 + signal.SIGINT
    finally:
        file.close()
        os.close(ours)
    assert said.startswith(b"/dev/")


@pytest.mark.needs_userns
def test_an_ordinary_user_stays_who_it_is(ordinary_user: User, leak_check: LeakCheck) -> None:
    root = tempfile.mkdtemp(prefix="asyncrt-test-")
    leak_check.watch_root(root)
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    script = "id -u; id -g; grep CapEff /proc/self/status; cat /etc/shadow"
    done = asyncrt_as(ordinary_user, "--root", root, "do", "--", "sh", "-c", script)
    assert done.stdout.split() == [
        str(ordinary_user.uid),
        str(ordinary_user.gid),
        "CapEff:",
        "0" * 16,
    ]
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
