"""Which lines of ps(1) tell of a container's processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asyncrt.cli import ps
from asyncrt.cli.errors import CommandFailedError
from asyncrt.cli.ps import select
from tests.helpers.containers import SECONDS, Fifo, is_alive

FULL = """\
UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 10:00 ?        00:00:01 init
root          12       1  0 10:00 ?        00:00:00 sh -c 1 12 112
root         112      12  0 10:00 ?        00:00:00 PID - 12
"""


def test_it_is_by_whole_pids_in_the_column_of_that_name() -> None:
    titles, _, second, third = FULL.splitlines()
    assert select(FULL, {12}).splitlines() == [titles, second]
    assert select(FULL, {112, 12}).splitlines() == [titles, second, third]
    assert select(FULL, set()).splitlines() == [titles]


def test_threads_on_lines_of_their_own_go_with_their_process() -> None:
    text = "  PID COMMAND\n    1 one\n    - -\n    2 two\n    - -\n    - -\n"
    assert select(text, {2}) == "  PID COMMAND\n    2 two\n    - -\n    - -\n"
    assert select(text, {1}) == "  PID COMMAND\n    1 one\n    - -\n"


def test_titles_that_come_again_stay() -> None:
    text = "PID A\n1 x\n\nPID A\n2 y\n"
    assert select(text, {2}) == "PID A\nPID A\n2 y\n"


def test_what_would_move_the_cursor_is_escaped() -> None:
    assert select("PID A\n1 \x1b[2J\x85\n", {1}) == "PID A\n1 \\x1b[2J\\x85\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("COMMAND\nsh\n", "no column PID"),
        ("", "no column PID"),
        ("PPID\n1\n", "no column PID"),
        ("COMMAND PID\nsh -c 1\n", "spaces before PID"),
        ("COMMAND PID\nsh\n", "spaces before PID"),
    ],
)
def test_what_cannot_be_told_apart_is_an_error_that_says_what_to_do(text: str, why: str) -> None:
    with pytest.raises(CommandFailedError, match=why):
        select(text, {1})


@pytest.mark.parametrize("ticks", [0, 1, 2, 5, 50])
async def test_cancelled_it_leaves_no_ps_behind(tmp_path: Path, ticks: int) -> None:
    with Fifo(tmp_path / "began") as began:
        script = 'echo $$ >"$0"; exec sleep 1000'
        running = asyncio.ensure_future(ps._run("/bin/sh", "-c", script, began.path))
        pid = int(await began.line())
        for _ in range(ticks):
            await asyncio.sleep(0)
        running.cancel()
        async with asyncio.timeout(SECONDS):
            with pytest.raises(asyncio.CancelledError):
                await running
        assert not is_alive(pid)
