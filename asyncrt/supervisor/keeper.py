"""From a spare process to a supervisor or a one-shot: who stays above an init.

It sleeps until something happens: init ended, a client came, an orphan is to be reaped. An idle
supervisor has run next to no code since its fork, and that is what keeps it small: each page that
Python's reference counts touch becomes a process's own, and there may be a thousand supervisors.
"""

from __future__ import annotations

import _socket
import contextlib
import os

# By name what runs before the first sleep: the first look-up in a module is written to a cache of the
# interpreter's, and counts references to the name and to the one that goes: three pages each.
from os import close, fork, getpid, setsid, waitpid
from select import EPOLLHUP, EPOLLIN, EPOLLRDHUP, epoll

from asyncrt import _csignal, _durable, _paths, clock
from asyncrt._libc import become_subreaper
from asyncrt.launch import frames, handover, init, tree
from asyncrt.launch.handover import pid_of, take
from asyncrt.supervisor import one_shot
from asyncrt.supervisor.loop import Loop
from asyncrt.supervisor.supervisor import Supervisor
from asyncrt.supervisor.workload import Workload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_PIPE = os.O_NONBLOCK | os.O_CLOEXEC
_CLOSED = EPOLLHUP | EPOLLRDHUP


def spare(
    requests: int,
    taking: int,
    umask: int,
    exempt: bool,  # noqa: FBT001 - passed down
    null: int,
) -> NoReturn:
    """Fork an init that waits for a request, keep what it launches, never return.

    SIGCHLD must have a handler already, or no wake-up byte is written for it.
    """
    code = 1
    try:
        setsid()
        become_subreaper()
        alarm, wakeup, watch, ours, theirs = _get_ready()
        above = getpid()
        try:
            pid = fork()
        except OSError as error:
            refuse(_socket.socket(fileno=requests), error)
            raise
        if pid == 0:
            init.live(requests, taking, above, ours, theirs, alarm, umask, exempt, null)
        close(taking)
        close(requests)
        close(theirs)
        if null >= 0:
            close(null)
        woken = _sleep(alarm, ours)
        handed = take(watch)
        while handed is None:
            # Before the look: of an end after it there is another byte, and nobody sleeps over it.
            _empty(wakeup)
            alive = _lives(pid)
            woken = _sleep(alarm, ours) if alive else wakeup
            handed = take(watch)
            if not alive:
                break
        if handed is not None:  # else init was told no, or nobody wants it any more
            made = pid_of(handed)
            if made != pid:
                # The spare cloned the init of a sandbox, a child of ours too, and ends now.
                waitpid(pid, 0)
                _empty(wakeup)
                if _lives_alone(made) and not handover.has_gofer(handed):
                    _sleep(alarm, ours)  # with a gofer, whose end is to be heard, it is awake
            elif woken == ours:
                _sleep(alarm, ours)  # it was to take this only, or what follows wakes it at once
            # From here on it is awake, and no page needs to be spared.
            _keep(made, watch, wakeup, umask, handed)
        else:
            _, status = waitpid(pid, 0)
            if os.waitstatus_to_exitcode(status) != init.HOOK_DONE:
                _end_all()
        code = 0
    finally:
        os._exit(code)


def _get_ready() -> tuple[epoll, int, _socket.socket, int, int]:
    """What it sleeps on, where a byte comes for each SIGCHLD, and the way to init, from both ends.

    The socket pair comes from the C half of the socket module, and descriptors stay numbers: the
    Python half touches ten pages more.
    """
    alarm = epoll()
    wakeup, wake = os.pipe2(_PIPE)
    _csignal.set_wakeup_fd(wake)
    alarm.register(wakeup, EPOLLIN)
    watch, other = _socket.socketpair()
    return alarm, wakeup, watch, watch.fileno(), other.detach()


def _sleep(alarm: epoll, ours: int) -> int:
    """Wait for one event; which descriptor's. The others stay to be waited for.

    A creator that closes its end is no reason to wake up, and told but once (see init), unless it has
    a lease: then RDHUP was asked for too. Init has our number for its watch open, so the creator
    can't have that one there.
    """
    woken, events = alarm.poll(None, 1)[0]
    while events & _CLOSED == EPOLLHUP and woken != ours:
        woken, events = alarm.poll(None, 1)[0]
    return woken


