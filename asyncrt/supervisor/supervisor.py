"""The role that owns one sandbox: parent and sub-reaper of its processes, writer of its exit record.

It lives in a session of its own, survives the engine that asked for it, holds no lock, and ends
when no process is left and everybody who asked has been answered. Phases: launching (init on its
way to the gate), live, ending (init is dead, the rest is being killed), then it writes the exit
record, answers all connections and exits. Whoever is connected hears of the exit, asked or not, so
that connecting is subscribing and no answer can be missed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket

from asyncrt import _durable, _libc, _paths, clock
from asyncrt.launch import frames, spawn, tree
from asyncrt.launch.failure import Failure
from asyncrt.supervisor import launching
from asyncrt.supervisor.execs import Execs, exit_record
from asyncrt.supervisor.reactor import Connection, Reactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNKILLABLE_SECONDS = 5.0  # how long a process in an uninterruptible sleep may hold up the answer
_RETRY_SECONDS = 0.5  # between tries to write the exit record on a full disk
_FLUSH_SECONDS = 1.0  # how long a client that doesn't read may hold up our end


def main(peer: socket.socket, umask: int, spare: spawn.Spare) -> None:
    """Receive one launch from the creator and see it through to the end."""
    _libc.set_name("asyncrt:super")
    message, fds = frames.receive_message(peer)
    dir_fd, *streams = fds
    try:
        Supervisor(peer, message, dir_fd, umask).run(spare, streams)
    except Exception:  # noqa: BLE001 - the last chance to tell an operator what happened
        import traceback  # noqa: PLC0415 - large, and hardly ever needed

        with contextlib.suppress(OSError):
            text = traceback.format_exc().encode()
            _durable.replace(dir_fd, _paths.CRASH, text, durable=False)
        raise


class Supervisor:
    """One sandbox with one container."""

    def __init__(
        self, creator: socket.socket, message: dict[str, Any], dir_fd: int, umask: int
    ) -> None:
        self._message = message
        self._dir_fd = dir_fd
        self._umask = umask
        self._reactor = Reactor(self._reap)
        self._execs = Execs(self._reactor)
        self._connections: set[Connection] = set()
        self._creator = self._connect(creator)
        self._creator.keep = True  # who rolls back waits for the end of this process by it
        self._acknowledged = False
        self._ready = False  # init stood at its gate, or the creator knows that it never will
        self._init = 0
        self._watch: socket.socket | None = None
        self._failure: Failure | None = None
        self._started_at: str | None = None
        self._reason = ""
        self._status: int | None = None  # of init, once reaped
        self._exit: dict[str, Any] | None = None
        self._recorded = False
        self._paused = False
        self._giving_up = False  # an unkillable process doesn't hold up the exit record any more
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._control = self._listen()

    def _listen(self) -> socket.socket:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        control.bind(_paths.through(self._dir_fd, _paths.CONTROL))
        control.listen(128)
        self._reactor.watch(control.fileno(), self._accept)
        return control

    def run(self, spare: spawn.Spare, streams: list[int]) -> None:
        """Launch, then serve until nothing is left to do."""
        self._init, watch = spare.pid, spare.watch
        try:
            launching.begin(
                spare, self._message, self._dir_fd, streams, umask=self._umask, early=False
            )
        except Failure as failure:
            self._creator.send({"failed": failure.report()})
            return
        watch.setblocking(False)
        self._watch = watch
        self._reactor.watch(watch.fileno(), self._heard)
        while not self._over():
            self._reactor.turn()
        self._say_goodbye()

    # --- what init says

    def _heard(self, _: int) -> None:
        watch = self._watch
        if watch is None:
            return
        try:
            said = watch.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._reactor.forget(watch.fileno())
            watch.close()
            self._watch = None
            return
        if said.startswith(spawn.READY):
            self._creator.send({"launched": launching.identities(self._init)})
            self._ready = True
            said = said[1:]
        if said.startswith(spawn.STARTED):
            self._started_at = clock.stamp()
            deadline = self._message.get("deadline")
            if deadline is not None:
                self._reactor.after(deadline, self._expire)
            said = said[1:]
        if said.startswith(spawn.FAILED):
            self._failure = launching.failure_of(said)
            self._report_failure()

    def _report_failure(self) -> None:
        """Before init stood at its gate a failure is the creator's to hear, later the starter's."""
        if not self._ready:
            self._ready = True
            failure = self._failure or launching.failure_of(b"")
            self._creator.send({"failed": failure.report()})

    def _expire(self) -> None:
        if self._status is None:
            self._reason = "deadline"
            tree.kill(os.getpid())

    # --- children

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self._init and self._status is None:
                while self._watch is not None and self._readable(self._watch):
                    self._heard(0)  # what it said before its end decides the reason
                self._status = status
                self._report_failure()
                self._compose()
                self._reactor.after(_UNKILLABLE_SECONDS, self._give_up)
            else:
                self._execs.reaped(pid, status)
        if self._status is not None and not self._recorded:
            # As the end of a pid namespace's init: nothing of the container outlives it.
            if tree.kill(os.getpid()) and not self._giving_up:
                return  # each death raises SIGCHLD and brings us here again
            self._record()

    @staticmethod
    def _readable(sock: socket.socket) -> bool:
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        return bool(poller.poll(0))

    def _compose(self) -> None:
        assert self._status is not None  # noqa: S101 - narrows the type
        if not self._acknowledged:
            self._reason = "creation interrupted"
        elif self._failure is not None:
            self._reason = "start failed"
        ended = exit_record(self._status, self._reason, self._started_at)
        if self._failure is not None:
            # 127 and the start are ours, no program ever had them.
            ended["exit_code"] = ended["started_at"] = None
        self._exit = {"schema": 1, "instance": self._message["instance"], **ended}

    def _give_up(self) -> None:
        self._giving_up = True
        self._reap()

    def _record(self) -> None:
        """Write the exit record; only then is anybody answered. A full disk is tried again."""
        data = json.dumps(self._exit).encode()
        try:
            _durable.replace(
                self._dir_fd, _paths.EXIT, data, durable=bool(self._message.get("durable", True))
            )
        except FileNotFoundError:
            pass  # the directory was removed: nobody can read it any more
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE):
                self._reactor.after(_RETRY_SECONDS, self._record)
                return
            raise
        self._recorded = True
        for each in list(self._connections):
            each.send(self._goodbye())

    def _goodbye(self) -> dict[str, Any]:
        return {"event": "exit", "exit": self._exit}

    def _over(self) -> bool:
        return self._recorded and not self._has_children()

    @staticmethod
    def _has_children() -> bool:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _say_goodbye(self) -> None:
        """Nobody new can come once the name is gone; whoever came before is answered."""
        for name in (_paths.CONTROL, _paths.GATE):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._dir_fd)
        with contextlib.suppress(OSError):
            while True:
                late, _ = self._control.accept()
                if self._may_talk(late):
                    self._connect(late).send(self._goodbye())
        expired: list[bool] = []
        self._reactor.after(_FLUSH_SECONDS, lambda: expired.append(True))
        while not expired and not all(each.flushed for each in self._connections):
            self._reactor.turn()

    # --- clients

    def _connect(self, sock: socket.socket) -> Connection:
        client = Connection(self._reactor, sock, self._on_message, self._on_close)
        self._connections.add(client)
        return client

    def _accept(self, _: int) -> None:
        try:
            sock, _address = self._control.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                # Take the client off the queue and send it away, or poll would spin on it.
                os.close(self._spare)
                with contextlib.suppress(OSError):
                    self._control.accept()[0].close()
                self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            return
        if not self._may_talk(sock):
            sock.close()
            return
        client = self._connect(sock)
        if self._recorded:
            client.send(self._goodbye())

    @staticmethod
    def _may_talk(sock: socket.socket) -> bool:
        return frames.peer_uid(sock) in (0, os.geteuid())

    def _on_close(self, client: Connection) -> None:
        self._connections.discard(client)
        if client is self._creator and not self._acknowledged:
            # The creator died or rolled back: nothing may stay that no record tells of.
            self._end()

    def _on_message(self, client: Connection, message: dict[str, Any], fds: list[int]) -> None:
        request = message.get("req")
        try:
            self._serve(client, message, fds)
        except OSError as error:
            failure = Failure(str(message.get("op")), "", error.errno or errno.EIO)
            client.send({"re": request, "failed": failure.report()})
        except Exception as error:  # noqa: BLE001 - no message, however bad, ends a supervisor
            client.send({"re": request, "error": f"bad message: {error!r}"})
        finally:
            for fd in fds:
                os.close(fd)

    def _serve(self, client: Connection, message: dict[str, Any], fds: list[int]) -> None:
        operation = message["op"]
        if operation == "acknowledge":
            self._acknowledged = True
            self._creator.keep = False
            return
        request = message["req"]
        if operation == "withdraw":
            self._execs.withdraw(client, int(message["exec"]))
        elif self._status is not None:
            client.send({"re": request, "ended": True})
            return
        elif operation == "exec":
            if self._paused and not message.get("ignore_paused"):
                client.send({"re": request, "paused": True})
                return
            if len(fds) != 3:
                raise ValueError("an exec needs three streams")
            self._execs.start(client, message, fds, self._umask)
            return
        elif operation == "pause":
            tree.stop(os.getpid())
            self._paused = True
        elif operation == "resume":
            self._paused = False
            tree.resume(os.getpid())
        elif operation == "signal":
            below = tree.descendants(os.getpid())
            tree.signal_below(os.getpid(), below, int(message["signal"]))
        elif operation == "end":
            self._end()
        else:
            raise ValueError(f"unknown operation {operation!r}")
        client.send({"re": request, "ok": {}})

    def _end(self) -> None:
        if self._status is None and self._init:
            tree.kill(os.getpid())
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)


