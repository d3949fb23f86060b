"""Engine: create, find, list and mend containers under one root directory."""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import TYPE_CHECKING, Self

from asyncrt._seconds import check_seconds
from asyncrt._threads import finish, run_blocking
from asyncrt.container import (
    DEVNULL,
    INHERIT,
    Container,
    Context,
    HookCalls,
    Lease,
    PassedFds,
    StreamTarget,
    Supervision,
    TerminalChoice,
)
from asyncrt.container.callables import by_kind
from asyncrt.container.users import user_name
from asyncrt.engine.delete import delete_forced
from asyncrt.engine.making import make
from asyncrt.engine.many import Many
from asyncrt.engine.pool import Pool, refuse_kept
from asyncrt.engine.recovery import recover
from asyncrt.engine.run import Runs
from asyncrt.engine.sandboxes import Sandboxes
from asyncrt.engine.telling import Telling
from asyncrt.errors import SpecInvalid
from asyncrt.ids import check_id
from asyncrt.oci import home_of
from asyncrt.platforms import PLATFORM_NAMES
from asyncrt.state import Filter, View, find, list_views, open_root, read_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta

    from asyncrt.engine.recovery import RecoveryReport
    from asyncrt.oci import Spec
    from asyncrt.platforms import Overlay

PathLike = str | os.PathLike[str]


