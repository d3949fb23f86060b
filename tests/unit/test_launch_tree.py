"""Trees of processes by /proc: who belongs, and signals to exactly those."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from asyncrt import _procid
from asyncrt.launch import tree
from tests.helpers.processes import wait_gone, wait_until

SCRIPT = "sleep 1000 & (setsid sh -c 'sleep 1000 & echo up; wait') & echo up; wait"


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """A shell with a child, and a child in a session of its own that has a child itself."""
    # In a session of its own: the kernel hangs up an orphaned process group when one of its members
    # ends while another is stopped (setpgid(2)), and ours would be that group.
    with subprocess.Popen(
        ["/bin/sh", "-c", SCRIPT], stdout=subprocess.PIPE, start_new_session=True
    ) as top:
        assert top.stdout is not None
        assert [top.stdout.readline() for _ in range(2)] == [b"up\n", b"up\n"]
        wait_until(lambda: len(tree.descendants(top.pid)) >= 3, "all are there")
        yield top
        everybody = tree.descendants(top.pid)
        for pid in (*everybody, top.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in everybody:
            wait_gone(pid)


def states(pids: list[int]) -> set[str]:
    found = set()
    for pid in pids:
        each = _procid.stat(pid)
        if each is not None:
            found.add(each.state)
    return found


def test_descendants_are_all_below_and_parents_come_first(
    family: subprocess.Popen[bytes],
) -> None:
    found = tree.descendants(family.pid)
    assert family.pid not in found
    assert sorted(found) == sorted(tree._descendants_by_table(family.pid))
    place = {pid: index for index, pid in enumerate(found)}
    for pid in found:
        stat = _procid.stat(pid)
        assert stat is not None
        assert stat.ppid == family.pid or place[stat.ppid] < place[pid]
        assert tree.is_below(pid, family.pid)
        assert not tree.is_below(family.pid, pid)


def test_who_is_gone_or_nobody_has_no_descendants() -> None:
    assert tree.descendants(2**22 + 1) == []
    assert not tree.is_below(2**22 + 1, 1)
    assert not tree.is_below(1, os.getpid())


def test_stop_and_resume_reach_all_but_the_root(family: subprocess.Popen[bytes]) -> None:
    below = tree.descendants(family.pid)
    tree.pause(family.pid)
    wait_until(lambda: states(below) == {"T"}, "all stand still")  # pause waits for a bounded time
    assert "T" not in states([family.pid])
    tree.resume(family.pid)
    wait_until(lambda: states(below) == {"S"}, "all go on")


def test_only_who_descends_from_the_root_is_signalled(family: subprocess.Popen[bytes]) -> None:
    """HAZARDS 18."""
    with subprocess.Popen(["/bin/sleep", "1000"]) as stranger:
        tree.signal_below(family.pid, [stranger.pid, 1, 2**22 + 1, os.getpid()], signal.SIGKILL)
        assert stranger.poll() is None
        stranger.kill()


def test_kill_says_whether_there_was_anybody(family: subprocess.Popen[bytes]) -> None:
    below = tree.descendants(family.pid)
    os.kill(family.pid, signal.SIGSTOP)  # or it would end with its children
    assert tree.kill(family.pid)
    os.kill(family.pid, signal.SIGKILL)  # a stopped parent reaps nobody
    family.wait()
    for pid in below:
        wait_gone(pid)
    assert not tree.kill(family.pid)


def test_members_of_a_session_are_found_after_they_were_reparented(
    family: subprocess.Popen[bytes],
) -> None:
    found = {_procid.stat(pid) for pid in tree.descendants(family.pid)}
    sessions = {each.session for each in found if each is not None}
    (inner,) = sessions - {os.getsid(family.pid)}
    members = tree.session_members(inner, family.pid)
    assert inner in members
    assert len(members) == 2
