"""Container: the handle people hold. Each verb lives in a file of its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Self

from asyncrt import status as statuses
from asyncrt._seconds import refuse_no_number
from asyncrt._threads import run_blocking
from asyncrt.container import destroy as destroying
from asyncrt.container import exec as executing
from asyncrt.container import export as exporting
from asyncrt.container import hooks, logs, pause, start
from asyncrt.container import kill as killing
from asyncrt.container import lease as leasing
from asyncrt.container import stats as measuring
from asyncrt.container import terminal as terminals
from asyncrt.container import update as updating
from asyncrt.container import wait as waiting
from asyncrt.container.context import refuse_foreign
from asyncrt.container.exec_plan import Program
from asyncrt.container.following import Following
from asyncrt.container.processes import list_processes
from asyncrt.container.streams import DEVNULL, INHERIT
from asyncrt.ids import ContainerId
from asyncrt.state import view_of

if TYPE_CHECKING:
    import os
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncGenerator, Iterable, Mapping
    from datetime import datetime, timedelta

    from asyncrt.container.context import Context
    from asyncrt.container.exec import Process
    from asyncrt.container.following import OutOfMemory
    from asyncrt.container.kill import SignalLike
    from asyncrt.container.lease import Lease
    from asyncrt.container.log_reader import LogLine, StreamName
    from asyncrt.container.passing import PassedFds
    from asyncrt.container.processes import ProcessInfo
    from asyncrt.container.stats import Stats
    from asyncrt.container.streams import Streams, StreamTarget
    from asyncrt.container.terminal import Attachment, TerminalChoice
    from asyncrt.state import Event, ExitResult, Record, View


class Container:
    """A handle to one container, bound to its instance.

    Once that instance is destroyed, every verb raises ContainerNotFound (destroy succeeds), even if
    the id is taken again. Belongs to its engine's event loop. `stdin`, `stdout` and `stderr` are
    asyncio streams of those that create was asked to make PIPE, else None. `terminal` says whether it
    has a terminal to attach to, `logged` whether it has a log.

    All verbs but wait raise ContainerBusy when the container's lock can't be had in `timeout` seconds
    (None: the engine's lock_timeout) and SandboxUnresponsive when its supervisor doesn't answer.
    """

    def __init__(
        self,
        context: Context,
        container_id: ContainerId,
        instance: str,
        streams: Streams | None = None,
        *,
        terminal: bool = False,
        logged: bool = False,
    ) -> None:
        """Made by Engine.create and Engine.load."""
        self._context = context
        self._streams = streams
        self.id = container_id
        self.instance = instance
        self.terminal = terminal
        self.logged = logged
        self.stdin: StreamWriter | None = streams.stdin if streams else None
        self.stdout: StreamReader | None = streams.stdout if streams else None
        self.stderr: StreamReader | None = streams.stderr if streams else None

    @classmethod
    def of(cls, context: Context, record: Record, streams: Streams | None = None) -> Self:
        """The handle to a record's container; the streams become its own."""
        return cls(
            context,
            ContainerId(record.id),
            record.instance,
            streams,
            terminal=record.terminal,
            logged=bool(record.logs),
        )

    def __repr__(self) -> str:
        return f"<Container {self.id} {self.instance[:8]}>"

    async def view(self) -> View:
        """What is true of it now; takes no lock. If cancelled, nothing has changed."""
        return view_of(*await self._context.look(self.id, self.instance))

    async def state(self) -> dict[str, object]:
        """Its OCI state (runtime.md#state) as json takes it. If cancelled, nothing has changed."""
        record, observed = await self._context.look(self.id, self.instance)
        spec = await hooks.read_spec(self._context, self.id)
        pid = record.init.pid if record.init is not None else None
        return hooks.report(record, spec, observed.status, pid)

    async def start(self, *, timeout: float | None = None) -> None:
        """Start the program of a created container.

        Raises StartFailed when it can't be executed, with errno and path; the container is stopped
        then. Raises HookFailed when a hook fails; it is destroyed then. Raises InvalidTransition
        unless created. If cancelled, it stays created, unless the gate was opened already: then the
        start is finished and recorded first.
        """
        await start.start(self._context, self.id, self.instance, timeout)

    async def pause(self, *, timeout: float | None = None) -> None:
        """Stop all its processes where they are; it remembers whether it was created or running.

        Raises InvalidTransition unless created or running. If cancelled, it is either not paused or
        paused and recorded as such.
        """
        await pause.pause(self._context, self.id, self.instance, timeout)

    async def resume(self, *, timeout: float | None = None) -> None:
        """Let a paused container go on as what it was.

        Raises InvalidTransition unless paused. If cancelled, it is either paused or resumed and
        recorded as such.
        """
        await pause.resume(self._context, self.id, self.instance, timeout)

    async def update(
        self,
        resources: Mapping[str, object] | None = None,
        *,
        memory: int | str | None = None,
        pids: int | None = None,
        cpu: float | None = None,
        timeout: float | None = None,
    ) -> None:
        """Change its limits: those that are named, and all of them or none.

        Args:
            resources: An object as OCI's `linux.resources`, `{"memory": {"limit": 2**30}}`. What isn't
                in it stays; 0 where OCI takes it for unset, and None, are nothing named. -1 is no limit.
                The rules for devices can't be changed.
            memory: Instead: bytes, or a text like "256M"; no swap beside it.
            pids: How many processes and threads there may be.
            cpu: How many CPUs' time it may use; 0.5 is half of one.
            timeout: Seconds to wait for the container's lock (None: the engine's lock_timeout).

        For one that has a cgroup: that was created with limits, a cgroupsPath or, where its user may
        make one, on `linux`. Raises SpecInvalid for what no kernel takes, SpecUnsupported for what
        can't be had here, UpdateFailed for what the kernel refuses, each with the JSON path; the old
        limits hold then. Raises InvalidTransition when stopped. If cancelled, all of it holds or none.
        """
        await updating.update(
            self._context,
            self.id,
            self.instance,
            resources,
            memory=memory,
            pids=pids,
            cpu=cpu,
            timeout=timeout,
        )

    async def kill(
        self,
        signal: SignalLike = "TERM",
        *,
        all: bool = False,
        pid: int | None = None,
        pgid: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Send a signal (name, number or signal.Signals) to init, or to what the options say.

        `all`: to every process; KILL then returns when nothing of it is alive. `pid`, `pgid`: to one
        process or group of the container's, else ProcessNotFound. A paused container gets KILL at
        once and other signals when it resumes. Raises SignalRefused for what has become another
        user's, by sudo say, when all others have got it. Takes no lock. If cancelled, it may have been sent.
        """
        await killing.kill(
            self._context,
            self.id,
            self.instance,
            signal,
            all=all,
            pid=pid,
            pgid=pgid,
            timeout=timeout,
        )

    async def stop(self, grace_seconds: float = 10, *, timeout: float | None = None) -> None:
        """TERM to init, `grace_seconds` to end, then KILL to all of it; it is stopped afterwards.

        Takes no lock. Raises InvalidTransition when already stopped. If cancelled, TERM may have
        been sent; nothing more follows.
        """
        await killing.stop(
            self._context, self.id, self.instance, grace_seconds=grace_seconds, timeout=timeout
        )

    async def renew(self, lease: Lease | None, *, timeout: float | None = None) -> None:
        """Own it from now on, whoever did before; with None it needs no owner any more.

        This engine is the owner then, see Lease, until somebody else renews. Raises
        InvalidTransition when it has stopped, also for want of an owner; with None that is fine, and
        spares its record from gc. Raises ContainerBusy. If cancelled, the renewal is finished first.
        """
        await leasing.renew(self._context, self.id, self.instance, lease, timeout)

    async def wait(self, timeout: float | None = None) -> ExitResult:
        """How it ended, as soon as it has: the same for all who ask, in any process, any time.

        Raises TimeoutError after `timeout` seconds (None: no limit). If cancelled, nothing changes.
        """
        if timeout is not None:
            refuse_no_number(timeout, "timeout")
        return await waiting.wait(self._context, self.id, self.instance, timeout)

    async def exec(
        self,
        args: Iterable[str | os.PathLike[str]] | None = None,
        *,
        process: Mapping[str, object] | str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        user: int | str | None = None,
        additional_gids: Iterable[int] = (),
        capabilities: Iterable[str] = (),
        no_new_privs: bool = False,
        apparmor_profile: str | None = None,
        selinux_label: str | None = None,
        cgroup: str | None = None,
        stdin: StreamTarget = DEVNULL,
        stdout: StreamTarget = INHERIT,
        stderr: StreamTarget = INHERIT,
        terminal: TerminalChoice | None = None,
        console_socket: str | os.PathLike[str] | None = None,
        pass_fds: PassedFds | None = None,
        deadline_seconds: float | None = None,
        lease: Lease | None = None,
        ignore_paused: bool = False,
        timeout: float | None = None,
    ) -> Process:
        """Run a program beside init, in its environment and limits; returns once it runs.

        `env`, `additional_gids` and `capabilities` are added to the container's own, `cwd`, `user`,
        `apparmor_profile` and `selinux_label` replace them; `no_new_privs` has it gain none by what it
        executes. Instead of `args` and these a
        `process` may be given, as OCI's config has one, or the path of a JSON file of it: what it
        leaves out, all but args and terminal, is as the container's. `cgroup` is the path of one below
        the container's, which must be there.

        With `terminal`, True or rows and columns, its streams are a terminal of its own: the process's
        `terminal`, or sent to a listening `console_socket`. It hangs up when that is closed.
        `pass_fds` is as for Engine.create.

        After `deadline_seconds` everything that descends from it is killed (a result, reason deadline),
        likewise with a `lease` when this engine is gone for its grace.
        Raises StartFailed when it can't be executed and InvalidTransition unless created or running
        (or paused, with `ignore_paused`; in a cgroup, which is frozen, it runs once the container is
        resumed). If cancelled, it is killed.
        """
        return await executing.execute(
            self._context,
            self.id,
            self.instance,
            Program(
                *(args, process, env, cwd, user),
                *(additional_gids, capabilities, no_new_privs),
                *(apparmor_profile, selinux_label, cgroup),
            ),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            terminal=terminal,
            console_socket=console_socket,
            pass_fds=pass_fds,
            deadline_seconds=deadline_seconds,
            lease=lease,
            ignore_paused=ignore_paused,
            timeout=timeout,
        )

    async def logs(
        self,
        *,
        follow: bool = False,
        since: datetime | timedelta | None = None,
        tail: int | None = None,
        stream: StreamName | None = None,
    ) -> AsyncGenerator[LogLine, None]:
        """The lines of its log, oldest first, both streams in the order of time.

        Args:
            follow: Go on with what is written, until the container has ended and all is read.
            since: Only what came at that time or later (an aware datetime), or that long ago.
            tail: Only so many of the last lines; of each stream, if the log has no timestamps.
            stream: "stdout" or "stderr" only.

        Raises NoOutput for a container whose output goes elsewhere, SpecInvalid for a `since` in a
        log without timestamps. Where the log's disk was full, or a part was rotated away before it
        was read, a warning is logged. If cancelled, nothing stays open; who
        breaks off earlier closes it (`contextlib.aclosing`), or the interpreter does.
        """
        lines = logs.read(
            self._context,
            self.id,
            self.instance,
            follow=follow,
            since=since,
            tail=tail,
            stream=stream,
        )
        async with contextlib.aclosing(lines):
            async for line in lines:
                yield line

    async def attach(self, *, timeout: float | None = None) -> Attachment:
        """A new client of its terminal: sees what is written there from now on, and types.

        Any number at once, from any process: each gets all output, the input of all goes in. The
        caller closes it; the container goes on. Attach before start to miss nothing. Raises NoOutput
        for a container without a terminal, InvalidTransition when stopped. If cancelled, it isn't
        attached.
        """
        return await terminals.attach(self._context, self.id, self.instance, timeout)

    async def processes(self) -> list[ProcessInfo]:
        """Its processes, init first. Raises InvalidTransition when stopped.

        If cancelled, nothing has changed.
        """
        record, observed = await self._context.look(self.id, self.instance)
        statuses.require(self.id, "ps", observed.status)
        refuse_foreign(record, "ps")
        return await run_blocking(list_processes, record, self._context.root)

    async def stats(self) -> Stats:
        """What it uses now: cpu, memory, storage, limits. Raises InvalidTransition when stopped.

        If cancelled, nothing has changed.
        """
        return await measuring.stats(self._context, self.id, self.instance)

    async def events(
        self, interval: float | None = 5.0
    ) -> AsyncGenerator[Stats | OutOfMemory | Event]:
        """What it uses, runs out of and becomes, as it comes, until it has ended.

        Stats at once and then every `interval` seconds (None: none), OutOfMemory when the kernel
        finds no more memory for it, Event for each transition. Its end is noticed at once, in the
        middle of an interval too. Raises InvalidTransition when it is stopped already. If cancelled,
        nothing is left open.
        """
        following = Following(self._context, interval).some([(self.id, self.instance)])
        async with contextlib.aclosing(following) as found:
            async for each in found:
                yield each

    async def export(self, *, timeout: float | None = None) -> AsyncGenerator[bytes, None]:
        """What it wrote to its overlay: an uncompressed tar archive, as layers of OCI images are.

        What it removed of its root file system is there as `.wh.NAME`, a directory that hides all
        of the one below has `.wh..wh..opq` in it. While it runs, each file is as it was when its
        turn came, so that two files may not fit together; paused or stopped, all is of one moment.
        Sockets, names that would mean a removal, and paths that nobody could name are left out,
        which a warning tells. The pieces come as fast as they are taken; any number of exports may
        go on at a time.

        Raises ExportFailed for a container without an overlay, and when it couldn't come to its end: also
        when its writer, stopped say, sends nothing for `timeout` seconds, 60 for None.
        If cancelled, nothing stays open; who breaks off earlier closes it (`contextlib.aclosing`), or
        the interpreter does.
        """
        pieces = exporting.export(self._context, self.id, self.instance, timeout)
        async with contextlib.aclosing(pieces):
            async for data in pieces:
                yield data

    async def delete(self, *, timeout: float | None = None) -> None:
        """Remove it if it is stopped; InvalidTransition otherwise, ContainerNotFound when gone.

        If cancelled, the record stays until all is done: deleting again finishes it.
        """
        await destroying.delete_stopped(self._context, self.id, self.instance, timeout)
        self._let_go()

    async def destroy(self, *, timeout: float | None = None) -> None:
        """Stop it if need be, run its poststop hooks, remove all of it. Idempotent.

        Raises DestroyFailed with what is left if something couldn't be stopped; the record stays
        then. If cancelled, the record stays until all is done: destroying again finishes it.
        """
        await destroying.destroy(self._context, self.id, self.instance, timeout)
        self._let_go()

    def _let_go(self) -> None:
        if self._streams is not None:
            self._streams.disconnect()
