"""Fork a planned process: init, which waits at its gate, or one exec'd beside it.

Standard library only, and single-threaded where it runs (fork server, supervisor, one-shot).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket

from asyncrt import _libc, _paths
from asyncrt.launch import gate as gates
from asyncrt.launch import hook as hooks
from asyncrt.launch import process
from asyncrt.launch.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from asyncrt.launch.plan import HookPlan, ProcessPlan

# What init says on its watch socket, one byte each; FAILED is followed by the failure as JSON.
READY = b"R"
STARTED = b"G"
FAILED = b"F"


class InitOptions:
    """What init needs beyond its process plan."""

    __slots__ = ("early", "hooks", "state", "umask")

    def __init__(
        self, *, umask: int, hooks: Sequence[HookPlan] = (), state: bytes = b"", early: bool = False
    ) -> None:
        self.umask = umask
        self.hooks = hooks  # startContainer, run right before the program
        self.state = state  # the OCI state for them
        self.early = early  # resolve the program before the gate, so that create fails


def init(
    plan: ProcessPlan, streams: Sequence[int], gate: socket.socket, options: InitOptions
) -> tuple[int, socket.socket]:
    """Fork init; returns its pid and our end of its watch socket.

    Init says READY there once it waits at its gate, STARTED right before it executes its program
    (then the socket closes), or FAILED. It exits when our end closes before the gate was opened.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _as_init(plan, streams, gate, theirs, options)
    theirs.close()
    return pid, ours


def _as_init(
    plan: ProcessPlan,
    streams: Sequence[int],
    gate: socket.socket,
    watch: socket.socket,
    options: InitOptions,
) -> NoReturn:
    code = 127
    client = None
    try:
        try:
            _enter_new_process(streams, keep=(gate.fileno(), watch.fileno()))
            _libc.set_name(_paths.GATE_COMM)
            process.prepare(plan, options.umask)
            if options.early:
                process.resolve(plan)
            watch.send(READY)
            client = gates.wait_for_go(gate, watch)
            _run_hooks(options)
            with contextlib.suppress(OSError):
                watch.send(STARTED, socket.MSG_NOSIGNAL)
            gates.announce(client)
            process.execute(plan)
        except Failure as failure:
            if client is not None:
                gates.refuse(client, failure)
            with contextlib.suppress(OSError):
                watch.send(FAILED + json.dumps(failure.report()).encode(), socket.MSG_NOSIGNAL)
    except gates.SupervisorGone:
        code = 125
    finally:
        os._exit(code)


def _run_hooks(options: InitOptions) -> None:
    for hook in options.hooks:
        why = hooks.run(hook, options.state)
        if why:
            raise Failure("startContainer hook", hook["path"], errno.ECANCELED, hook=why)


def _enter_new_process(streams: Sequence[int], keep: Sequence[int]) -> None:
    os.setsid()
    process.fresh_signals()
    process.take_streams(streams)
    process.close_all_but(keep)


def beside(plan: ProcessPlan, streams: Sequence[int], umask: int) -> tuple[int, int]:
    """Fork a process that executes its program at once; returns its pid and a descriptor.

    The descriptor ends without a byte when the program runs, else it holds the failure as JSON.
    """
    report, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                _enter_new_process(streams, keep=(theirs,))
                process.prepare(plan, umask)
                process.execute(plan)
            except Failure as failure:
                os.write(theirs, json.dumps(failure.report()).encode())
        finally:
            os._exit(127)
    os.close(theirs)
    return pid, report
