"""Sandboxes on the command line: what is created in which, and all of one as what is acted on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import click

from asyncrt.cli import complete, errors
from asyncrt.cli import options as global_options
from asyncrt.cli.errors import CommandFailedError
from asyncrt.errors import InvalidTransition
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from asyncrt.container import Container
    from asyncrt.engine import Engine
    from asyncrt.engine.sandboxes import Sandbox
    from asyncrt.oci import Spec


class Place(NamedTuple):
    """Where a new container is to be."""

    sandbox: str | None = None
    as_sandbox: bool = False
    share_pid: bool = False

    @classmethod
    def of(cls, sandbox: str | None, as_sandbox: bool, share_pid: bool) -> Place:
        """What the options say. Raises UsageError."""
        if sandbox is not None and as_sandbox:
            raise click.UsageError("--sandbox and --as-sandbox exclude each other")
        if share_pid and sandbox is None:
            raise click.UsageError("--share-pid is for a container created with --sandbox")
        return cls(sandbox, as_sandbox, share_pid)

    async def create(self, engine: Engine, id: str, **options: Any) -> Container:
        """A new container there. If cancelled, everything begun is undone first."""
        sandbox = None if self.sandbox is None else await load(engine, self.sandbox)
        mend = ""
        if await _is_expected_isolated(sandbox) and await _is_open(options):
            mend = _MEND if sandbox is None else _mend_in(sandbox)  # said when it is there
        container = await self._create(engine, id, sandbox, options)
        if mend:
            errors.say(f"warning: {id!r} isn't isolated: its config names no namespaces. {mend}")
        return container

    async def _create(
        self, engine: Engine, id: str, sandbox: Sandbox | None, given: dict[str, Any]
    ) -> Container:
        from asyncrt.cli import flags

        if self.as_sandbox:
            with flags.placed("--as-sandbox"):
                return (await engine.create_sandbox(id, **given)).root
        if sandbox is not None:
            with flags.placed("--sandbox"):
                return await sandbox.create(id, share_pid=self.share_pid, **given)
        return await engine.create(id, **given)


_MEND = "'asyncrt do' runs a program in new ones, 'asyncrt spec' writes a config that names them"


def _mend_in(sandbox: Sandbox) -> str:
    return f"In sandbox {str(sandbox.id)!r} a --bundle with a config of 'asyncrt spec' has them"


async def _is_expected_isolated(sandbox: Sandbox | None) -> bool:
    """Whether who types this may think so: it is on linux by name, or beside a root that is there.

    If cancelled, nothing has happened.
    """
    platform = global_options.of(click.get_current_context()).platform
    if platform == "auto" and sandbox is not None:
        platform = (await sandbox.root.view()).platform
    return platform == "linux"


async def _is_open(given: dict[str, Any]) -> bool:
    """Whether the config asks for no isolation. If cancelled, nothing has happened."""
    spec: Spec | None = given.get("spec")
    bundle: str | None = given.get("bundle")
    from asyncrt._threads import run_blocking
    from asyncrt.errors import AsyncrtError
    from asyncrt.oci import Spec

    if spec is None and bundle is not None:
        try:
            spec = await run_blocking(Spec.from_bundle, bundle)
        except AsyncrtError:
            return False  # which is told by the creation
    return spec is not None and not (spec.config.linux and spec.config.linux.namespaces)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that a Place is made of."""
    for each in reversed(
        (
            click.option(
                "--sandbox",
                metavar="ID",
                shell_complete=complete.ids,
                help="Create it in that container's sandbox. Of network, ipc and uts namespaces it shares those "
                "that its own config names: a plain program names none and runs on the host.",
            ),
            click.option(
                "--as-sandbox",
                is_flag=True,
                help="Make it a sandbox that others can be created in, with --sandbox.",
            ),
            click.option(
                "--share-pid", is_flag=True, help="Share the sandbox's process ids as well."
            ),
        )
    ):
        command = each(command)
    return command


class NoSandboxError(CommandFailedError):
    """There is none of that id, abbreviated or whole."""

    def __init__(self, sandbox: str, root: str) -> None:
        super().__init__(
            f"there is no sandbox {sandbox!r} in {root}; 'asyncrt list' shows what is there"
        )


OF = click.option(
    "--sandbox",
    metavar="ID",
    shell_complete=complete.ids,
    help="All containers of this sandbox as well.",
)


def check(ids: Sequence[str], sandbox: str | None) -> None:
    """Raise UsageError if nothing is named to act on."""
    if not ids and sandbox is None:
        raise click.UsageError("missing argument 'ID...', or --sandbox")


async def load(engine: Engine, sandbox: str) -> Sandbox:
    """The sandbox that is meant. Raises NoSandboxError, and for a container that is none SpecInvalid.

    If cancelled, nothing has changed.
    """
    from asyncrt.errors import ContainerNotFound

    try:
        return await engine.load_sandbox(sandbox)
    except ContainerNotFound as error:
        raise NoSandboxError(sandbox, engine.root) from error


async def whole(engine: Engine, sandbox: str | None) -> str | None:
    """Its id, for a filter: that of a single container too, and of one whose root is broken or gone.

    Raises as load if nothing is in it. If cancelled, nothing has changed.
    """
    from asyncrt.errors import SchemaTooNew, SpecInvalid, StateCorrupted

    if sandbox is None:
        return None
    try:
        return (await load(engine, sandbox)).id
    except SpecInvalid:
        wanted = str((await engine.load(sandbox)).id)
        if await engine.list(sandbox=wanted):
            return wanted
        raise
    except (NoSandboxError, StateCorrupted, SchemaTooNew):
        if await engine.list(sandbox=sandbox):
            return sandbox
        raise


async def stages(
    engine: Engine,
    ids: Sequence[str],
    sandbox: str | None,
    *,
    root_first: bool = False,
    abbreviated: bool = True,
) -> list[list[str]]:
    """The ids to act on, in turns: those of the sandbox without its root, and that one.

    Unless it may be `abbreviated` the id must be whole, as where one that is missing is fine: its
    longer namesake would be hit instead.

    Whatever ends the root ends the others with it, before they could do anything about it. If
    cancelled, nothing has changed.
    """
    if sandbox is None:
        return [list(ids)]
    found = await load(engine, sandbox)
    if not abbreviated and found.id != sandbox:
        raise NoSandboxError(sandbox, engine.root)
    others = [*ids, *(each.id for each in await found.containers() if each.id not in ids)]
    turns = [[each for each in others if each != found.id], [str(found.id)]]
    return turns[::-1] if root_first else turns


@contextlib.contextmanager
def passing_over(
    name: str, ids: Sequence[str], sandbox: str | None, *reached: Status
) -> Iterator[None]:
    """One of the sandbox's that wasn't given, and has ended or `reached` what is wanted, is no error."""
    try:
        yield
    except InvalidTransition as error:
        over = sandbox is not None and name not in ids
        if not over or error.status not in {Status.STOPPED, *reached}:
            raise