def _empty(wakeup: int) -> None:
    # SIGCHLD comes too when a child is stopped or goes on; left there, its byte would keep us awake.
    try:  # noqa: SIM105 - a context manager costs pages
        os.read(wakeup, 4096)
    except BlockingIOError:
        pass


def refuse(requests: _socket.socket, error: OSError) -> None:
    """No process can be forked: whoever asks next hears why."""
    _, fds = frames.receive(requests, 1)
    for fd in fds:
        peer = _socket.socket(fileno=fd)
        failure = {"what": "fork", "path": "", "errno": error.errno, "hook": ""}
        with contextlib.suppress(OSError):  # it asked and went
            frames.send(peer, frames.encode({"failed": failure}))
        peer.close()


def _lives(pid: int) -> bool:
    """Whether our child hasn't ended yet; it stays to be reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _end_all() -> None:
    """End the hook that our killed child ran, or the init that it cloned: nobody else does.

    They are reaped as well. A zombie holds up the end of a whole pid namespace, if it had joined one,
    and not every machine's first process reaps what it gets.
    """
    tree.kill(os.getpid())
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _lives_alone(init: int) -> bool:
    """Whether init hasn't ended; whoever else has is reaped."""
    while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
        if found.si_pid == init:
            return False
        os.waitpid(found.si_pid, 0)
    return True


def _keep(
    pid: int, watch: _socket.socket, wakeup: int, umask: int, handed: handover.Handed
) -> None:
    unpacked = handover.unpack(handed)
    if unpacked[0] == frames.ONE_SHOT:
        one_shot.keep(pid, watch)
        return
    loop = Loop(wakeup)
    root = Workload(loop, pid, watch, umask, unpacked)
    try:
        Supervisor(loop, root).run()
    except Exception:
        import traceback

        # The last chance to tell an operator what happened.
        text = traceback.format_exc().encode()
        _durable.replace(root.dir_fd, _paths.CRASH, text, durable=False)
        raise


def rehearse() -> None:
    """Run what a supervisor runs at its container's end, without effect, as in asyncrt.launch.init.

    It is the fork server that does so: what the interpreter makes of code and look-ups at their first
    runs is then shared with all supervisors. (A rehearsal in each would make it bigger.)
    """
    # A ValueError: the end couldn't be written for another reason than that there is no place for it,
    # on a full disk say, and it has nothing to wait for the next try with.
    with contextlib.suppress(OSError, ValueError):
        _rehearse_waiting()
    with contextlib.suppress(OSError, ValueError):
        _rehearse()


def _rehearse_waiting() -> None:
    try:
        _, wakeup, watch, ours, theirs = made = _get_ready()
    finally:
        wake = _csignal.set_wakeup_fd(-1)
    try:
        os.write(wake, b"\0")
        _sleep(made[0], ours)
        _empty(wakeup)
        handover.take(watch)
        _lives_alone(-1)  # raises, as nobody is there yet
    finally:
        for fd in (wake, wakeup, theirs):
            os.close(fd)
        watch.close()


def _rehearse() -> None:
    watch, init_end = _socket.socketpair()
    creator, creator_end = _socket.socketpair()
    init_end.send(handover.ACKNOWLEDGED + handover.STARTED + clock.stamp().encode())
    init_end.close()
    # No file can be made there, which is taken for a directory that somebody has removed.
    nowhere = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _takes_no_file(nowhere):
            loop = Loop(-1)
            fds = [nowhere, creator.fileno(), creator.fileno()]
            score = handover.NO_SCORE
            handed: handover.Unpacked = (
                *(frames.SUPERVISED, True, -1.0, -1.0, b"0" * 32, score),
                *(fds, [], [], None),
            )
            root = Workload(loop, 0, watch, 0o077, handed)
            root.end.come(0)  # with 0, and reaped already
            Supervisor(loop, root).run()
    finally:
        os.close(nowhere)
        for each in (watch, creator, creator_end):
            each.close()


def _takes_no_file(dir_fd: int) -> bool:
    """Whether a record can't be written there for the one reason that isn't tried again."""
    try:
        _durable.replace(dir_fd, _paths.EXIT, b"", temporary=_paths.EXIT_BEING_SAVED)
    except FileNotFoundError:
        return True
    os.unlink(_paths.EXIT, dir_fd=dir_fd)
    return False
