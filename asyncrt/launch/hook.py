"""Run one OCI hook to its end: state on standard input, bounded in time, the whole group killed.

Nothing here waits on a pipe, so a grandchild that keeps one open can't hold us up: the state comes
from a memory file and what the hook says goes into one.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

from asyncrt import _csignal, _procid
from asyncrt.launch import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from asyncrt.launch.plan import HookPlan

_LONGEST_POLL = 2**31 - 1  # milliseconds, an int to poll(2): 24 days
_TAIL = 400  # bytes of what a failing hook said that go into the error


def serve(peer: _socket.socket, umask: int) -> None:
    """Run one for an engine; an end-of-file from it meanwhile kills the hook's group."""
    _procid.set_name("asyncrt:hook")
    os.umask(umask)
    message, _ = frames.receive_message(peer)
    why = run(message["hook"], message["state"].encode(), abandon=peer.fileno())
    frames.send(peer, frames.encode({"why": why}))


def run(hook: HookPlan, state: bytes, *, abandon: int = -1) -> str:
    """Run the hook; "" when it succeeded, else why not. It runs in a session of its own.

    `abandon` is a descriptor that becomes readable when nobody wants the hook any more: its process
    group is killed then, as after its timeout (seconds).
    """
    try:
        return _run(hook, state, abandon)
    except OSError as error:
        return f"can't be run: {error.strerror}"


def _run(hook: HookPlan, state: bytes, abandon: int) -> str:
    said = os.memfd_create("hook-output", os.MFD_CLOEXEC)
    told = -1
    try:
        told = os.memfd_create("hook-state", os.MFD_CLOEXEC)
        os.write(told, state)
        os.lseek(told, 0, os.SEEK_SET)
        env = dict(pair.split("=", 1) for pair in hook["env"])
        try:
            pid = os.posix_spawn(
                hook["path"],
                hook["args"],
                env,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, told, 0),
                    (os.POSIX_SPAWN_DUP2, said, 1),
                    (os.POSIX_SPAWN_DUP2, said, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[_csignal.SIGPIPE, _csignal.SIGXFSZ, _csignal.SIGCHLD],
            )
        except OSError as error:
            return f"can't be executed: {error.strerror}"
        return _await(pid, hook["timeout"], abandon, said)
    finally:
        os.close(said)
        if told >= 0:
            os.close(told)


def _await(pid: int, timeout: float | None, abandon: int, said: int) -> str:
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        _kill_group(pid)
        os.waitpid(pid, 0)
        raise
    why = ""
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if abandon >= 0:
            poller.register(abandon, select.POLLIN)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if left is not None:
            left = min(left, _LONGEST_POLL)
        ready = {fd for fd, _ in poller.poll(left)}
        if pidfd not in ready:
            why = "abandoned" if ready else f"took longer than {timeout:g} s, killed"
            _kill_group(pid)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
    if why:
        return why
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return ""
    ending = f"exit status {code}" if code > 0 else f"killed by signal {-code}"
    tail = _tail(said)
    return f"{ending}: {tail}" if tail else ending


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, _csignal.SIGKILL)


def _tail(said: int) -> str:
    size = os.fstat(said).st_size
    raw = os.pread(said, _TAIL, max(0, size - _TAIL))
    return " ".join(raw.decode(errors="replace").split())