class Engine(Runs, Sandboxes, Many, Telling):
    """Containers under one root directory, from one event loop.

    Any number of engines, in any number of processes, may share a root. Cheap to make; it opens
    nothing until used, never forks itself, and leaves its containers running when closed, all but
    those with a lease.
    """

    def __init__(
        self,
        root: PathLike | None = None,
        platform: str = "auto",
        lock_timeout: float = 30.0,
        *,
        durable: bool = True,
        hooks: HookCalls = (),
        pivot_root: bool = True,
    ) -> None:
        """Bind to `root` (None: the default one); it is made when the engine is entered.

        Args:
            root: The directory that all engines of these containers share.
            platform: How processes are made: "auto" or "host".
            lock_timeout: Seconds a verb waits for a container's lock unless told otherwise.
            durable: Sync records to disk so that they survive a power loss. Without it they survive
                any kill, but not that.
            hooks: Python callables, sync or async, by kind ("prestart", "createRuntime",
                "createContainer", "poststart", "poststop"): a mapping to one or several, or pairs.
                Each is called with the OCI state, after the spec's hooks of its kind, by the verbs
                of this engine only and under the container's lock, and fails as those do. Sync ones
                run in a thread.
            pivot_root: False on a machine whose root is an initramfs, which that call can't leave:
                sandboxes are chrooted then, and none may have CAP_SYS_ADMIN.

        Raises SpecInvalid for a platform or a kind of hooks that doesn't exist, and for a lock_timeout
        that is no number of seconds.
        """
        if platform not in PLATFORM_NAMES:
            names = ", ".join(PLATFORM_NAMES)
            raise SpecInvalid(
                json_path="", why=f"there is no platform {platform!r}; choose one of {names}"
            )
        check_seconds(lock_timeout, "lock_timeout")
        self._given_root = root
        self._platform = platform
        self._lock_timeout = lock_timeout
        self._durable = durable
        self._hooks = by_kind(hooks)
        self._pivot_root = pivot_root
        self._context_: Context | None = None

    @property
    def _context(self) -> Context:
        if self._context_ is None:
            raise RuntimeError("the engine isn't open: use 'async with asyncrt.Engine(...)'")
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return self._context_  # looked at from outside of any loop
        if self._context_.loop is not running:
            raise RuntimeError("the engine belongs to another event loop: make one for each")
        return self._context_

    @property
    def root(self) -> str:
        """The absolute path of the root directory."""
        if self._context_ is None:
            raise RuntimeError("the engine isn't open: use 'async with asyncrt.Engine(...)'")
        return self._context_.root

    async def __aenter__(self) -> Self:
        """Open the root, making it if missing. Raises RootUnusable.

        If cancelled, the root may have been made.
        """
        if self._context_ is not None:
            raise RuntimeError("the engine is open already: use it, or make another")
        root, owner = await run_blocking(_look_up, self._given_root)
        self._context_ = Context(
            root,
            owner=owner,
            platform=self._platform,
            lock_timeout=self._lock_timeout,
            durable=self._durable,
            hooks=self._hooks,
            pivot_root=self._pivot_root,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close it; see close. If cancelled, it is closed all the same."""
        await self.close()

    async def close(self) -> None:
        """Let go of everything this engine holds open; containers go on. Idempotent.

        Those that it owns by a lease are stopped, after the grace: their owner is gone. That isn't
        waited for.

        If cancelled, it is closed all the same.
        """
        if self._context_ is None:
            return
        context = self._context
        self._context_ = None
        await finish(context.close())

    async def create(
        self,
        id: str,
        *,
        spec: Spec | None = None,
        bundle: PathLike | None = None,
        stdin: StreamTarget = DEVNULL,
        stdout: StreamTarget = INHERIT,
        stderr: StreamTarget = INHERIT,
        deadline_seconds: float | None = None,
        lease: Lease | None = None,
        terminal: TerminalChoice | None = None,
        console_socket: PathLike | None = None,
        pass_fds: PassedFds | None = None,
        supervision: Supervision = "own",
        overlay: Overlay | None = None,
        timeout: float | None = None,
    ) -> Container:
        """A new container whose init waits at its gate, from a spec or a bundle's directory.

        Args:
            id: Letters, digits and `_+.-`, at most 200; must be free.
            spec: What to run; or
            bundle: an OCI bundle: a directory with a config.json.
            stdin: DEVNULL, INHERIT, PIPE, a descriptor or an open file.
            stdout: Likewise, or LOG.
            stderr: Likewise, or LOG.
            deadline_seconds: It is killed so long after its start; that is a result, not an error.
                For supervision "own" only.
            lease: It is stopped when this engine is gone, closed or killed, for the lease's grace.
                Its record stays. None: it outlives the engine. For supervision "own" only.
            terminal: Its streams are a terminal, to be attached to: True, or its rows and columns. None:
                as the spec says. `stdout` may be LOG and keep what it shows. It ends with its
                supervisor.
            console_socket: A listening UNIX socket that the terminal is sent to instead (OCI).
            pass_fds: Descriptors or open files of ours that it has too, by the number that each has
                there: {3: listener}. They stay the caller's as well, who shares their flags and
                positions with it (O_NONBLOCK, for example).
            supervision: "own": a supervisor records its exit. "caller": nothing of ours stays
                behind; whoever reaps init knows its exit status, others learn it where the kernel
                tells (Linux 6.15).
            overlay: What it writes goes to a layer over its root file system, which stays as it is
                (see Overlay, Container.export). On linux only, for supervision "own".
            timeout: Seconds to wait for the id's lock (None: the engine's lock_timeout), and for init to
                stand at its gate.

        Raises InvalidId, ContainerExists, ContainerBusy, SpecInvalid, SpecUnsupported, StartFailed
        (user, cwd, limits), HookFailed, SandboxUnresponsive, StorageFailed; nothing is left of it
        then. If cancelled, everything begun is undone before CancelledError is raised.
        """
        context = self._context
        record, streams = await make(
            context,
            id,
            spec=spec,
            bundle=bundle,
            streams=(stdin, stdout, stderr),
            supervision=supervision,
            deadline_seconds=deadline_seconds,
            lease=lease,
            terminal=terminal,
            console_socket=console_socket,
            pass_fds=pass_fds,
            overlay=overlay,
            timeout=timeout,
        )
        return Container.of(context, record, streams)

    async def load(self, id: str) -> Container:
        """The container of that id, or the one whose id begins so; an exact match always wins.

        Raises InvalidId, ContainerNotFound, AmbiguousId with the candidates, StateCorrupted,
        SchemaTooNew. If cancelled, nothing has changed.
        """
        context = self._context
        container_id = await context.run(find, context.root, id)
        record = await context.run(read_record, context.root, container_id)
        context.take_over(record)
        return Container.of(context, record)

    async def list(
        self,
        *,
        status: str | Iterable[str] | None = None,
        sandbox: str | None = None,
        annotations: Mapping[str, str | None] | None = None,
        until: datetime | timedelta | None = None,
    ) -> list[View]:
        """Views of all containers, sorted by id; never waits behind a writer.

        Broken ones are among them, with `broken` saying why.

        Args:
            status: Only those in it, or in one of several; "broken" is told like one.
            sandbox: Only those of the sandbox with this id.
            annotations: Only those that have all of these with that value (None: with any).
                Each config.json that is read for it costs as much as the rest: give what else you
                know.
            until: Only those created before that time (an aware datetime), or so long ago.

        Raises SpecInvalid for a status that there isn't, InvalidId for a sandbox that there can't
        be. If cancelled, nothing has changed.
        """
        wanted = Filter.of(status, sandbox, annotations, until)
        return await run_blocking(list_views, self._context.root, wanted)

    def pool(
        self,
        *,
        size: int,
        spec: Spec | None = None,
        bundle: PathLike | None = None,
        prefix: str = "pool",
        stdin: StreamTarget = DEVNULL,
        stdout: StreamTarget = INHERIT,
        stderr: StreamTarget = INHERIT,
        deadline_seconds: float | None = None,
        lease: Lease | None = None,
        overlay: Overlay | None = None,
    ) -> Pool:
        """A context that keeps `size` created containers in stock, sandboxes too; see Pool.

        Their ids are `prefix`, a dash, and a random number. `lease` is theirs, None being one with a
        grace of 0: they are always attached to this engine. Each has a layer of its own, of the kind
        that `overlay` says; one that is kept is one container's and refused. Other arguments are
        create's. Raises SpecInvalid for that and for a size below 1, InvalidId for a prefix that
        makes no ids.
        """
        check_id(f"{prefix}-{uuid.uuid4().hex}")
        refuse_kept(overlay)
        attached = Lease(0) if lease is None else lease

        async def make() -> Container:
            return await self.create(
                f"{prefix}-{uuid.uuid4().hex}",
                spec=spec,
                bundle=bundle,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                deadline_seconds=deadline_seconds,
                lease=attached,
                overlay=overlay,
            )

        return Pool(make, size)

    async def delete(self, id: str, *, force: bool = False, timeout: float | None = None) -> None:
        """Remove a stopped container; `id` may be abbreviated as for load.

        With `force` in any status, broken ones too, and a missing one is fine; `id` must be whole
        then, or the force that was meant for a missing one would hit its longer namesake. Without
        it raises
        ContainerNotFound, InvalidTransition, StateCorrupted. If cancelled, what was done stays done
        and deleting again finishes it.
        """
        context = self._context
        if force:
            await delete_forced(context, check_id(id), timeout)
            return
        container = await self.load(id)
        await container.delete(timeout=timeout)

    async def recover(self, dry_run: bool = False) -> RecoveryReport:  # noqa: FBT001, FBT002 - its one option
        """Finish, fold in or remove what killed processes left under the root; what was found.

        Interrupted creations and deletions, ends that nobody wrote down, containers with a lease that
        have ended and whose owners are gone, processes and files without a record, missing events.
        A container that has ended otherwise stays until somebody destroys it; what is broken or
        nobody's is told and left. Safe beside anything and itself; a lock that isn't had in half a
        second is left to its holder, and no container takes longer than a minute. This engine's
        hooks run as in a destroy.

        Args:
            dry_run: Only say what would be done; nothing is changed.

        Raises StorageFailed when the root can't be read; what goes wrong besides is in the report.
        If cancelled, what was mended stays mended and recovering again does the rest.
        """
        return await recover(self._context, dry_run=dry_run)


def _look_up(root: PathLike | None) -> tuple[str, str]:
    """The root, made if missing, and our name; with our home known from then on."""
    uid = os.geteuid()
    home_of(uid)
    return open_root(root), user_name(uid)
