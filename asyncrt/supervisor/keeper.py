"""From a spare process to a supervisor or a one-shot: who stays above an init."""

from __future__ import annotations

import socket

from asyncrt import _libc, clock
from asyncrt.launch import handover, init
from asyncrt.supervisor import one_shot
from asyncrt.supervisor.exits import exit_json
from asyncrt.supervisor.supervisor import Supervisor


def keep(pid: int, watch: socket.socket, umask: int) -> None:
    """Wait until init has launched itself and hands over; then keep what is to be kept.

    Returns at once when init ends before that: it had nothing to hand over, or was told no.
    """
    found = handover.receive(watch)
    if found is None:
        return
    role, durable, deadline, instance, fds = found
    creator = socket.socket(fileno=fds[0])
    if role == init.ONE_SHOT:
        one_shot.keep(pid, watch, creator)
        return
    _libc.set_name("asyncrt:super")
    Supervisor(
        init=pid,
        watch=watch,
        creator=creator,
        dir_fd=fds[1],
        control=socket.socket(fileno=fds[2]),
        umask=umask,
        durable=durable,
        deadline=deadline,
        instance=instance.decode(),
    ).run()


def rehearse() -> None:
    """What a supervisor does at the end, so that the fork server's children share the pages."""
    exit_json("0" * 32, code=0, signal=None, reason="exit", started_at=clock.stamp())
