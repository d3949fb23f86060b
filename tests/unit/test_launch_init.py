"""An init whose supervisor is killed at the worst moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.processes import Interpreter

# The init of a keeper's pair, whose supervisor is gone right after there was an acknowledgement to be
# read, and before that is passed on.
KILLED_WHILE_TOLD = """
import os, select, signal, socket, sys
from asyncrt import Spec, _csignal
from asyncrt._libc import become_subreaper
from asyncrt.launch import frames, gate
from asyncrt.platforms import choose
from asyncrt.supervisor import keeper

def hear(waiting):
    os.kill(os.getppid(), signal.SIGKILL)
    closed = select.poll()
    closed.register(waiting._watch, 0)
    closed.poll()
    heard(waiting)

heard, gate.Waiting._hear_creator = gate.Waiting._hear_creator, hear
become_subreaper()  # init is ours once it has no other parent
_csignal.signal(_csignal.SIGCHLD, lambda *_: None)
requests, asked = socket.socketpair()
_, taking = os.pipe()
above = os.fork()
if above == 0:
    keeper.spare(asked.fileno(), taking, 0o22, True, -1)

spec = Spec.command(["true"])
message = {
    "instance": "0" * 32, "durable": False, "deadline": None, "plan": choose("host", spec).plan(spec),
    "hooks": [], "logs": [],
}
ours, theirs = socket.socketpair()
fds = [os.open(sys.argv[1], os.O_RDONLY), 0, 1, 2]
frames.send(ours, frames.encode({**message, "fds": len(fds)}), fds)
frames.send(requests, frames.SUPERVISED, [theirs.fileno()])
said, _ = frames.receive_message(ours)
ours.send(frames.ACKNOWLEDGEMENT)
_, status = os.waitpid(above, 0)
print("its supervisor:", os.waitstatus_to_exitcode(status))
_, status = os.waitpid(said["launched"]["init"]["pid"], 0)
print("init:", os.waitstatus_to_exitcode(status))
"""


@pytest.mark.leaves("gate.sock", "control.sock")
def test_an_init_whose_supervisor_is_killed_while_it_is_told_ends_by_no_signal(
    tmp_path: Path,
) -> None:
    """HAZARDS 23: the signal of a broken pipe would be told as the program's."""
    with Interpreter(KILLED_WHILE_TOLD, tmp_path) as creator:
        assert creator.line() == "its supervisor: -9"
        assert creator.line() == "init: 125"
        assert creator.wait() == 0
