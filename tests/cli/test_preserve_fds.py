"""--preserve-fds of create, run and exec: descriptors 3 to 2 + N, and never one of ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import Asyncrt
from tests.helpers.processes import REPOSITORY

SAY = 'for i in $(seq 0 40); do [ -e /proc/$$/fd/$i ] && list="$list $i"; done; echo $list >&3'
PROGRAM = ("--", "/bin/sh", "-c", SAY)


def opened(
    asyncrt: Asyncrt, path: Path, *args: str, redirections: str = '3>>"$0" 4>>"$0"'
) -> subprocess.CompletedProcess[str]:
    """The command, which a shell has given these descriptors, open on the file."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirections}', str(path), *asyncrt.argv(*args)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": REPOSITORY},
    )


def test_what_the_shell_has_opened_is_the_programs(asyncrt: Asyncrt, tmp_path: Path) -> None:
    said = tmp_path / "said"
    done = opened(asyncrt, said, "run", "web", "--preserve-fds", "2", *PROGRAM)
    assert (done.returncode, done.stderr) == (0, "")
    assert said.read_text() == "0 1 2 3 4\n"
    done = opened(asyncrt, said, "run", "web", "--preserve-fds=1", *PROGRAM)
    assert said.read_text() == "0 1 2 3 4\n0 1 2 3\n"
    assert asyncrt.left() == []


def test_without_it_nothing_is(asyncrt: Asyncrt, tmp_path: Path) -> None:
    """HAZARDS 41."""
    said = tmp_path / "said"
    done = opened(asyncrt, said, "run", "web", *PROGRAM)
    assert done.returncode == 2  # sh: 3 is no descriptor
    assert said.read_text() == ""


def test_create_and_exec_pass_them_too(asyncrt: Asyncrt, tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = f"{SAY}; exec sleep 1000"
    done = opened(
        asyncrt, said, "create", "web", "--log", "--preserve-fds=1", "--", "/bin/sh", "-c", script
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = opened(asyncrt, said, "exec", "web", "--preserve-fds", "2", *PROGRAM)
    assert (done.returncode, done.stderr) == (0, "")
    assert said.read_text() == "0 1 2 3 4\n"
    said.write_text("")
    done = opened(asyncrt, said, "exec", "--tty", "web", "--preserve-fds", "2", *PROGRAM)
    assert (done.returncode, done.stderr) == (0, "")
    assert said.read_text() == "0 1 2 3 4\n"
    asyncrt("delete", "--force", "web")


@pytest.mark.parametrize("command", ["create", "run", "exec"])
def test_one_that_is_not_open_is_an_error_and_not_one_of_our_own(
    asyncrt: Asyncrt, tmp_path: Path, command: str
) -> None:
    said = tmp_path / "said"
    done = opened(
        asyncrt, said, command, "web", "--preserve-fds", "3", *PROGRAM, redirections='3>>"$0"'
    )
    assert done.returncode == 2
    assert "--preserve-fds 3 passes descriptors 3 to 5, and 4 isn't open" in done.stderr
    assert said.read_text() == ""
    assert asyncrt.left() == []


@pytest.mark.parametrize("count", ["-1", "x", "249", ""])
def test_a_count_that_is_none_is_a_usage_error(asyncrt: Asyncrt, count: str) -> None:
    asyncrt("run", "web", "--preserve-fds", count, "--", "true", status=2)
