"""The process above an init, until it becomes a supervisor: no news of its child is missed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.helpers.processes import Interpreter

# An init that does nothing, and ends at the worst moment: `_lives` has just seen it alive.
ENDS_AFTER_THE_LOOK = """
import os, signal, socket
from asyncrt import _csignal
from asyncrt.launch import init
from asyncrt.supervisor import keeper

def live(*_):
    os.write(1, b"%d\\n" % os.getpid())
    signal.pause()

def look(pid):
    found = lives(pid)
    if found:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return found

lives, keeper._lives, init.live = keeper._lives, look, live
_csignal.signal(_csignal.SIGCHLD, lambda *_: None)
requests, _ = socket.socketpair()
_, taking = os.pipe()
keeper.spare(requests.detach(), taking, 0o22, True, -1)
"""


def test_an_init_that_ends_right_after_it_was_looked_at_leaves_nobody_asleep_for_ever() -> None:
    with Interpreter(ENDS_AFTER_THE_LOOK) as spare:
        # A child that is stopped, or an orphan that ends, wakes it while its init lives.
        os.kill(int(spare.line()), signal.SIGSTOP)
        assert spare.wait() == 0


# What a rehearsal ends with is told as "over", and then whatever it left.
REHEARSES = """
import errno, os, sys
from asyncrt import _durable
from asyncrt.supervisor import keeper, supervisor

class Told(supervisor.Supervisor):
    __slots__ = ()
    def run(self):
        super().run()
        print("over", flush=True)

keeper.Supervisor = Told
opened = os.open
os.open = lambda path, *rest, **named: opened(
    sys.argv[1] if path == "/proc" else path, *rest, **named
)
replace = _durable.replace

def full(dir_fd, name, data, **named):
    if data:
        raise OSError(errno.ENOSPC, "No space left on device")
    replace(dir_fd, name, data, **named)

if len(sys.argv) > 2:
    _durable.replace = full
before = set(os.listdir("/proc/self/fd"))
keeper.rehearse()
print(sorted(set(os.listdir("/proc/self/fd")) ^ before), flush=True)
"""


def test_a_rehearsed_supervisor_comes_to_its_end_and_leaves_no_descriptor() -> None:
    with Interpreter(REHEARSES, "/proc") as server:
        assert server.line() == "over"
        assert server.line() == "[]"
        assert server.wait() == 0


def test_an_end_that_cannot_be_rehearsed_for_want_of_space_ends_no_fork_server() -> None:
    """It would try again later, and has nothing to wait with."""
    with Interpreter(REHEARSES, "/proc", "full") as server:
        assert server.line() == "[]"
        assert server.wait() == 0


def test_where_a_file_can_be_made_nothing_is_rehearsed_and_no_file_is_left(tmp_path: Path) -> None:
    with Interpreter(REHEARSES, str(tmp_path)) as server:
        assert server.line() == "[]"
        assert server.wait() == 0
    assert not list(tmp_path.iterdir())
