"""The life of init until its program: forked ahead, told what to become, launched, at its gate.

Standard library only. Init is forked before anybody wants it and waits for a request while its
parent, which will be its supervisor, sleeps: the forks, and the page faults of a fresh child's first
steps, are then done while nobody waits for them (a copy-on-write fault costs microseconds, the first
steps take hundreds). It then does all of the launch itself, because what it touches is given back at
its exec, while its parent may live for months.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import select

from asyncrt import _paths, _procid
from asyncrt.launch import frames, passing, process, sockets
from asyncrt.launch import gate as gates
from asyncrt.launch import hook as hooks
from asyncrt.launch.failure import Failure
from asyncrt.launch.own_cgroups import Cgroups
from asyncrt.launch.parent import Parent
from asyncrt.launch.rehearsal import rehearse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from asyncrt.launch.inside import Inside
    from asyncrt.launch.plan import CgroupReport, ProcessPlan

# How who ran a hook to its end exits: what that left behind is on its own account.
HOOK_DONE = 3

# Told to the fork server, so that it forks the next pair: best when the end-of-file follows.
TAKEN = b"T"

_CONTROL_BACKLOG = 128


def live(
    requests: int,
    taking: int,
    above: int,
    theirs: int,
    watch: int,
    alarm: select.epoll,
    umask: int,
    exempt: bool,  # noqa: FBT001 - as the fork server passes it down
    null: int,
) -> NoReturn:
    """Wait for a request, be what it asks for, never return.

    `above` is the parent's pid; `watch`, `theirs`, `alarm`, `exempt` and `null` as in Parent.
    `requests` and `taking` are the fork server's: TAKEN in `taking` tells it that a request is taken,
    its end that the launch is done.
    """
    code = 127
    peer: _socket.socket | None = None
    try:
        os.setsid()
        process.fresh_signals()
        process.close_all_but((requests, taking, theirs, watch, alarm.fileno(), null))
        _procid.set_name("asyncrt:spare")
        rehearse()
        watching = _socket.socket(fileno=watch)
        parent = Parent(above, watching, theirs, alarm, exempt=exempt, null=null)
        asked = _socket.socket(fileno=requests)
        role, fds = frames.receive(asked, 1)
        asked.close()
        if role:
            peer = _socket.socket(fileno=fds[0])
            os.write(taking, TAKEN)
            if role == frames.HOOK:
                os.close(taking)
                hooks.serve(peer, umask)
                code = HOOK_DONE
            elif role == frames.CLEAR:
                from asyncrt.launch import clearing  # seldom asked for

                os.close(taking)
                clearing.serve(peer)
            else:
                _launch(role, peer, parent, umask)  # closes `taking` with all that isn't needed
    except (gates.NobodyWants, EOFError, ConnectionError, frames.BadFrame):
        code = 125
    except Exception as error:  # noqa: BLE001 - see there
        _tell(peer, error)
    finally:
        os._exit(code)


def live_beside(
    requests: int,
    above: int,
    watch: int,
    umask: int,
    score: int | None,
    shared: Sequence[int],
    null: int,
) -> NoReturn:
    """Be the init of one more container of the sandbox whose supervisor forked us; never return.

    A creator's socket comes over `requests`, whose end is that nobody wants us. The rest is as in
    Parent.
    """
    code = 127
    peer: _socket.socket | None = None
    try:
        os.setsid()
        process.fresh_signals()
        process.close_all_but((requests, watch, null, *shared))
        process.lower_files()
        _procid.set_name("asyncrt:spare")
        rehearse()
        asked = _socket.socket(fileno=requests)
        ours = _socket.socket(fileno=watch)
        parent = Parent(above, ours, null=null, score=score, shared=shared)
        role, fds = frames.receive(asked, 1)
        asked.close()
        if not role:
            raise EOFError
        peer = _socket.socket(fileno=fds[0])
        _launch(frames.SUPERVISED, peer, parent, umask)
    except (gates.NobodyWants, EOFError, ConnectionError, frames.BadFrame):
        code = 125
    except Exception as error:  # noqa: BLE001 - see there
        _tell(peer, error)
    finally:
        os._exit(code)


def _tell(peer: _socket.socket | None, error: Exception) -> None:
    """Tell the creator what else went wrong; one that has its answer already has closed this.

    Of no plan, or of a fault of ours, too: silence helps nobody.
    """
    if peer is None:
        return
    if isinstance(error, OSError):
        failure = Failure("launch", str(error.filename or ""), error.errno or errno.EIO)
    else:
        failure = Failure(f"launch ({error!r})", "", errno.EINVAL)
    with contextlib.suppress(OSError):
        frames.send(peer, frames.encode({"failed": failure.report()}))


def _launch(role: bytes, peer: _socket.socket, parent: Parent, umask: int) -> None:
    message, fds = frames.receive_message(peer)
    overlay = message["plan"].get("linux", {}).get("overlay")
    if overlay is not None and overlay["kind"] == "kept":
        overlay["locked"] = fds.pop()
    numbers = message["plan"].get("passed", ())
    passed = [fds.pop() for _ in numbers][::-1]
    if message["plan"]["oom_score_adj"] is None:
        message["plan"]["oom_score_adj"] = parent.score
    client: _socket.socket | None = None
    launched = False
    try:
        gate = _prepare(role, message, peer, parent, fds, passed, umask)
        launched = True
        client = gates.Waiting(
            gate, parent.watch, peer, lambda: parent.acknowledged(role, message, peer)
        ).for_go()
        for hook in message["hooks"]:
            why = hooks.run(hook, message["state"].encode())
            if why:
                raise Failure("startContainer hook", hook["path"], errno.ECANCELED, hook=why)
        if passed:
            away = passing.moved((client.fileno(), parent.watch.fileno()), numbers)
            client, parent.watch = (_socket.socket(fileno=each) for each in away)
            passing.place(passed, numbers)
        # The starter first: a deadline of nothing at all may end us right after the other.
        gates.announce(client)
        parent.started()
        process.execute(message["plan"])
    except Failure as failure:
        if client is not None:
            gates.refuse(client, failure)
        if launched:
            parent.failed(failure)
        else:
            frames.send(peer, frames.encode({"failed": failure.report()}))


def _prepare(
    role: bytes,
    message: dict[str, Any],
    peer: _socket.socket,
    parent: Parent,
    fds: list[int],
    passed: list[int],
    umask: int,
) -> _socket.socket:
    """Become what the plan says, hand over, report; returns the gate. Raises Failure."""
    dir_fd, *streams = fds
    plan: ProcessPlan = message["plan"]
    cgroups = Cgroups(plan, peer, parent, opened=role == frames.SUPERVISED)
    control: _socket.socket | None = None
    name = _paths.GATE
    try:
        gate = gates.listen(dir_fd)
        if role == frames.SUPERVISED:
            name = _paths.CONTROL
            control = sockets.listen(dir_fd, _paths.CONTROL, _CONTROL_BACKLOG)
    except OSError as error:
        raise Failure("launch", name, error.errno or errno.EIO) from error
    inside: Inside | None = None
    if "linux" in plan:
        from asyncrt.launch.inside import Inside  # most often nobody needs it

        inside = Inside(plan, [*streams, *passed], parent.shared, parent.null)
        parent.waiting = inside.waiting
        if inside.gofer is not None:
            parent.identities["gofer"] = inside.gofer.identity
    held = _connect(message, streams, inside)
    given = [dir_fd, peer.fileno()]
    if inside is None:
        _procid.set_name(_paths.GATE_COMM)
        process.prepare(plan, umask)
    else:
        if message.get("waits"):
            parent.hand_over(role, message, given, control, held, cgroups, inside)
            _wait_for_hooks(message, peer, parent, cgroups.report)
        inside.enter_root()
        process.become(plan, umask, inside.proc)
    if role == frames.ONE_SHOT:
        # Who supervises by itself expects create to fail for a program that isn't there.
        process.resolve(plan)
    if not message.get("waits"):
        parent.hand_over(role, message, given, control, held, cgroups, inside)
    if parent.hung_up(inside=inside is not None):
        # It was killed. Our creator would take whoever has us now for the supervisor, and kill it.
        raise gates.NobodyWants
    # First, so that the fork server hears of it: once launched, init may be paused at any time.
    kept = (gate, parent.watch, parent.alarm, peer)
    process.close_all_but([*(each.fileno() for each in kept if each is not None), *passed])
    frames.send(peer, frames.encode({"launched": parent.identities, "cgroup": cgroups.report}))
    return gate


def _wait_for_hooks(
    message: dict[str, Any], peer: _socket.socket, parent: Parent, report: CgroupReport | None
) -> None:
    """Let the creator run the hooks that come before the new root, then run our own. Raises Failure.

    Prestart and createRuntime hooks see the namespaces from outside, createContainer hooks from
    inside, with the host's files (config.md, "POSIX-platform Hooks").
    """
    if parent.hung_up(inside=True):
        raise gates.NobodyWants
    frames.send(
        peer, frames.encode({"launched": parent.identities, "waits": True, "cgroup": report})
    )
    either = select.epoll()  # the end of one of them, or the creator's word
    either.register(parent.watch, select.EPOLLIN)
    either.register(peer, select.EPOLLIN)
    if any(fd == parent.watch.fileno() for fd, _ in either.poll()):
        raise gates.NobodyWants
    said, _ = frames.receive_message(peer)
    for hook in message["container_hooks"]:
        why = hooks.run(hook, said["state"].encode(), abandon=either.fileno())
        if why and parent.hung_up(inside=True):
            raise gates.NobodyWants
        if why:
            raise Failure("createContainer hook", hook["path"], errno.ECANCELED, hook=why)


def _connect(message: dict[str, Any], streams: list[int], inside: Inside | None) -> list[int]:
    """Take our standard streams; the descriptors that the supervisor is to have of them.

    In the socket a FIFO stays open, so that not even a program that ends at once loses a line.
    """
    size = message["plan"].get("terminal")
    if size is None:
        process.take_streams(streams)
        return [streams[number] for number in message["logs"]]
    from asyncrt.launch import terminal  # most have none

    if inside is None or inside.root is None:
        master, slave = terminal.open_pair(*size)
    else:
        master, slave = terminal.open_pair_inside(inside.root.root, *size)
        terminal.make_console(inside.root.root, slave)
    terminal.take(slave, message["plan"]["uid"])
    process.take_streams((slave, slave, slave))
    if len(streams) == 3:
        return [master, slave]
    terminal.give(streams[3], master)
    return []
