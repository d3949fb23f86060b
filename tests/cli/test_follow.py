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
    assert set(once["data"]) == {
        *("time", "pids", "threads", "user_seconds", "system_seconds", "rss_bytes"),
        *("read_bytes", "write_bytes"),
    }
    titles, row = asyncrt("events", "--stats", "web").splitlines()
    assert titles.split() == ["TIME", "CPU", "MEMORY", "PIDS", "THREADS", "READ", "WRITTEN"]
    assert re.fullmatch(r"\S+Z +- +[\d.]+[KMG] +1 +1 .*", row)
    with asyncrt.start("events", "--interval", "0.05", "we") as following:
        shares = [following.line().split()[1] for _ in range(3)]
        assert shares[:2] == ["CPU", "-"]
        assert shares[2].endswith("%")
        asyncrt.do("kill", "web", "KILL")
        code, _, err = following.end()
        assert (code, err) == (0, "")
    asyncrt.do("wait", "web")
    assert "it is stopped, and must be created" in asyncrt.fails("events", "web")
    asyncrt.do("delete", "web")
    assert "no container" in asyncrt.fails("events", "web")


def test_an_interval_of_nothing_isnt_understood(asyncrt: Asyncrt) -> None:
    assert "more than 0" in asyncrt.fails("events", "--interval", "0", "web", status=2)
