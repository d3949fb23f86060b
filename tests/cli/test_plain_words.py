"""What went wrong is told by what was typed: options, not places in a config; and what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asyncrt.cli.attached import tell_reason
from asyncrt.state import ExitResult
from tests.cli.command import Asyncrt
from tests.helpers.capabilities import User
from tests.helpers.processes import REPOSITORY, asyncrt_as

_ANNOTATIONS = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.sandbox-id": "another",
}


def _line(asyncrt: Asyncrt, wanted: int, *words: object) -> str:
    status, out, err = asyncrt.inside(*words)
    assert (status, out, err.count("\n")) == (wanted, "", 1), (words, err)
    assert "linux." not in err
    assert "process." not in err
    return err


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--memory", "abc", "expected bytes or a size like '256M', found 'abc'"),
        ("--memory", "-5", "found '-5'"),
        ("--pids", "0", "0 is not in the range"),
        ("--cpu", "0", "'0' is no number of CPUs above 0"),
        ("--cpu", "nan", "'nan' is no number"),
        ("--cpu", "inf", "'inf' is no number"),
        ("--cpu", "two", "'two' is no number"),
        ("--cwd", "here", "'here' isn't an absolute path; write --cwd \"$PWD/here\""),
        ("--cwd", ".", "'.' isn't an absolute path; write --cwd \"$PWD\""),
        ("--cwd", "./in/..", 'write --cwd "$PWD"'),
        ("--cwd", "../up", 'write --cwd "$PWD/../up"'),
        ("--rootfs", "/nowhere", "'/nowhere' does not exist"),
        ("--writable", "/nowhere", "'/nowhere' does not exist"),
    ],
)
def test_a_value_that_do_cant_take_is_told_by_its_option(
    asyncrt: Asyncrt, option: str, value: str, why: str
) -> None:
    line = _line(asyncrt, 2, "do", f"{option}={value}", "--", "true")
    assert f"{option}': " in line
    assert why in line
    assert asyncrt.left() == []


def test_who_is_unknown_or_where_cant_be_is_told_by_its_option(asyncrt: Asyncrt) -> None:
    asyncrt.detached("web", "sleep", "1000")
    for words in (["do"], ["run", "app"], ["create", "app"], ["exec", "web"]):
        line = _line(asyncrt, 1, words[0], "--user", "nobody-here", *words[1:], "--", "true")
        assert "invalid value for '--user': 'nobody-here': there is no such user" in line
        line = _line(asyncrt, 2, words[0], "--cwd", "here", *words[1:], "--", "true")
        assert "'--cwd': 'here' isn't an absolute path" in line
    asyncrt.do("delete", "--force", "web")
    assert asyncrt.left() == []


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (
            ExitResult(signal=9, reason="oom", oom_killed=True),
            "'web' was killed: it was out of memory",
        ),
        # The first process of a 'do' is a shell, which tells by its status of the program's end.
        (
            ExitResult(exit_code=137, reason="exit", oom_killed=True),
            "a process of 'web' was killed: out of memory",
        ),
        (ExitResult(exit_code=0, reason="exit", oom_killed=True), ""),
        (ExitResult(exit_code=137, reason="exit", oom_killed=False), ""),
        (ExitResult(signal=9, reason="signal"), ""),
    ],
)
def test_who_was_killed_for_want_of_memory_is_told(
    result: ExitResult, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_reason("web", result)
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == bool(said)


def test_what_cant_be_had_is_told_by_its_option_with_what_to_do(asyncrt: Asyncrt) -> None:
    """No spec is to be mended by who has written none."""
    asyncrt.detached("web", "sleep", "1000", options=["--no-log"])
    not_here = "it isn't to be had on the host platform, where this runs"
    cases: list[tuple[list[str], str]] = [
        (["run", "x", "--overlay", "memory"], "--overlay: a plain program has no root of its own"),
        (["exec", "web", "--apparmor", "x"], f"--apparmor: {not_here}"),
        (["exec", "web", "--process-label", "x"], f"--process-label: {not_here}"),
        (["exec", "web", "--cap", "CAP_NET_ADMIN"], f"--cap: {not_here}"),
        (["exec", "web", "--cap", "NET_ADMIN"], "'--cap': unknown capability 'NET_ADMIN'"),
        *((each, "'--cwd': '/nowhere': No such file") for each in _IN_NOWHERE),
    ]
    for words, said in cases:
        line = _line(asyncrt, 1, *words, "--", "true")
        assert said in line, words
        assert "spec" not in line, words
    for words in (["run", "x"], ["create", "x"], ["exec", "web"]):
        line = _line(asyncrt, 2, *words, "--console-socket", "/x", "--", "true")
        assert "--console-socket is for a terminal: give --tty as well" in line
    assert "create it with one (--tty), or with a log (--log)" in _line(asyncrt, 1, "attach", "web")
    for words, where in ((["do"], os.getcwd()), (["do", "--cwd", "/usr"], "/usr")):
        line = _line(asyncrt, 1, *words, "--", "./nowhere")
        assert f"no program './nowhere' to run; looked for in {where}" in line
    assert "; it isn't in PATH=" in _line(asyncrt, 1, "do", "--", "nowhere")
    asyncrt.do("stop", "web")
    assert "once: delete it and create it again" in _line(asyncrt, 1, "start", "web")
    asyncrt.do("delete", "web")
    assert asyncrt.left() == []


_IN_NOWHERE = (
    ["run", "x", "--cwd", "/nowhere"],
    ["run", "-d", "x", "--cwd", "/nowhere"],
    ["create", "x", "--cwd", "/nowhere"],
    ["exec", "web", "--cwd", "/nowhere"],
)


def test_host_makes_no_throw_away_sandbox_and_says_what_does(asyncrt: Asyncrt) -> None:
    line = asyncrt.fails("do", "--", "true", options=["--platform", "host"], status=2)
    assert "the host platform makes no sandbox; leave out --platform" in line


@pytest.mark.needs_root
@pytest.mark.needs_userns
def test_isolation_that_was_asked_for_and_isnt_there_is_told(
    asyncrt: Asyncrt, tmp_path: Path
) -> None:
    """A spec that names no namespaces is honoured by linux as it stands: by none."""
    config = {
        "ociVersion": "1.2.0",
        "process": {"args": ["true"], "cwd": "/", "env": ["PATH=/bin"]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    linux = ["--platform", "linux"]
    for words in (["run", "it", "--", "true"], ["run", "--bundle", tmp_path, "it"]):
        out, err = asyncrt.both(*words, options=linux)
        assert (out, err.count("\n")) == ("", 1)
        assert "warning: 'it' isn't isolated: its config names no namespaces" in err
        assert "'asyncrt do'" in err
        assert "'asyncrt spec'" in err
        # Who asks for none is told nothing, nor is who gets what was asked for.
        assert asyncrt.both(*words) == ("", "")
    assert asyncrt.both("do", "--", "true", options=linux) == ("", "")
    # What fails has one line.
    assert "/nowhere/config.json" in asyncrt.fails("run", "it", "-b", "/nowhere", options=linux)
    assert asyncrt.left() == []


@pytest.mark.needs_root
@pytest.mark.needs_cgroups
@pytest.mark.needs_userns
def test_a_plain_program_in_a_sandbox_with_namespaces_is_told_to_be_on_the_host(
    asyncrt: Asyncrt, tmp_path: Path
) -> None:
    """It looks as if it were inside; it is the host's root."""
    namespaces = [{"type": "pid"}, {"type": "uts"}]
    config = {
        "ociVersion": "1.2.0",
        "process": {"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin:/usr/bin"]},
        "linux": {"namespaces": namespaces},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert asyncrt.both("run", "-d", "--as-sandbox", "-b", tmp_path, "pod") == ("", "")
    for words, options in (
        (["run", "--sandbox", "pod", "job", "--", "true"], []),
        (["run", "--sandbox", "po", "job", "--", "true"], ["--platform", "linux"]),
        (["create", "--log", "--sandbox", "pod", "app", "--", "true"], []),
    ):
        _, err = asyncrt.both(*words, options=options)
        assert err.count("\n") == 1
        assert "isn't isolated: its config names no namespaces. In sandbox 'pod' a --bundle " in err
    # Who asks for none is told nothing, nor is who has some.
    assert asyncrt.both(
        *("run", "--sandbox", "pod", "job", "--", "true"), options=["--platform", "host"]
    ) == ("", "")
    assert asyncrt.both("create", "--log", "--sandbox", "pod", "-b", tmp_path, "inside") == ("", "")
    asyncrt.do("delete", "--force", "--sandbox", "pod")
    assert asyncrt.left() == []


