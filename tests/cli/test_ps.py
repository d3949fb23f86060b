"""asyncrt ps with options of ps(1): its output, of the container's processes only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Asyncrt

pytestmark = pytest.mark.needs_program("ps")


@pytest.fixture
def web(asyncrt: Asyncrt) -> Iterator[Asyncrt]:
    """The command, on a root with two containers that run."""
    asyncrt.detached("other", "sleep", "1001")
    asyncrt.detached("web", "sleep", "1002")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    asyncrt("exec", "--detach", "web", "--", "sleep", "1003", **quiet)
    yield asyncrt
    asyncrt.do("delete", "--force", "web")
    asyncrt.do("delete", "--force", "other")


def test_the_options_are_those_of_ps_and_the_processes_the_containers(web: Asyncrt) -> None:
    pids = {str(each["pid"]) for each in web.json("ps", "web", "--format", "json")}
    titles, *lines = web("ps", "web", "--", "-o", "pid,args").splitlines()
    assert titles.split() == ["PID", "COMMAND"]
    assert {each.split()[0] for each in lines} == pids
    assert sorted(each.split()[1:] for each in lines) == [["sleep", "1002"], ["sleep", "1003"]]
    # Options that show everything, in each of the ways that ps takes them.
    for options in (["--", "-ef"], ["aux"], ["--", "-eo", "ppid,pid,comm"]):
        titles, *lines = web("ps", "web", *options).splitlines()
        column = titles.split().index("PID")
        assert {each.split()[column] for each in lines} == pids, options


def test_what_ps_refuses_is_told_in_a_line(web: Asyncrt) -> None:
    assert web.fails("ps", "web", "--", "--no-such-option").startswith("asyncrt: ps: ")
    assert "no column PID" in web.fails("ps", "web", "--", "-eo", "args")
    said = web.fails("ps", "web", "-e", status=2)
    assert "Options of ps go at the end, after --" in said
    said = web.fails("ps", "--format", "json", "web", "--", "-ef", status=2)
    assert "not for --format json" in said


def test_a_missing_ps_is_told(web: Asyncrt) -> None:
    said = web.fails("ps", "web", "--", "-ef", env={"PATH": "/nowhere"})
    assert "ps isn't installed" in said
    assert "COMMAND" in web("ps", "web", env={"PATH": "/nowhere"})


def test_a_stopped_container_has_no_processes(asyncrt: Asyncrt) -> None:
    asyncrt("run", "--keep", "web", "--", "true")
    for options in ([], ["--", "-ef"]):
        assert "it is stopped" in asyncrt.fails("ps", "web", *options)
    asyncrt("delete", "web")


def _our_ps(directory: Path, script: str) -> dict[str, str]:
    """An environment in which ps is that script."""
    (directory / "ps").write_text(f"#!/bin/sh\n{script}\n")
    (directory / "ps").chmod(0o755)
    return {"PATH": f"{directory}:/usr/bin:/bin"}


def test_a_ps_that_knows_no_pids_will_do(web: Asyncrt, tmp_path: Path) -> None:
    """As busybox's: it shows everything, and what isn't the container's is left out."""
    script = 'for each; do [ "$each" != -p ] || exit 1; done; PATH=/usr/bin:/bin exec ps "$@"'
    out = web("ps", "web", "--", "-eo", "pid,args", env=_our_ps(tmp_path, script))
    assert sorted(each.split()[1] for each in out.splitlines()[1:]) == ["sleep", "sleep"]
