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
    for each in ("one", "pod"):
        assert asyncrt.do("wait", each) == "137\n"
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
        (("events", "--sandbox", "pod", "app"), "give IDs or --sandbox, not both"),
        (("events", "--stats", "--interval", "3"), "not together with --interval"),
        (("stop",), "missing argument 'ID...', or --sandbox"),
        (("kill", "--sandbox", "pod", "--pid", "7"), "--pid and --pgid are for one container"),
    ):
        status, out, err = asyncrt.inside(*words)
        assert (status, out, err.count("\n")) == (2, "", 1), words
        assert why in err
    status, _, err = asyncrt.inside("run", "--sandbox", "nobody", "app", "--", "true")
    assert (status, err.count("\n")) == (1, 1)
    assert "there is no sandbox 'nobody'" in err
    asyncrt.do("delete", "--force", "--sandbox", "nobody")


_FILTERS = (("list",), ("list", "-q"), ("prune",), ("events", "--stats"))
_VERBS = (
    ("events",),
    ("kill",),
    ("stop",),
    ("start",),
    ("pause",),
    ("resume",),
    ("delete",),
)


def test_a_mistyped_sandbox_is_told_and_not_taken_for_an_empty_one(asyncrt: Asyncrt) -> None:
    _pod(asyncrt, "app")
    asyncrt.do("create", "plain", "--", "/bin/sleep", "1000")
    for words in (*_FILTERS, *_VERBS, ("delete", "--force")):
        for name, why in (
            ("nosuch", "there is no sandbox 'nosuch' in "),
            ("plain", "'plain' is a container by itself, and no sandbox"),
            ("app", "'app' is a container in sandbox 'pod', and no sandbox"),
            ("a b", "invalid container id 'a b'"),
        ):
            status, out, err = asyncrt.inside(*words, "--sandbox", name)
            if words[-1] == "--force" and name == "nosuch":
                assert (status, out, err) == (0, "", "")  # as of an id that is missing
                continue
            if words in _FILTERS and name == "plain":
                assert (status, err) == (0, "")  # a sandbox of one, as its view says
                continue
            assert (status, out, err.count("\n")) == (1, "", 1), (words, name)
            assert why in err
    # By force only whole: the one that was meant may be gone, and this be its longer namesake.
    asyncrt.do("delete", "--force", "--sandbox", "po")
    assert sorted(asyncrt.views()) == ["app", "plain", "pod"]
    asyncrt.do("delete", "--force", "pod", "plain")
    # Those of a root that is gone are found, to be cleared away.
    assert asyncrt.do("list", "-q", "--sandbox", "pod") == "app\n"
    assert asyncrt.do("prune", "--sandbox", "pod") == "app\n"
    assert asyncrt.left() == []


def test_a_broken_root_hides_none_of_its_sandbox(asyncrt: Asyncrt) -> None:
    _pod(asyncrt, "app")
    with open(f"{asyncrt.root}/pod.state", "w") as state:
        state.write("{")
    status, out, _ = asyncrt.inside("list", "-q", "--sandbox", "pod")
    assert (status, out) == (0, "app\n")
    asyncrt.do("delete", "--force", "app", "pod")
    assert asyncrt.left() == []


def test_events_of_a_sandbox_end_with_it(asyncrt: Asyncrt) -> None:
    _pod(asyncrt, "app")
    asyncrt.do("run", "--detach", "other", "--", "/bin/sleep", "1000")
    once = asyncrt.do("events", "--stats", "--sandbox", "po", "--format", "json")
    assert [json.loads(line)["id"] for line in once.splitlines()] == ["app", "pod"]
    words = ("events", "--sandbox", "po", "--interval", "3600", "--format", "json")
    with asyncrt.start(*words) as following:
        first = {json.loads(following.line())["id"] for _ in range(2)}
        asyncrt.do("kill", "other", "KILL")
        asyncrt.do("kill", "--sandbox", "pod", "KILL")
        status, out, err = following.end()
    assert (first, status, err) == ({"app", "pod"}, 0, "")
    told = [json.loads(line) for line in out.splitlines()]
    assert {(each["id"], each["data"]["status"]) for each in told} == {
        ("app", "stopped"),
        ("pod", "stopped"),
    }
    asyncrt.do("delete", "--sandbox", "pod")
    asyncrt.do("delete", "--force", "other")
    assert asyncrt.left() == []


def test_who_has_ended_in_a_sandbox_is_passed_over_and_told_of_if_named(asyncrt: Asyncrt) -> None:
    """A pod with a job that is done can be paused, started and stopped like any other."""
    _pod(asyncrt, "app")
    asyncrt.do("run", "--keep", "--sandbox", "pod", "done", "--", "/bin/true")
    for verb in ("pause", "pause", "resume", "resume", "start", "stop", "kill", "stop"):
        assert asyncrt.inside(verb, "--sandbox", "pod") == (0, "", ""), verb
    assert asyncrt.do("list", "-q", "--status", "stopped") == "app\ndone\npod\n"
    status, out, err = asyncrt.inside("stop", "--sandbox", "pod", "done")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("asyncrt: can't stop container 'done': it is stopped")
    asyncrt.do("delete", "--sandbox", "pod")
