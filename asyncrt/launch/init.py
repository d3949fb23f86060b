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
import time

from asyncrt import _cjson, _paths, _procid, clock
from asyncrt.launch import frames, handover, passing, process, sockets
from asyncrt.launch import gate as gates
from asyncrt.launch import hook as hooks
from asyncrt.launch.failure import Failure
from asyncrt.launch.own_cgroups import Cgroups
from asyncrt.launch.rehearsal import rehearse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from asyncrt.launch.inside import Inside
    from asyncrt.launch.plan import CgroupReport, ProcessPlan

# The roles that a request may ask for.
SUPERVISED = b"S"
ONE_SHOT = b"O"
HOOK = b"H"
CLEAR = b"C"

# How who ran a hook to its end exits: what that left behind is on its own account.
HOOK_DONE = 3

# Told to the fork server, so that it forks the next pair: best when the end-of-file follows.
TAKEN = b"T"

_CONTROL_BACKLOG = 128
_TRIES = 50
_RETRY_SECONDS = 0.02


class Parent:
    """Init's side of what it shares with the process above it.

    `pid` is its own, `identities` tells who it is and who we are, `watch` leads there, `theirs` is
    the other end of that, `alarm` is the epoll instance that it sleeps on: what is added to it here
    wakes it (epoll(7), shared over fork).
    `exempt`: descriptors may lie in its socket for as long as it sleeps, see `_must_take`. `waiting`:
    where init is not the spare any more but a child that it cloned, what the spare waits at, to be
    closed once the process above knows of the child.

    Above one more container of a sandbox it is awake: `alarm` is None and `theirs` -1. `score` is
    what such an init has without an OOM score of its own, and `shared` the sandbox's namespaces.
    `null` is a mount of /dev/null that sandboxes open theirs through, -1: there is none.
    """

    __slots__ = (
        "alarm",
        "exempt",
        "identities",
        "null",
        "pid",
        "score",
        "shared",
        "theirs",
        "waiting",
        "watch",
    )

    def __init__(
        self,
        pid: int,
        watch: _socket.socket,
        theirs: int = -1,
        alarm: select.epoll | None = None,
        *,
        exempt: bool = True,
        null: int = -1,
        score: int | None = None,
        shared: Sequence[int] = (),
    ) -> None:
        self.pid = pid
        self.score = score
        self.shared = shared
        # Now, while nobody waits for it, and before another user, whom /proc may show less.
        self.identities: dict[str, Any] = {
            "init": _procid.facts(os.getpid()),
            "launcher": _procid.facts(pid),
        }
        self.watch = watch
        self.theirs = theirs
        self.alarm = alarm
        self.exempt = exempt
        self.null = null
        self.waiting: _socket.socket | None = None


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
            if role == HOOK:
                os.close(taking)
                hooks.serve(peer, umask)
                code = HOOK_DONE
            elif role == CLEAR:
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
        _launch(SUPERVISED, peer, parent, umask)
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
    watch = parent.watch
    client: _socket.socket | None = None
    launched = False
    try:
        gate = _prepare(role, message, peer, parent, fds, passed, umask)
        launched = True

        def on_acknowledged() -> bool:
            # A supervisor that has just been killed is no signal to die by: its end is no exit.
            _insist(watch.send, handover.ACKNOWLEDGED, frames.NOSIGNAL)
            if role == ONE_SHOT:
                return False
            if parent.alarm is None:
                return True
            # From here on what the creator says is the supervisor's to hear.
            events = select.EPOLLIN | select.EPOLLONESHOT
            if message.get("lease") is not None:
                events |= select.EPOLLRDHUP  # its end is to be heard as well
            _insist(parent.alarm.modify, peer, events)
            return True

        client = gates.Waiting(gate, watch, peer, on_acknowledged).for_go()
        for hook in message["hooks"]:
            why = hooks.run(hook, message["state"].encode())
            if why:
                raise Failure("startContainer hook", hook["path"], errno.ECANCELED, hook=why)
        if passed:
            away = passing.moved((client.fileno(), watch.fileno()), numbers)
            client, watch = (_socket.socket(fileno=each) for each in away)
            passing.place(passed, numbers)
        # The starter first: a deadline of nothing at all may end us right after the other.
        gates.announce(client)
        with contextlib.suppress(OSError):
            _insist(watch.send, handover.STARTED + clock.stamp().encode(), frames.NOSIGNAL)
        process.execute(message["plan"])
    except Failure as failure:
        if client is not None:
            gates.refuse(client, failure)
        if launched:
            said = handover.FAILED + _cjson.dumps(failure.report()).encode()
            with contextlib.suppress(OSError):
                watch.send(said, frames.NOSIGNAL)
        else:
            frames.send(peer, frames.encode({"failed": failure.report()}))


