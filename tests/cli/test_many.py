"""One command, several containers: a result for each, and a status that says whether all went well."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.cli.command import Asyncrt


def _sleepers(asyncrt: Asyncrt, *ids: str) -> None:
    for id in ids:
        asyncrt.detached(id, "sleep", "1000")


def test_a_missing_one_is_told_and_the_others_are_killed(asyncrt: Asyncrt) -> None:
    _sleepers(asyncrt, "a", "b", "c")
    status, out, err = asyncrt.inside("kill", "a", "missing", "b", "c", "KILL")
    assert (status, out) == (1, "")
    assert err.startswith("asyncrt: no container 'missing'")
    assert err.count("\n") == 1
    assert asyncrt.do("wait", "a") == "137\n"
    assert asyncrt.do("wait", "b") == "137\n"
    status, _, err = asyncrt.inside("kill", "--all", "c", "a", "nobody")
    assert (status, err.count("\n")) == (1, 1)
    asyncrt.do("delete", "--force", "a", "b", "c")
    assert asyncrt.left() == []


def test_ids_and_signals_are_told_apart(asyncrt: Asyncrt) -> None:
    _sleepers(asyncrt, "web", "int")
    # Two words, the second unknown: a misspelt signal, most likely, must not become a TERM.
    status, _, err = asyncrt.inside("kill", "web", "hpu")
    assert (status, err) == (
        1,
        f"asyncrt: there is no signal and no container 'hpu' in {asyncrt.root}; nothing was sent\n",
    )
    for meant in ("HPU", "sigfoo", "99"):
        status, _, err = asyncrt.inside("kill", "web", "int", meant)
        assert (status, err.count("\n")) == (1, 1)
        assert "there is no signal" in err
        assert meant in err
    assert {view["status"] for view in asyncrt.views().values()} == {"running"}
    # A container whose id is a signal's name: the last word is the signal, unless --signal says it.
    asyncrt.do("kill", "web", "int")
    assert asyncrt.do("wait", "web") == f"{128 + signal.SIGINT}\n"
    assert asyncrt.views()["int"]["status"] == "running"
    asyncrt.do("kill", "-s", "9", "int")
    assert asyncrt.do("wait", "int") == "137\n"
    asyncrt.do("delete", "web", "int")


def test_a_process_is_of_one_container(asyncrt: Asyncrt) -> None:
    status, _, err = asyncrt.inside("kill", "--pid", "1", "a", "b")
    assert (status, err) == (
        2,
        "asyncrt: kill: --pid and --pgid are for one container; see 'asyncrt kill --help'\n",
    )


def test_several_are_started_stopped_and_deleted(asyncrt: Asyncrt) -> None:
    for id in ("a", "b"):
        asyncrt.do("create", id, "--", "sleep", "1000")
    status, _, err = asyncrt.inside("start", "a", "nobody", "b")
    assert (status, err.count("\n")) == (1, 1)
    assert {view["status"] for view in asyncrt.views().values()} == {"running"}
    asyncrt.do("stop", "a", "b")
    assert asyncrt.do("wait", "a", "b").split("\n") == ["a 143", "b 143", ""]
    asyncrt.do("delete", "a", "b")
    assert asyncrt.left() == []


def test_a_list_can_be_of_some(asyncrt: Asyncrt, tmp_path: Path) -> None:
    config = {
        "ociVersion": "1.2.0",
        "process": {"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin:/usr/bin"]},
        "annotations": {"team": "blue", "empty": ""},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    asyncrt.do("create", "--bundle", tmp_path, "one")
    asyncrt.do("create", "two", "--", "true")
    asyncrt.detached("three", "sleep", "1000")

    def ids(*options: str) -> list[str]:
        return asyncrt.do("list", "-q", *options).split()

    assert ids("--status", "created") == ["one", "two"]
    assert ids("--status", "running", "--status", "stopped") == ["three"]
    assert ids("--sandbox", "two") == ["two"]
    assert ids("--annotation", "team") == ["one"]
    assert ids("--annotation", "team=red") == []
    assert ids("--annotation", "team=blue", "--annotation", "empty=") == ["one"]
    assert ids("--annotation", "team=blue", "--status", "running") == []
    status, _, err = asyncrt.inside("list", "--status", "runing")
    assert (status, err.count("\n")) == (2, 1)
    asyncrt.do("delete", "--force", "one", "two", "three")
