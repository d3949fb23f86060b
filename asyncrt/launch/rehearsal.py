"""What a launch will run, gone through once before anybody waits for it, see asyncrt.launch.init."""

from __future__ import annotations

import _socket
import os

from asyncrt import _procid, clock
from asyncrt.launch import frames, handover, process
from asyncrt.launch.failure import Failure


def rehearse() -> None:
    """Run what a launch will run, without effect, so that its pages are touched already.

    What fails here fails in a launch as well, and there somebody hears of it.
    """
    try:  # noqa: SIM105 - a context manager costs pages
        _rehearse()
    except (OSError, Failure):
        pass


def _rehearse() -> None:
    ours, theirs = _socket.socketpair()
    message = {
        "plan": {"args": ["true"], "env": ["PATH=/bin"], "oom_score_adj": None},
        "hooks": [],
        "durable": True,
        "logs": [],
    }
    times = {"deadline": None, "lease": None}
    ours.send(frames.encode({"op": "launch", "instance": "0" * 32, **times, **message}))
    frames.receive_message(theirs)
    fds = [ours.fileno()]
    role = frames.SUPERVISED  # the most usual one
    handover.send(
        ours, role, fds, durable=True, deadline=None, lease=None, instance="0" * 32, pid=1
    )
    handed = handover.take(theirs)
    if handed is not None:
        os.close(handover.unpack(handed)[6][0])
    frames.encode({"launched": {"init": _procid.facts(os.getpid()), "launcher": None}})
    clock.stamp()
    process.rehearse()
    ours.close()
    theirs.close()
