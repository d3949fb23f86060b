from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator

import pytest

from asyncrt import _libc, _procid
from tests.helpers.capabilities import User, skip_lacking
from tests.helpers.processes import Interpreter, wait_gone, wait_until

LEADER_ENDS_ALONE = """
import ctypes, platform, sys, threading
number = {"x86_64": 60, "aarch64": 93, "riscv64": 93}[platform.machine()]
threading.Thread(target=sys.stdin.readline, daemon=True).start()
print("started", flush=True)
ctypes.CDLL(None).syscall(number, 0)  # exit(2) of this thread only
"""

EPERM_AS_OTHER_USER = """
import sys
from asyncrt import _procid
_procid.stat = lambda pid: None  # as with hidepid
class Identity: pass
identity = Identity()
identity.pid, identity.start, identity.boot, identity.pidns = (
    1, 0, _procid.boot_id(), _procid.pid_namespace())
print(_procid.alive(identity), flush=True)
"""


class Facts:
    """An identity, with chosen facts changed."""

    def __init__(self, pid: int, **changes: int | str) -> None:
        found = _procid.facts(pid)
        assert found is not None
        found.update(changes)
        self.pid = int(found["pid"])
        self.start = int(found["start"])
        self.boot = str(found["boot"])
        self.pidns = int(found["pidns"])


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_living_process_is_alive_with_its_name(sleeper: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: _procid.check(Facts(sleeper.pid))[1] == "sleep", "it is sleep by now")
    assert _procid.check(Facts(sleeper.pid)) == (True, "sleep")
    assert _procid.check(Facts(sleeper.pid), _procid.pid_namespace()) == (True, "sleep")


def test_a_reused_pid_is_another_process_and_gets_no_signal_of_ours(
    sleeper: subprocess.Popen[bytes],
) -> None:
    reused = Facts(sleeper.pid)
    reused.start -= 1
    assert not _procid.alive(reused)
    assert _procid.open_pidfd(reused) is None
    assert not _procid.send(reused, signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_reaped_process_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    facts = Facts(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert not _procid.alive(facts)
    assert not _procid.send(facts, signal.SIGTERM)


def test_a_zombie_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    facts = Facts(sleeper.pid)
    sleeper.kill()
    wait_gone(sleeper.pid)
    found = _procid.stat(sleeper.pid)
    assert found is not None
    assert found.state == "Z"
    assert not _procid.alive(facts)
    assert _procid.open_pidfd(facts) is None


def test_a_process_whose_main_thread_alone_ended_lives() -> None:
    with Interpreter(LEADER_ENDS_ALONE) as child:
        assert child.line() == "started"

        def shows_z() -> bool:
            found = _procid.stat(child.pid)
            return found is not None and found.state == "Z"

        wait_until(shows_z, "the main thread is a zombie")
        facts = Facts(child.pid)
        assert _procid.alive(facts)
        assert _procid.send(facts, 0)
        child.say("end")
        wait_gone(child.pid)
        assert not _procid.alive(facts)


def test_no_permission_to_signal_means_alive(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Facts(sleeper.pid)

    def refused(_pid: int, _number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(_procid, "stat", lambda _pid: None)
    monkeypatch.setattr(os, "kill", refused)
    alive = _procid.alive(facts)
    monkeypatch.undo()
    assert alive


def test_another_users_process_behind_a_hidden_proc_is_alive(ordinary_user: User) -> None:
    with Interpreter(EPERM_AS_OTHER_USER, user=ordinary_user.uid, group=ordinary_user.gid) as child:
        assert child.line() == "True"


def test_after_a_reboot_everything_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    other_boot = Facts(sleeper.pid, boot="5ca1ab1e-0000-4000-8000-000000000000")
    assert not _procid.alive(other_boot)
    assert not _procid.foreign(other_boot)
    assert _procid.open_pidfd(other_boot) is None


def test_another_pid_namespace_is_unknown_and_counts_as_alive() -> None:
    with subprocess.Popen(["true"]) as process:
        facts = Facts(process.pid, pidns=1)
    assert _procid.foreign(facts)
    assert _procid.check(facts) == (True, "")
    with pytest.raises(PermissionError, match="another pid namespace"):
        _procid.send(facts, signal.SIGTERM)


def test_a_name_with_parentheses_and_spaces_is_parsed() -> None:
    raw = b"7 (a) R (b) S 1 2 3 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4242 1 1 1\n"
    found = _procid.Stat(raw)
    assert (found.comm, found.state, found.ppid) == ("a) R (b", "S", 1)
    assert (found.pgid, found.session, found.start) == (2, 3, 4242)


def test_a_signal_reaches_exactly_that_process(sleeper: subprocess.Popen[bytes]) -> None:
    assert _procid.send(Facts(sleeper.pid), signal.SIGTERM)
    assert sleeper.wait() == -signal.SIGTERM


def test_an_open_pidfd_polls_readable_when_the_process_is_gone(
    sleeper: subprocess.Popen[bytes],
) -> None:
    pidfd = _procid.open_pidfd(Facts(sleeper.pid))
    assert pidfd is not None
    try:
        assert not _procid.ended(pidfd)
        sleeper.kill()
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll()
        assert _procid.ended(pidfd)
    finally:
        os.close(pidfd)


def test_facts_of_a_process_that_is_gone_are_none() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert _procid.facts(process.pid) is None


def test_hazard_35_an_exit_status_is_told_by_pidfd_once_its_parent_has_reaped() -> None:
    """Not at the exit already (PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15)."""
    child = subprocess.Popen(["/bin/sh", "-c", "exit 7"])
    pidfd = os.pidfd_open(child.pid)
    try:
        select.select([pidfd], [], [])
        assert _libc.exit_status(pidfd) is None
        assert child.wait() == 7
        status = _libc.exit_status(pidfd)
    finally:
        os.close(pidfd)
    if status is None:
        skip_lacking("Linux 6.15, which tells the exit status by pidfd")
    assert os.waitstatus_to_exitcode(status) == 7