@pytest.mark.needs_root
@pytest.mark.needs_cgroups
def test_a_place_in_a_sandbox_that_cant_be_is_told_by_its_option(
    asyncrt: Asyncrt, tmp_path: Path
) -> None:
    config = {
        "ociVersion": "1.2.0",
        "process": {"args": ["true"], "cwd": "/"},
        "annotations": _ANNOTATIONS,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    asyncrt.do("create", "--as-sandbox", "pod", "--", "/bin/sleep", "1000")
    for words in (["--as-sandbox", "other"], ["--sandbox", "pod", "app"]):
        status, _, err = asyncrt.inside("run", "--bundle", tmp_path, *words)
        assert (status, err.count("\n")) == (1, 1)
        assert err.startswith(f"asyncrt: {words[0]}: {tmp_path}/config.json: ")
        assert "leave the annotation out" in err
    asyncrt.do("delete", "--force", "--sandbox", "pod")
    assert asyncrt.left() == []


@pytest.mark.needs_root
def test_a_sandbox_that_a_user_cant_have_is_told_by_its_option(
    ordinary_user: User, open_directory: Path
) -> None:
    os.chown(open_directory, ordinary_user.uid, ordinary_user.gid)
    words = ("--root", str(open_directory / "root"), "run", "--as-sandbox", "pod", "--", "true")
    done = asyncrt_as(ordinary_user, *words)
    if done.returncode == 0:  # where cgroups are delegated to it
        return
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("asyncrt: --as-sandbox: the host platform can't: ")
    assert "annotations[" not in done.stderr


_NOT_CREATING = [
    *(["list"], ["list", "-q"], ["prune"], ["gc"], ["watch"], ["metrics"]),
    *(["events"], ["events", "--stats"], ["events", "web"], ["state", "web"], ["ps", "web"]),
    *(["logs", "web"], ["export", "web"], ["wait", "web"], ["kill", "web"], ["stop", "web"]),
    *(["start", "web"], ["pause", "web"], ["resume", "web"], ["delete", "web"]),
    *(["attach", "web"], ["exec", "web", "--", "true"], ["update", "--memory", "64M", "web"]),
]


def test_a_mistyped_root_is_told_and_not_made(tmp_path: Path) -> None:
    """An empty list would be the answer to another question."""
    asyncrt = Asyncrt(str(tmp_path / "rot"))
    for words in _NOT_CREATING:
        status, out, err = asyncrt.inside(*words)
        assert (status, out, err.count("\n")) == (1, "", 1), words
        assert f"there is no root directory {tmp_path}/rot, and none was made" in err
    # As elsewhere what is missing is fine by force, and an id that can't be isn't.
    assert asyncrt.inside("delete", "--force", "web") == (0, "", "")
    assert asyncrt.inside("delete", "--force", "--sandbox", "web") == (0, "", "")
    assert asyncrt.inside("delete", "--force", "a b")[0] == 1
    assert os.listdir(tmp_path) == []
    asyncrt.do("run", "web", "--", "/bin/true")
    assert asyncrt.do("list", "-q") == ""


def test_a_default_root_that_isnt_there_yet_is_an_empty_list(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asyncrt", "list", "-q"],
        env={**os.environ, "PYTHONPATH": REPOSITORY, "ASYNCRT_ROOT": str(tmp_path / "root")},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
