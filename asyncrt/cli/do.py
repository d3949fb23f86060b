"""do: one program in a sandbox that is made for it and thrown away."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from asyncrt.cli import commands, complete, errors, options, session
from asyncrt.cli import parameters as p

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.cli.signals import Signals
    from asyncrt.engine import Engine
    from asyncrt.oci import Spec
    from asyncrt.platforms import Overlay

# The first process of a pid namespace gets no signal that it doesn't catch (pid_namespaces(7)), and
# few programs catch Ctrl-C: a shell is the first, for which the traps do nothing but being there.
_FIRST = ("/bin/sh", "-c", 'trap : HUP INT QUIT TERM USR1 USR2; "$@"; exit $?', "sh")

# What a program needs to find its files and to speak to its user; the rest may hold secrets.
_PASSED = ("HOME", "LANG", "LC_ALL", "PATH", "TERM", "TZ")


@click.command(
    cls=commands.OnlyProgramCommand,
    examples=[
        "asyncrt do -- ls /",
        "asyncrt do --writable . -- make test",
        "asyncrt do --overlay memory,size=1G -- sh -c 'make install && /usr/local/bin/tool'",
        "asyncrt do --network --memory 256M --deadline 60 -- ./fetch --all",
    ],
)
@click.option(
    "-w",
    "--writable",
    type=click.Path(exists=True),
    metavar="DIR",
    multiple=True,
    shell_complete=complete.directories,
    help="Let it write there; may be repeated.",
)
@click.option(
    "--rootfs",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    shell_complete=complete.directories,
    help="Its root; default: the host's, read-only.",
)
@p.OVERLAY_HERE
@click.option("--network", is_flag=True, help="Share the host's network; default: none.")
@p.MEMORY
@p.PIDS
@p.CPU
@p.ENV_CHOSEN
@p.CWD_HERE
@p.USER
@p.DEADLINE
@p.NO_PIVOT
@click.option(
    "--tty/--no-tty",
    default=None,
    help="Give it a terminal. Default: if input and output are one.",
)
@click.pass_context
def do(
    context: click.Context,
    program: Sequence[str],
    writable: Sequence[str],
    rootfs: str | None,
    overlay: Overlay | None,
    network: bool,
    memory: str | None,
    pids: int | None,
    cpu: float | None,
    env: Sequence[tuple[str, str]],
    cwd: str | None,
    user: str | None,
    deadline: float | None,
    tty: bool | None,
) -> int:
    """Run a program in a throw-away sandbox.

    It sees the host's files, read-only, as its user may read them; nothing in /run, /tmp and
    /var/tmp but the current directory; its own processes only; and no network. Of the environment it
    gets HOME, LANG, LC_ALL, PATH, TERM and TZ, with --rootfs none. It needs no privilege; limits do where cgroups aren't
    delegated to the user, and are refused then.

    With --overlay it may write to all that it sees, less what other file systems are mounted on and is
    hidden then, and none of it reaches the host. Over the host's root that takes root, in most cases.

    Exits with the program's status, as 'asyncrt run' does, and leaves nothing. On the host's root a
    shell is its parent, so that signals end it; with --rootfs it is the first process itself.
    """
    if options.of(context).platform == "host":
        raise click.UsageError(
            "the host platform makes no sandbox; leave out --platform, or run it in none by "
            "'asyncrt run'"
        )
    on_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    wants_terminal = on_terminal if tty is None else tty
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    workload = _Sandbox(
        program,
        rootfs,
        [os.path.realpath(each) for each in writable],
        {**({} if rootfs is not None else passed), **dict(env)},
        cwd,
        {"network": network, "memory": memory, "pids": pids, "cpu": cpu, "user": user},
        layered=overlay is not None,
    )

    async def work(engine: Engine, signals: Signals) -> int:
        import secrets

        from asyncrt import INHERIT
        from asyncrt.cli import attached

        wanted = attached.Wanted(
            id=f"do-{os.getpid()}-{secrets.token_hex(3)}",
            workload=workload,
            deadline=deadline,
            pid_file=None,
            output=INHERIT,
            terminal=wants_terminal,
            console_socket=None,
            detach_keys=b"",
            overlay=overlay,
            tell_all=True,
        )
        return await attached.run_attached(engine, signals, wanted, keep=False)

    return session.run_attached(context, work, creates=True)


class _Sandbox:
    """What the sandbox is made from."""

    bundle = None
    by_file = False

    def __init__(
        self,
        program: Sequence[str],
        rootfs: str | None,
        writable: Sequence[str],
        env: dict[str, str],
        cwd: str | None,
        others: dict[str, Any],
        *,
        layered: bool,
    ) -> None:
        """`others` are those of Spec.sandbox that go there as they are; `layered`: it has an overlay."""
        self._program = program
        self._rootfs = rootfs
        self._writable = writable
        self._env = env
        self._cwd = cwd
        self._others = others
        self._layered = layered

    async def spec(self) -> Spec:
        """The spec, made now. If cancelled, nothing has happened."""
        from asyncrt._threads import run_blocking
        from asyncrt.cli import flags

        with flags.named():
            return await run_blocking(self._make)

    def _make(self) -> Spec:
        from asyncrt.oci import DEFAULT_PATH, Spec

        program, here = self._program, "/"
        if self._rootfs is None:
            here = os.getcwd()
            self._look_for(program[0], here, self._env.get("PATH", DEFAULT_PATH))
            program = (*_FIRST, *program)
        return Spec.sandbox(
            program,
            rootfs=self._rootfs,
            host_root_readonly=self._rootfs is None,
            writable=self._writable,
            readable=[] if here == "/" or self._covers(here) or self._in_layer(here) else [here],
            env=self._env,
            cwd=self._cwd or here,
            **self._others,
        )

    def _look_for(self, name: str, here: str, path: str) -> None:
        """Raise CommandFailedError if it isn't there; the shell that is to run it says less."""
        where = f"it isn't in PATH={path}: give its whole path"
        if "/" in name:
            where = f"looked for in {self._cwd or here}" if not name.startswith("/") else ""
            if shutil.which(os.path.join(self._cwd or here, name)) is not None:
                return
        elif shutil.which(name, path=path) is not None:
            return
        advice = f"; {where}" if where else ""
        raise errors.CommandFailedError(f"there is no program {name!r} to run{advice}")

    def _covers(self, path: str) -> bool:
        """Whether it is seen there anyway, and may be written to."""
        return any(path == each or path.startswith(f"{each}/") for each in self._writable)

    def _in_layer(self, path: str) -> bool:
        """Whether it is part of what the layer is over: not covered, nor of another file system."""
        from asyncrt.oci.sandbox_config import covered_directories

        if not self._layered or os.stat(path).st_dev != os.stat("/").st_dev:
            return False
        return not any(f"{path}/".startswith(f"{each}/") for each in covered_directories())
