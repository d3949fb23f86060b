"""Fork a planned process: init, which waits at its gate, or one exec'd beside it.

Standard library only, and single-threaded where it runs (fork server, supervisor, one-shot).

Init is forked before anybody wants it and told what to become later, over its watch socket: the
fork, and the page faults of a fresh child's first steps, are then done while nobody waits for them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket

from asyncrt import _libc, _paths
from asyncrt.launch import frames, process
from asyncrt.launch import gate as gates
from asyncrt.launch import hook as hooks
from asyncrt.launch.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from asyncrt.launch.plan import ProcessPlan

# What init says on its watch socket, one byte each; FAILED is followed by the failure as JSON.
READY = b"R"
STARTED = b"G"
FAILED = b"F"


class Spare:
    """An init that doesn't know yet what it will be: its pid and our end of its watch socket.

    It says READY there once it waits at its gate, STARTED right before it executes its program
    (then the socket closes), or FAILED. It exits when our end closes before the gate was opened.
    """

    __slots__ = ("pid", "watch")

    def __init__(self, pid: int, watch: socket.socket) -> None:
        self.pid = pid
        self.watch = watch


def spare_init() -> Spare:
    """Fork an init for later."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _as_init(theirs)
    theirs.close()
    return Spare(pid, ours)


def give_orders(
    spare: Spare, orders: dict[str, Any], streams: Sequence[int], gate: socket.socket
) -> None:
    """Tell the spare init what to become; the descriptors stay the caller's.

    `orders`: plan, umask (where the plan has none), hooks (startContainer), state (for them), early
    (resolve the program before the gate, so that create fails and not start).
    """
    frame = memoryview(frames.encode({**orders, "fds": 4}))
    sent = frames.send(spare.watch, frame, [gate.fileno(), *streams])
    while sent < len(frame):
        sent += frames.send(spare.watch, frame[sent:])


def _as_init(watch: socket.socket) -> NoReturn:
    code = 127
    client = None
    try:
        try:
            os.setsid()
            process.fresh_signals()
            process.close_all_but((watch.fileno(),))
            _libc.set_name(_paths.GATE_COMM)
            _rehearse()
            orders, fds = frames.receive_message(watch)
            gate = socket.socket(fileno=fds[0])
            process.take_streams(fds[1:])
            for fd in fds[1:]:
                os.close(fd)
            process.prepare(orders["plan"], orders["umask"])
            if orders["early"]:
                process.resolve(orders["plan"])
            watch.send(READY)
            client = gates.wait_for_go(gate, watch)
            _run_hooks(orders)
            with contextlib.suppress(OSError):
                watch.send(STARTED, socket.MSG_NOSIGNAL)
            gates.announce(client)
            process.execute(orders["plan"])
        except Failure as failure:
            if client is not None:
                gates.refuse(client, failure)
            with contextlib.suppress(OSError):
                watch.send(FAILED + json.dumps(failure.report()).encode(), socket.MSG_NOSIGNAL)
    except (gates.SupervisorGone, EOFError):
        code = 125
    finally:
        os._exit(code)


def _rehearse() -> None:
    """Touch what the real steps will touch, while nobody waits: first touches after a fork cost."""
    decoder = frames.Decoder()
    decoder.feed(frames.encode({"plan": {"args": ["true"], "env": ["PATH=/bin"]}, "fds": 0}), [])
    decoder.pop()
    process.rehearse()


def _run_hooks(orders: dict[str, Any]) -> None:
    for hook in orders["hooks"]:
        why = hooks.run(hook, orders["state"].encode())
        if why:
            raise Failure("startContainer hook", hook["path"], errno.ECANCELED, hook=why)


def beside(plan: ProcessPlan, streams: Sequence[int], umask: int) -> tuple[int, int]:
    """Fork a process that executes its program at once; returns its pid and a descriptor.

    The descriptor ends without a byte when the program runs, else it holds the failure as JSON. It
    dies with this process: nobody else would bound it in time, or find it to end it.
    """
    parent = os.getpid()
    report, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                os.setsid()
                process.fresh_signals()
                process.take_streams(streams)
                process.close_all_but((theirs,))
                process.prepare(plan, umask)
                _libc.die_with_parent(parent)  # after the change of user, which would undo it
                process.execute(plan)
            except Failure as failure:
                os.write(theirs, json.dumps(failure.report()).encode())
            except Exception as error:  # noqa: BLE001 - silence would mean that it runs
                report_of = Failure(f"plan ({error!r})", "", errno.EINVAL).report()
                os.write(theirs, json.dumps(report_of).encode())
        finally:
            os._exit(127)
    os.close(theirs)
    return pid, report
