"""logs, and where the output of run and create goes."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.cli.command import Asyncrt, at_once


def test_detached_output_is_kept_and_shown_by_logs(asyncrt: Asyncrt) -> None:
    asyncrt.detached("web", "sh", "-c", "echo one; echo bad >&2; printf end")
    asyncrt("wait", "web")
    assert asyncrt.both("logs", "web") == ("one\nend", "bad\n")
    assert asyncrt.both("logs", "-f", "-n", "1", "--stream", "stdout", "web") == ("end", "")
    stamped = asyncrt("logs", "--timestamps", "--since", "1h", "--stream", "stdout", "web")
    assert [each.split(" ", 1)[1] for each in stamped.splitlines()] == ["one", "end"]
    assert asyncrt("logs", "--since", "2100-01-01", "web") == ""
    asyncrt.do("delete", "web")


def test_logs_follow_until_the_end(asyncrt: Asyncrt) -> None:
    asyncrt.detached("web", "sh", "-c", "trap 'echo bye; exit' TERM; echo one; sleep 1000 & wait")
    with asyncrt.start("logs", "-f", "web") as following:
        assert following.line() == "one"
        asyncrt.do("kill", "web")
        assert following.line() == "bye"
        assert following.end() == (0, "", "")
    asyncrt.do("delete", "web")


def test_a_follower_is_ended_by_a_signal_and_the_container_is_not(asyncrt: Asyncrt) -> None:
    asyncrt.detached("web", "sh", "-c", "echo one; sleep 1000")
    with asyncrt.start("logs", "-f", "web") as following:
        assert following.line() == "one"
        following.signal(signal.SIGINT)
        assert following.end() == (130, "", "")
    assert asyncrt.views()["web"]["status"] == "running"
    asyncrt.do("delete", "--force", "web")


def test_attached_output_can_be_shown_and_kept(asyncrt: Asyncrt) -> None:
    program = ("sh", "-c", "echo out; echo err >&2; exit 3")
    assert asyncrt.both("run", "--log", "--keep", "web", "--", *program, status=3) == (
        "out\n",
        "err\n",
    )
    assert asyncrt.both("logs", "web") == ("out\n", "err\n")
    asyncrt.do("delete", "web")


def test_an_attached_run_whose_reader_goes_ends_and_leaves_nothing(asyncrt: Asyncrt) -> None:
    with asyncrt.start("run", "--log", "web", "--", "sh", "-c", "echo one; yes") as running:
        assert running.line() == "one"
        running.stdout.close()
        running._popen.stdout = None
        assert running.end() == (128 + signal.SIGPIPE, "", "")
    assert asyncrt.left() == []


def test_log_options_bound_what_is_kept(asyncrt: Asyncrt) -> None:
    options = ("max-size=1k", "max-file=2", "timestamps=false")
    given = [word for each in options for word in ("--log-opt", each)]
    asyncrt("run", "--keep", *given, "web", "--", "seq", "1", "1000")
    kept = asyncrt("logs", "web").splitlines()
    assert kept[-1] == "1000"
    assert 200 < len(kept) < 600
    assert "timestamps" in asyncrt.fails("logs", "--since", "1m", "web")
    asyncrt.do("delete", "web")


def test_output_of_a_detached_run_may_go_where_the_commands_goes(asyncrt: Asyncrt) -> None:
    out = asyncrt(
        "run", "--detach", "--no-log", "web", "--", "echo", "here", stderr=subprocess.PIPE
    )
    assert out == "here\n"
    assert "doesn't go to a log" in asyncrt.fails("logs", "web")
    asyncrt.do("delete", "--force", "web")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("logs", "--since", "yesterday", "x"), "is no time"),
        (("logs", "--tail", "-1", "x"), "no number of lines"),
        (("run", "--log-opt", "max-size=0", "x", "--", "true"), "no value for max-size"),
        (("run", "--log-opt", "size=1", "x", "--", "true"), "none of max-size"),
        (("run", "--no-log", "--log-opt", "max-file=1", "x", "--", "true"), "--no-log"),
    ],
)
def test_what_makes_no_sense_is_one_line(asyncrt: Asyncrt, args: tuple[str, ...], why: str) -> None:
    status, out, err = asyncrt.inside(*args)
    assert (status, out) == (2, "")
    assert why in err
    assert err.count("\n") == 1


def test_logs_of_nothing_are_an_error(asyncrt: Asyncrt) -> None:
    (line,) = at_once(asyncrt, [(1, ("logs", "web"))])
    assert "no container 'web'" in line
