"""Sandboxes with several containers: one is the root, others come and go beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from asyncrt import _durable, _paths
from asyncrt.container import DEVNULL, INHERIT, Container
from asyncrt.container import destroy as destroying
from asyncrt.engine.making import Place, make
from asyncrt.engine.many import AT_ONCE, for_all
from asyncrt.errors import ContainerExists, ContainerNotFound, SpecInvalid
from asyncrt.oci import Spec, membership
from asyncrt.state import find, read_members, read_record

if TYPE_CHECKING:
    from asyncrt.container import Context, Lease, PassedFds, StreamTarget, TerminalChoice
    from asyncrt.engine.many import Which
    from asyncrt.platforms import Overlay
    from asyncrt.state import Record

PathLike = str | os.PathLike[str]


class Sandbox:
    """A handle to a sandbox: its `root` container, and those beside that.

    It is the root container's end that ends all: the others are stopped then, reason "sandbox ended".
    What is done to `root` otherwise, a pause say, is done to that one only. `id` and `instance` are the
    root's.
    """

    def __init__(self, context: Context, root: Container) -> None:
        """Made by Engine.create_sandbox and Engine.load_sandbox."""
        self._context = context
        self.root = root
        self.id = root.id
        self.instance = root.instance

    def __repr__(self) -> str:
        return f"<Sandbox {self.id} {self.instance[:8]}>"

    async def create(
        self,
        id: str,
        *,
        spec: Spec | None = None,
        bundle: PathLike | None = None,
        stdin: StreamTarget = DEVNULL,
        stdout: StreamTarget = INHERIT,
        stderr: StreamTarget = INHERIT,
        share_pid: bool = False,
        deadline_seconds: float | None = None,
        lease: Lease | None = None,
        terminal: TerminalChoice | None = None,
        console_socket: PathLike | None = None,
        pass_fds: PassedFds | None = None,
        overlay: Overlay | None = None,
        timeout: float | None = None,
    ) -> Container:
        """A new container in this sandbox, whose init waits at its gate.

        Of the namespaces that its spec asks for without a path it shares the sandbox's network, ipc and
        uts namespaces, and with `share_pid` the one of process ids; what else it has is its own. One
        that asks for none, as Spec.command's, isn't isolated: it runs on the host, and none is shared. It
        needs a cgroup or a pid namespace of its own, or nobody could tell its processes from the
        others'. All other arguments and errors are as for Engine.create.

        Raises InvalidTransition when the sandbox is paused or has stopped, ContainerNotFound when it
        was destroyed. If cancelled, everything begun is undone before CancelledError is raised.
        """
        context = self._context
        if id == self.id:
            raise ContainerExists(container_id=id, root=context.root)
        record, streams = await make(
            context,
            id,
            spec=spec,
            bundle=bundle,
            streams=(stdin, stdout, stderr),
            place=Place((self.id, self.instance), share_pid),
            supervision="own",
            deadline_seconds=deadline_seconds,
            lease=lease,
            terminal=terminal,
            console_socket=console_socket,
            pass_fds=pass_fds,
            overlay=overlay,
            timeout=timeout,
        )
        return Container.of(context, record, streams)

    async def containers(self) -> list[Container]:
        """Those beside the root container, in whatever status, sorted by id.

        If cancelled, nothing has changed.
        """
        context = self._context
        root, _ = await context.look(self.id, self.instance)
        found = await context.run(read_members, context.root, root)
        return [Container.of(context, each) for each in found]

    async def destroy(self, *, timeout: float | None = None) -> None:
        """End all of it, then remove the containers beside the root, each under its own lock, then the root.

        Idempotent. Raises what the first raised that couldn't be destroyed, when all others are; the root stays
        then. If cancelled, destroying again finishes it.
        """
        context = self._context
        try:
            others: list[Which] = [*await self.containers()]
        except ContainerNotFound:
            return
        # At once, and not one after the other: it is the end of the root that ends all.
        ending = others != [] and await destroying.end_sandbox(context, self.id, self.instance)

        async def destroy(each: Which) -> None:
            if isinstance(each, Container):
                await destroying.destroy(context, each.id, each.instance, timeout, ending=ending)

        errors = await for_all(others, destroy, at_once=AT_ONCE)
        for error in errors.values():
            if error is not None:
                raise error
        await destroying.destroy(context, self.root.id, self.instance, timeout, ending=ending)


class Sandboxes:
    """What Engine has for sandboxes with several containers."""

    if TYPE_CHECKING:  # Engine's own

        @property
        def _context(self) -> Context: ...

    async def create_sandbox(
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
        overlay: Overlay | None = None,
        timeout: float | None = None,
    ) -> Sandbox:
        """A new sandbox that others can be created in; its root container waits at its gate.

        The spec is the root container's, whose namespaces the others share: something that waits, in
        most cases. Where this user may make cgroups, the sandbox gets one, in it one for each container
        and one for the supervisor. All arguments and errors are as for Engine.create; `host` refuses
        where it can have no cgroup. If cancelled, everything begun is undone before CancelledError is
        raised.
        """
        context = self._context
        record, streams = await make(
            context,
            id,
            spec=spec,
            bundle=bundle,
            streams=(stdin, stdout, stderr),
            place=Place(),
            supervision="own",
            deadline_seconds=deadline_seconds,
            lease=lease,
            terminal=terminal,
            console_socket=console_socket,
            pass_fds=pass_fds,
            overlay=overlay,
            timeout=timeout,
        )
        return Sandbox(context, Container.of(context, record, streams))

    async def load_sandbox(self, id: str) -> Sandbox:
        """The sandbox of that id, abbreviated as for load, whoever created it, and how.

        Raises SpecInvalid for a container that is none, and what load raises. If cancelled, nothing has
        changed.
        """
        context = self._context
        container_id = await context.run(find, context.root, id)
        record = await context.run(read_record, context.root, container_id)
        if record.sandbox != container_id:
            why = f"{container_id!r} is a container in sandbox {record.sandbox!r}, and no sandbox"
            raise SpecInvalid(json_path="", why=why)
        if not await context.run(_is_made_for_several, context.root, record):
            why = (
                f"{container_id!r} is a container by itself, and no sandbox that others can be in; "
                "create_sandbox or 'asyncrt run --as-sandbox' makes one"
            )
            raise SpecInvalid(json_path="", why=why)
        context.take_over(record)
        return Sandbox(context, Container.of(context, record))


def _is_made_for_several(root: str, record: Record) -> bool:
    """Whether its config says so, or others are in it all the same, whom their annotations put there."""
    path = f"{root}/{record.id}{_paths.DIRECTORY}/{_paths.CONFIG}"
    try:
        config = Spec.decode(_durable.read(path), path=path).config
    except (OSError, SpecInvalid):
        return True  # a config that is lost keeps nobody from taking all of it away
    alone = record.supervision != "own" or not membership(config).is_sandbox
    return not alone or bool(read_members(root, record))
