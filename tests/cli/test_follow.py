"""watch and events, as people and programs follow them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess

import pytest

from tests.cli.command import Asyncrt
from tests.helpers.events import append_line


def test_a_watch_shows_a_table_that_grows_and_ends_by_ctrl_c(asyncrt: Asyncrt) -> None:
    with asyncrt.start("watch") as watch:
        assert watch.line().split() == ["TIME", "ID", "STATUS", "BEFORE", "BY", "EXIT"]
        program = ("sh", "-c", "read x; exit 3")
        with asyncrt.start("run", "web", "--", *program, stdin=subprocess.PIPE) as running:
            rows = [watch.line().split()[1:] for _ in range(3)]  # told to run before it has ended
            assert running.end()[0] == 3
        rows += [watch.line().split()[1:] for _ in range(2)]
        assert rows == [
            ["web", "creating", "-", "create", "-"],
            ["web", "created", "creating", "create", "-"],
            ["web", "running", "created", "start", "-"],
            ["web", "stopped", "running", "exit", "3"],
            ["web", "destroyed", "stopped", "destroy", "-"],
        ]
        watch.signal(signal.SIGINT)
        assert watch.end() == (128 + signal.SIGINT, "", "")


def test_a_watch_as_json_can_be_resumed_and_filtered(asyncrt: Asyncrt) -> None:
    asyncrt.detached("web", "sleep", "1000")
    asyncrt.do("stop", "web")
    asyncrt.do("delete", "web")
    with asyncrt.start("watch", "--format", "json", "--after", "oldest") as watch:
        events = [json.loads(watch.line()) for _ in range(5)]
    assert [each["status"] for each in events][-2:] == ["stopped", "destroyed"]
    assert list(events[0]) == [
        *("id", "instance", "sandbox", "revision", "time", "operation", "previous", "status"),
        *("exit", "position"),
    ]
    assert events[3]["exit"]["status_code"] == 128 + signal.SIGTERM
    after = events[2]["position"]
    with asyncrt.start("watch", "--format", "json", "--after", after) as watch:
        assert [json.loads(watch.line()) for _ in range(2)] == events[3:]
    arguments = ("--status", "stopped", "--status", "created", "web")
    with asyncrt.start("watch", "--format", "json", "--after", "oldest", *arguments) as watch:
        assert [json.loads(watch.line()) for _ in range(2)] == [events[1], events[3]]


def test_a_watch_colours_statuses_on_a_terminal_and_lets_no_text_move_the_cursor(
    asyncrt: Asyncrt,
) -> None:
    append_line(asyncrt.root, "web", 1, operation="\x1b[2J")
    master, slave = pty.openpty()
    argv = asyncrt.argv("watch", "--after", "oldest")
    with subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave) as watch:
        os.close(slave)
        shown = b""
        while shown.count(b"\n") < 2:
            shown += os.read(master, 4096)
        watch.send_signal(signal.SIGINT)
    os.close(master)
    assert b"\x1b[32mrunning" in shown
    assert b"\x1b[2J" not in shown
    assert rb"\x1b[2J" in shown


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["--after", "garbage"], 1, "invalid position 'garbage'"),
        (["--after", "0123456789ab:5"], 1, "events that followed position 0123456789ab:5 are gone"),
        (["--status", "flying"], 2, "'flying' is not one of"),
        (["a/b"], 1, "invalid container id"),
    ],
)
def test_what_a_watch_cant_begin_with_is_one_line(
    asyncrt: Asyncrt, arguments: list[str], status: int, why: str
) -> None:
    assert why in asyncrt.fails("watch", *arguments, status=status)


def test_a_watch_whose_reader_goes_ends_quietly(asyncrt: Asyncrt) -> None:
    with asyncrt.start("watch", "--format", "json", "--after", "oldest") as watch:
        append_line(asyncrt.root, "web")
        watch.line()
        watch.stdout.close()
        append_line(asyncrt.root, "web", 2)
        assert watch._popen.wait(20) == 128 + signal.SIGPIPE


def test_stats_once_and_by_interval_until_it_ends(asyncrt: Asyncrt) -> None:
    asyncrt.detached("web", "sleep", "1000")
    once = asyncrt.json("events", "--stats", "--format", "json", "web")
    assert (once["type"], once["id"], once["data"]["pids"]) == ("stats", "web", 1)
    assert len(once["instance"]) == 32
    assert set(once["data"]) == {
        *("time", "pids", "threads", "user_seconds", "system_seconds", "rss_bytes"),
        *("read_bytes", "write_bytes", "cgroup"),
    }
    titles, row = asyncrt("events", "--stats", "web").splitlines()
    assert titles.split() == [
        *("TIME", "ID", "CPU", "MEMORY", "LIMIT", "PIDS", "THREADS", "READ", "WRITTEN")
    ]
    assert re.fullmatch(r"\S+Z +web +- +[\d.]+[KMG] +- +1 +1 .*", row)
    with asyncrt.start("events", "--interval", "0.05", "we") as following:
        shares = [following.line().split()[2] for _ in range(3)]
        assert shares[:2] == ["CPU", "-"]
        assert shares[2].endswith("%")
        asyncrt.do("kill", "web", "KILL")
        code, out, err = following.end()
        assert (code, err) == (0, "")
        assert out.splitlines()[-1].endswith(
            "web                       running -> stopped (exit): SIGKILL"
        )
    asyncrt.do("wait", "web")
    assert "it is stopped, and must be created" in asyncrt.fails("events", "web")
    asyncrt.do("delete", "web")
    assert "no container" in asyncrt.fails("events", "web")


def test_events_of_several_as_json_lines_until_the_last_has_ended(asyncrt: Asyncrt) -> None:
    for id in ("web", "db"):
        asyncrt.detached(id, "sleep", "1000")
    arguments = ("--interval", "3600", "--format", "json", "web", "db")
    with asyncrt.start("events", *arguments) as following:
        first = [json.loads(following.line()) for _ in range(2)]
        assert [(each["type"], each["id"]) for each in first] == [("stats", "web"), ("stats", "db")]
        asyncrt.do("pause", "web")
        paused = json.loads(following.line())
        assert (paused["type"], paused["id"]) == ("lifecycle", "web")
        assert (paused["data"]["previous"], paused["data"]["status"]) == ("running", "paused")
        assert paused["instance"] == first[0]["instance"]
        asyncrt.do("kill", "--signal", "KILL", "db", "web")
        code, out, err = following.end()
        assert (code, err) == (0, "")
    ends = {each["id"]: each["data"] for each in map(json.loads, out.splitlines())}
    assert {id: each["exit"]["signal"] for id, each in ends.items()} == {"web": 9, "db": 9}
    asyncrt.do("delete", "web", "db")


def test_without_ids_all_are_followed_and_shown(asyncrt: Asyncrt) -> None:
    assert asyncrt("events", "--stats") == ""
    asyncrt.detached("web", "sleep", "1000")
    asyncrt.do("create", "db", "--", "sleep", "1000")
    lines = asyncrt("events", "--stats").splitlines()
    assert [each.split()[1] for each in lines[1:]] == ["db", "web"]
    with asyncrt.start("events", "--interval", "3600") as following:
        assert {following.line().split()[1] for _ in range(3)} == {"ID", "db", "web"}
        asyncrt.do("start", "db")
        assert following.line().endswith("db                        created -> running (start)")
        following.signal(signal.SIGINT)
        assert following.end() == (128 + signal.SIGINT, "", "")
    asyncrt.do("delete", "--force", "web", "db")


def test_an_interval_of_nothing_isnt_understood(asyncrt: Asyncrt) -> None:
    assert "more than 0" in asyncrt.fails("events", "--interval", "0", "web", status=2)
