"""Several containers in a sandbox from the command line."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cli.command import Asyncrt

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroups]


def _pod(asyncrt: Asyncrt, *ids: str) -> None:
    asyncrt.do("run", "--detach", "--as-sandbox", "pod", "--", "/bin/sleep", "1000")
    for each in ids:
        asyncrt.do("run", "--detach", "--sandbox", "pod", each, "--", "/bin/sleep", "1000")


def test_one_is_run_in_a_sandbox_and_its_status_is_the_commands(asyncrt: Asyncrt) -> None:
    _pod(asyncrt)
    status, _, err = asyncrt.inside(
        "run", "--sandbox", "pod", "app", "--", "/bin/sh", "-c", "echo out; exit 7"
    )
    assert (status, err) == (7, "")
    assert asyncrt.do("list", "-q") == "pod\n"
    asyncrt.do("create", "--sandbox", "po", "app", "--", "/bin/sleep", "1000")
    listed = asyncrt.do("list").splitlines()
    assert listed[0].split()[:3] == ["ID", "SANDBOX", "STATUS"]
    assert [line.split()[:3] for line in listed[1:]] == [
        ["app", "pod", "created"],
        ["pod", "pod", "running"],
    ]
    assert asyncrt.do("list", "-q", "--sandbox", "pod") == "app\npod\n"
    assert len(json.loads(asyncrt.do("ps", "--format", "json", "app"))) == 1
    asyncrt.do("delete", "--force", "--sandbox", "pod")
    assert asyncrt.left() == []


def test_all_of_a_sandbox_are_acted_on_the_root_last(asyncrt: Asyncrt) -> None:
    _pod(asyncrt, "one", "two")
    asyncrt.do("pause", "--sandbox", "pod")
    assert {view["status"] for view in asyncrt.views().values()} == {"paused"}
    asyncrt.do("resume", "--sandbox", "pod")
    asyncrt.do("stop", "--sandbox", "pod", "--grace", "20")
    ends = {id: view["exit"]["signal"] for id, view in asyncrt.views().items()}
    assert ends == dict.fromkeys(("one", "pod", "two"), int(signal.SIGTERM))
    asyncrt.do("delete", "--sandbox", "pod")
    assert asyncrt.left() == []
    _pod(asyncrt, "one")
    asyncrt.do("kill", "--sandbox", "pod", "KILL")
    assert asyncrt.do("wait", "one") == "137\n"
    asyncrt.do("delete", "--sandbox", "pod")
    assert asyncrt.left() == []


def test_deleting_the_root_by_force_stops_the_others(asyncrt: Asyncrt) -> None:
    _pod(asyncrt, "one")
    asyncrt.do("delete", "--force", "pod")
    (view,) = asyncrt.views().values()
    assert (view["id"], view["status"], view["exit"]["reason"]) == (
        "one",
        "stopped",
        "sandbox ended",
    )
    asyncrt.do("delete", "one")
    assert asyncrt.left() == []


def test_what_makes_no_sense_is_told_in_a_line(asyncrt: Asyncrt) -> None:
    for words, why in (
        (("run", "--sandbox", "a", "--as-sandbox", "b", "--", "true"), "exclude each other"),
        (("create", "--share-pid", "b", "--", "true"), "is for a container created with --sandbox"),
        (("stop",), "missing argument 'ID...', or --sandbox"),
        (("kill", "--sandbox", "pod", "--pid", "7"), "--pid and --pgid are for one container"),
    ):
        status, out, err = asyncrt.inside(*words)
        assert (status, out, err.count("\n")) == (2, "", 1), words
        assert why in err
    status, _, err = asyncrt.inside("run", "--sandbox", "nobody", "app", "--", "true")
    assert (status, err.count("\n")) == (1, 1)
    assert "no container 'nobody'" in err
    asyncrt.do("delete", "--force", "--sandbox", "nobody")
