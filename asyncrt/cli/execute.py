"""exec: one more process in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, complete, session
from asyncrt.cli import parameters as p
from asyncrt.cli.workload import check_console, with_term

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.cli.signals import Signals
    from asyncrt.container import Process
    from asyncrt.engine import Engine

_REST_SECONDS = 0.5  # for what a program that has ended wrote to its terminal last


@click.command(
    "exec",
    cls=commands.ProgramCommand,
    examples=[
        "asyncrt exec web -- ps -ef",
        "asyncrt exec web --deadline 5 --user nobody -- sh -c 'id; pwd'",
        "asyncrt exec box --cap CAP_NET_ADMIN -- ip link",
        "asyncrt exec --process process.json box",
    ],
)
@p.ID
@p.DETACH
@p.ENV_BESIDE
@p.CWD_BESIDE
@p.USER
@p.GIDS
@click.option(
    "-c",
    "--cap",
    metavar="CAP",
    multiple=True,
    help="A capability that it has besides, like CAP_NET_ADMIN; may be repeated.",
)
@click.option("--apparmor", metavar="PROFILE", help="Its AppArmor profile.")
@click.option("--process-label", metavar="LABEL", help="Its SELinux label.")
@click.option("--no-new-privs", is_flag=True, help="What it executes gains no privileges.")
@click.option(
    "-p",
    "--process",
    metavar="FILE",
    shell_complete=complete.files,
    help="Take all of it from an OCI process object in a JSON file.",
)
@click.option(
    "--cgroup", metavar="PATH", help="Join this cgroup, which is there below the container's."
)
@p.TTY
@p.CONSOLE_SOCKET
@p.PRESERVE_FDS
@p.DEADLINE
@click.option("--ignore-paused", is_flag=True, help="Run it even if the container is paused.")
@p.PID_FILE
@click.pass_context
def exec_(
    context: click.Context,
    id: str,
    program: Sequence[str],
    detach: bool,
    env: Sequence[tuple[str, str]],
    cwd: str | None,
    user: str | None,
    additional_gids: Sequence[int],
    cap: Sequence[str],
    apparmor: str | None,
    process_label: str | None,
    no_new_privs: bool,
    process: str | None,
    cgroup: str | None,
    tty: bool,
    console_socket: str | None,
    preserve_fds: int,
    deadline: float | None,
    ignore_paused: bool,
    pid_file: str | None,
) -> int:
    """Run a program in a container, beside what runs there.

    Exits with the program's status: its own, 128 + the signal that killed it, or 255 if that is
    unknown. Signals are passed on to the program, and should this command be killed, so is the
    program. With --detach the command returns once the program runs; its standard input is /dev/null
    then. With --tty it has a terminal of its own, which hangs up when this command ends.

    What it isn't told here is as in the container: environment, directory, user, groups,
    capabilities, limits. So is what a --process leaves out, all but the program and a terminal.
    """
    if process is None:
        if not program:
            raise click.UsageError(
                "missing program: write -- CMD [ARGS]... at the end, or give a --process"
            )
    elif (
        *(program, env, additional_gids, cap, no_new_privs),
        *(cwd, user, apparmor, process_label),
    ) != ((), (), (), (), False, *[None] * 4):
        raise click.UsageError("with --process, its file says the program and all about it")

    check_console(program, console_socket, tty=tty)

    async def work(engine: Engine, signals: Signals) -> int:
        from asyncrt import DEVNULL, INHERIT, Lease
        from asyncrt._threads import run_blocking
        from asyncrt.cli import flags
        from asyncrt.cli import pid_file as pid_files
        from asyncrt.cli.preserved import preserved
        from asyncrt.cli.tty import own_size
        from asyncrt.oci import process_of

        passed = preserved(preserve_fds)
        pid_files.check(pid_file)
        on_terminal, name = tty, program[0] if program else ""
        if process is not None:
            found = await run_blocking(process_of, process)
            on_terminal, name = tty or bool(found.terminal), (found.args or ("",))[0]
        if on_terminal and detach and console_socket is None:
            raise click.UsageError("a terminal with --detach needs a --console-socket")
        variables = with_term(env) if tty and process is None else env
        if not detach:
            signals.hold()
        container = await engine.load(id)
        with flags.named(by_file=process is not None):
            running = await container.exec(
                program or None,
                process=process,
                env=dict(variables) if variables else None,
                cwd=cwd,
                user=user,
                additional_gids=additional_gids,
                capabilities=cap,
                no_new_privs=no_new_privs,
                apparmor_profile=apparmor,
                selinux_label=process_label,
                cgroup=cgroup,
                stdin=DEVNULL if detach else INHERIT,
                stdout=INHERIT,
                stderr=INHERIT,
                # Sent elsewhere it is as large as its file says; here it is as large as ours.
                terminal=own_size() if tty or (on_terminal and console_socket is None) else None,
                console_socket=console_socket,
                pass_fds=passed,
                deadline_seconds=deadline,
                lease=None if detach else Lease(0),
                ignore_paused=ignore_paused,
            )
        if detach:
            return await _leave(running, pid_file)
        return await _attend(running, signals, pid_file, name)

    return session.run_attached(context, work)


async def _leave(process: Process, pid_file: str | None) -> int:
    """Let it run on without us. If its pid can't be written, or this is cancelled, it is killed."""
    from asyncrt.cli import pid_file as pid_files

    if pid_file is not None:
        try:
            await pid_files.write(pid_file, process.pid)
        except BaseException:
            await process.kill("KILL")
            raise
    return 0


async def _attend(process: Process, signals: Signals, pid_file: str | None, name: str) -> int:
    """Its exit status, once it has ended. If cancelled, it is killed."""
    import asyncio

    from asyncrt.cli import attached
    from asyncrt.cli import pid_file as pid_files
    from asyncrt.cli.tty import Lent

    writing: asyncio.Task[None] | None = None
    showing: asyncio.Task[object] | None = None
    done = False
    try:
        if pid_file is not None:
            writing = asyncio.create_task(pid_files.write(pid_file, process.pid))
        if process.terminal is not None:
            lent = Lent(process.terminal, b"", ours=True)
            signals.lend(lent.resize, lent.continued)
            showing = asyncio.create_task(lent.until_end())
        signals.forward(process.kill)
        result = await attached.until_end(process.wait(), writing)
        if showing is not None:
            # What the program left running may have the terminal open for ever: it is hung up.
            await asyncio.wait((showing,), timeout=_REST_SECONDS)
            showing.cancel()
            await asyncio.wait((showing,))
            process.close()
        done = True
    finally:
        if not done:
            await process.kill("KILL")
            if showing is not None:
                showing.cancel()
                await asyncio.wait((showing,))
            if writing is not None:
                writing.cancel()
    if writing is not None:
        signals.interrupt()  # nobody may ever read a FIFO
        await writing
    attached.tell_reason(name, result)
    return result.status_code