def _insist(call: Callable[..., object], *arguments: object) -> None:
    """Call, again for a while where the kernel has no memory for it.

    A parent that isn't told here would never know: not that it is wanted, and not of the start.
    """
    for _ in range(_TRIES):
        try:
            call(*arguments)
        except OSError as error:
            if error.errno not in {errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC}:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return
    call(*arguments)


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
    cgroups = Cgroups(plan, peer, parent, opened=role == SUPERVISED)
    control: _socket.socket | None = None
    name = _paths.GATE
    try:
        gate = gates.listen(dir_fd)
        if role == SUPERVISED:
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
            _hand_over(role, message, parent, given, control, held, cgroups, inside)
            _wait_for_hooks(message, peer, parent, cgroups.report)
        inside.enter_root()
        process.become(plan, umask, inside.proc)
    if role == ONE_SHOT:
        # Who supervises by itself expects create to fail for a program that isn't there.
        process.resolve(plan)
    if not message.get("waits"):
        _hand_over(role, message, parent, given, control, held, cgroups, inside)
    if _hung_up(parent, inside=inside is not None):
        # It was killed. Our creator would take whoever has us now for the supervisor, and kill it.
        raise gates.NobodyWants
    # First, so that the fork server hears of it: once launched, init may be paused at any time.
    kept = (gate, parent.watch, parent.alarm, peer)
    process.close_all_but([*(each.fileno() for each in kept if each is not None), *passed])
    frames.send(peer, frames.encode({"launched": parent.identities, "cgroup": cgroups.report}))
    return gate


def _hand_over(
    role: bytes,
    message: dict[str, Any],
    parent: Parent,
    fds: list[int],
    control: _socket.socket | None,
    held: list[int],
    cgroups: Cgroups,
    inside: Inside | None,
) -> None:
    """Give the process above us what it is to have, and have it sleep until it is needed."""
    if parent.waiting is not None:
        from asyncrt.launch import namespaces  # it is there already

        parent.identities["init"] = namespaces.identity(parent.waiting)
    handover.send(
        parent.watch,
        role,
        [*fds, *(() if control is None else (control.fileno(),)), *held],
        durable=message["durable"],
        deadline=message["deadline"],
        lease=message.get("lease"),
        instance=message["instance"],
        pid=parent.identities["init"]["pid"],
        score=message.get("score"),
        cgroups=cgroups.opened,
        namespaces=() if inside is None else inside.opened,
        gofer=None if inside is None or inside.gofer is None else inside.gofer.handed,
    )
    if parent.alarm is not None:
        _set_alarm(parent.alarm, role, message, parent, fds[1], control, held)
    if parent.waiting is not None:
        parent.waiting.close()


def _set_alarm(
    alarm: select.epoll,
    role: bytes,
    message: dict[str, Any],
    parent: Parent,
    creator: int,
    control: _socket.socket | None,
    held: list[int],
) -> None:
    """Say what is to wake the process above us."""
    if control is not None:
        alarm.register(control, select.EPOLLIN)
        alarm.register(creator, select.EPOLLONESHOT)
    heard = message["deadline"] is not None or message.get("score") is not None
    if role == ONE_SHOT or heard or held:
        alarm.register(parent.theirs, select.EPOLLIN)
    elif _must_take(parent, message):
        alarm.register(parent.theirs, select.EPOLLIN | select.EPOLLONESHOT)


def _wait_for_hooks(
    message: dict[str, Any], peer: _socket.socket, parent: Parent, report: CgroupReport | None
) -> None:
    """Let the creator run the hooks that come before the new root, then run our own. Raises Failure.

    Prestart and createRuntime hooks see the namespaces from outside, createContainer hooks from
    inside, with the host's files (config.md, "POSIX-platform Hooks").
    """
    if _hung_up(parent, inside=True):
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
        if why and _hung_up(parent, inside=True):
            raise gates.NobodyWants
        if why:
            raise Failure("createContainer hook", hook["path"], errno.ECANCELED, hook=why)


def _hung_up(parent: Parent, *, inside: bool) -> bool:
    """Whether the process above us is gone."""
    if not inside:
        return os.getppid() != parent.pid
    # From inside a pid namespace no parent can be seen. Our copy of its end would keep it open.
    if parent.theirs >= 0:
        os.close(parent.theirs)
        parent.theirs = -1
    poller = select.poll()
    poller.register(parent.watch, select.POLLIN)
    return bool(poller.poll(0))


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


def _must_take(parent: Parent, message: dict[str, Any]) -> bool:
    """Whether the parent is to take what was handed over now, before it sleeps on.

    It does if there is a spare to be reaped. And a user may have no more descriptors lying in sockets
    than it may have open files (unix(7), ETOOMANYREFS): 341 containers reached the usual 1024, and then
    none of that user's programs could pass descriptors. They count for who sends them, and init is the
    container's user by now.
    """
    plan = message["plan"]
    return not parent.exempt or plan["uid"] is not None or parent.waiting is not None
