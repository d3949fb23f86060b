"""run: create, start, wait and destroy in one; or create and start, and leave it running."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, placing, session
from asyncrt.cli import parameters as p
from asyncrt.cli.workload import Workload, check_console, output_target, with_term

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from asyncrt.cli.signals import Signals
    from asyncrt.engine import Engine
    from asyncrt.platforms import Overlay


@click.command(
    cls=commands.ProgramCommand,
    examples=[
        "asyncrt run hello -- echo hello",
        "asyncrt run --detach --bundle ./web web",
        "asyncrt run --bundle ./web --overlay memory,size=256M web",
        'asyncrt run job --deadline 60 -e LANG=C.UTF-8 --cwd "$PWD" -- ./report --all',
        "asyncrt run --detach --as-sandbox pod -- sleep infinity",
        'asyncrt run --sandbox pod app --cwd "$PWD" -- ./app',
    ],
)
@p.NEW_ID
@p.BUNDLE
@placing.options
@p.DETACH
@click.option("--keep", is_flag=True, help="Don't delete the container when it has ended.")
@p.ANNOTATED
@p.ENV
@p.CWD
@p.USER
@p.MEMORY
@p.PIDS
@p.CPU
@p.DEADLINE
@p.TTY
@p.DETACH_KEYS
@p.CONSOLE_SOCKET
@p.NO_PIVOT
@p.PRESERVE_FDS
@p.OVERLAY
@p.LOG
@p.LOG_OPT
@p.PID_FILE
@click.pass_context
def run(
    context: click.Context,
    id: str,
    program: Sequence[str],
    bundle: str | None,
    sandbox: str | None,
    as_sandbox: bool,
    share_pid: bool,
    detach: bool,
    keep: bool,
    annotations: Sequence[tuple[str, str]],
    env: Sequence[tuple[str, str]],
    cwd: str | None,
    user: str | None,
    memory: str | None,
    pids: int | None,
    cpu: float | None,
    deadline: float | None,
    tty: bool,
    detach_keys: bytes,
    console_socket: str | None,
    preserve_fds: int,
    overlay: Overlay | None,
    log: bool | None,
    log_opt: Sequence[tuple[str, Any]],
    pid_file: str | None,
) -> int:
    """Create a container, start it, and wait for its end.

    Exits with the program's status: its own, 128 + the signal that killed it, or 255 if that is
    unknown. Signals are passed on to the program, a second Ctrl-C like the first; what comes before
    it runs reaches it right after its start, unless a second one gives the start up. Its end
    deletes the container, unless --keep is given. Should this command itself be killed, so is the
    program; a stopped container is left then.

    With --detach the command returns once the program runs, and the container stays until
    'asyncrt delete'. Its standard input is /dev/null then, and its output is kept for 'asyncrt logs',
    unless --no-log leaves it where this command's goes. Attached with --log it is kept and shown.

    With --tty it has a terminal: keys go there, Ctrl-C too, and the detach keys leave it running
    ('asyncrt attach' comes back).
    """
    check_console(program, console_socket, tty=tty)
    env = with_term(env) if tty and program else env
    workload = Workload(
        program,
        bundle=bundle,
        annotations=annotations,
        env=env,
        cwd=cwd,
        user=user,
        limits={"memory": memory, "pids": pids, "cpu": cpu},
    )
    place = placing.Place.of(sandbox, as_sandbox, share_pid)
    if detach and keep:
        raise click.UsageError("--keep is for an attached run; a detached one is always kept")

    async def work(engine: Engine, signals: Signals) -> int:
        from asyncrt.cli import attached
        from asyncrt.cli import pid_file as pid_files
        from asyncrt.cli.preserved import preserved

        passed = preserved(preserve_fds)
        pid_files.check(pid_file)
        output = output_target(log, log_opt, default=detach and console_socket is None)
        wanted = attached.Wanted(
            id,
            workload,
            deadline,
            pid_file,
            output,
            tty,
            console_socket,
            detach_keys,
            passed,
            place=place,
            overlay=overlay,
        )
        if detach:
            return await attached.run_detached(engine, wanted)
        return await attached.run_attached(engine, signals, wanted, keep=keep)

    return session.run_attached(context, work, creates=True)
