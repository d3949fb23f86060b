"""exec: one more process in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import parameters as p
from asyncrt.cli import session
from asyncrt.cli.workload import with_term

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.cli.signals import Signals
    from asyncrt.container import Process
    from asyncrt.engine import Engine

_REST_SECONDS = 0.5  # for what a program that has ended wrote to its terminal last


@click.command(
    "exec",
    cls=p.NeedsProgramCommand,
    examples=[
        "asyncrt exec web -- ps -ef",
        "asyncrt exec web --deadline 5 --user nobody -- sh -c 'id; pwd'",
    ],
)
@p.ID
@p.DETACH
@p.ENV_BESIDE
@p.CWD_BESIDE
@p.USER
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
    """
    if tty and detach and console_socket is None:
        raise click.UsageError("--tty with --detach needs a --console-socket")
    env = with_term(env) if tty else env

    async def work(engine: Engine, signals: Signals) -> int:
        from asyncrt import DEVNULL, INHERIT, Lease
        from asyncrt.cli import pid_file as pid_files
        from asyncrt.cli.preserved import preserved
        from asyncrt.cli.tty import own_size

        passed = preserved(preserve_fds)
        pid_files.check(pid_file)
        if not detach:
            signals.hold()
        container = await engine.load(id)
        process = await container.exec(
            program,
            env=dict(env) if env else None,
            cwd=cwd,
            user=user,
            stdin=DEVNULL if detach else INHERIT,
            stdout=INHERIT,
            stderr=INHERIT,
            terminal=own_size() if tty else False,
            console_socket=console_socket,
            pass_fds=passed,
            deadline_seconds=deadline,
            lease=None if detach else Lease(0),
            ignore_paused=ignore_paused,
        )
        if detach:
            return await _leave(process, pid_file)
        return await _attend(process, signals, pid_file, program[0])

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
            lent = Lent(process.terminal, b"")
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
