"""The life of init until its program: forked ahead, told what to become, launched, at its gate.

Standard library only. Init is forked before anybody wants it and waits for a request together with
its parent, which will be its supervisor: the forks, and the page faults of a fresh child's first
steps, are then done while nobody waits for them (a copy-on-write fault costs microseconds, the first
steps take hundreds). It then does all of the launch itself, because what it touches is given back at
its exec, while its parent may live for months.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket

from asyncrt import _libc, _paths, _procid
from asyncrt.launch import frames, handover, process, sockets
from asyncrt.launch import gate as gates
from asyncrt.launch import hook as hooks
from asyncrt.launch.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

# The roles that a request may ask for.
SUPERVISED = b"S"
ONE_SHOT = b"O"
HOOK = b"H"

_CONTROL_BACKLOG = 128


def live(requests: socket.socket, taking: int, watch: socket.socket, umask: int) -> NoReturn:
    """Wait for a request, be what it asks for, never return.

    `requests` and `taking` are the fork server's: closing `taking` tells it that a request is taken.
    `watch` leads to the parent; init exits when that closes before the gate is opened.
    """
    code = 127
    try:
        os.setsid()
        process.fresh_signals()
        process.close_all_but((requests.fileno(), taking, watch.fileno()))
        _libc.set_name("asyncrt:spare")
        rehearse()
        role, fds = frames.receive(requests, 1)
        os.close(taking)
        requests.close()
        if role:
            peer = socket.socket(fileno=fds[0])
            if role == HOOK:
                _run_asked_hook(peer, umask)
            else:
                _launch(role, peer, watch, umask)
    except (gates.SupervisorGone, EOFError, ConnectionError, frames.BadFrame):
        code = 125  # nobody wants it any more
    finally:
        os._exit(code)


def _run_asked_hook(peer: socket.socket, umask: int) -> None:
    """Run one hook for an engine; an end-of-file from it meanwhile kills the hook's group."""
    _libc.set_name("asyncrt:hook")
    os.umask(umask)
    message, _ = frames.receive_message(peer)
    why = hooks.run(message["hook"], message["state"].encode(), abandon=peer.fileno())
    frames.send(peer, frames.encode({"why": why}))


def _launch(role: bytes, peer: socket.socket, watch: socket.socket, umask: int) -> None:
    message, fds = frames.receive_message(peer)
    client: socket.socket | None = None
    handed_over = False
    try:
        gate = _prepare(role, message, peer, watch, fds, umask)
        handed_over = True
        client = gates.wait_for_go(gate, watch)
        for hook in message["hooks"]:
            why = hooks.run(hook, message["state"].encode())
            if why:
                raise Failure("startContainer hook", hook["path"], errno.ECANCELED, hook=why)
        with contextlib.suppress(OSError):
            watch.send(handover.STARTED, socket.MSG_NOSIGNAL)
        gates.announce(client)
        process.execute(message["plan"])
    except Failure as failure:
        if client is not None:
            gates.refuse(client, failure)
        if handed_over:
            said = handover.FAILED + json.dumps(failure.report()).encode()
            with contextlib.suppress(OSError):
                watch.send(said, socket.MSG_NOSIGNAL)
        else:
            frames.send(peer, frames.encode({"failed": failure.report()}))


def _prepare(
    role: bytes,
    message: dict[str, Any],
    peer: socket.socket,
    watch: socket.socket,
    fds: list[int],
    umask: int,
) -> socket.socket:
    """Become what the plan says, hand over, report; returns the gate. Raises Failure."""
    dir_fd, *streams = fds
    try:
        gate = gates.listen(dir_fd)
        handed = [peer.fileno()]
        if role == SUPERVISED:
            control = sockets.listen(dir_fd, _paths.CONTROL, _CONTROL_BACKLOG)
            handed += [dir_fd, control.fileno()]
    except OSError as error:
        raise Failure("launch", "", error.errno or errno.EIO) from error
    process.take_streams(streams)
    _libc.set_name(_paths.GATE_COMM)
    process.prepare(message["plan"], umask)
    if role == ONE_SHOT:
        # Who supervises by itself expects create to fail for a program that isn't there.
        process.resolve(message["plan"])
    handover.send(
        watch,
        role,
        handed,
        durable=message["durable"],
        deadline=message["deadline"],
        instance=message["instance"],
    )
    identities = {"init": _procid.facts(os.getpid()), "launcher": _procid.facts(os.getppid())}
    frames.send(peer, frames.encode({"launched": identities}))
    process.close_all_but((gate.fileno(), watch.fileno()))
    return gate


def rehearse() -> None:
    """Run what a launch will run, without effect, so that its pages are touched already."""
    ours, theirs = socket.socketpair()
    message = {"plan": {"args": ["true"], "env": ["PATH=/bin"]}, "hooks": [], "durable": True}
    ours.send(frames.encode({"op": "launch", "instance": "0" * 32, "deadline": None, **message}))
    frames.receive_message(theirs)
    handover.send(
        ours, SUPERVISED, [ours.fileno()], durable=True, deadline=None, instance="0" * 32
    )
    found = handover.receive(theirs)
    if found is not None:
        os.close(found[4][0])
    frames.encode({"launched": {"init": _procid.facts(os.getpid()), "launcher": None}})
    process.rehearse()
    ours.close()
    theirs.close()
