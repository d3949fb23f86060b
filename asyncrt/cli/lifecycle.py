"""create and start: a container made, and its program let run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, options, placing, session
from asyncrt.cli import parameters as p
from asyncrt.cli.workload import Workload, check_console, output_target, with_term
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from asyncrt.engine import Engine
    from asyncrt.platforms import Overlay


@click.command(
    cls=commands.ProgramCommand,
    examples=[
        "asyncrt create --bundle ./web web && asyncrt start web",
        'asyncrt create web -e PORT=8080 --cwd "$PWD" -- python3 server.py',
        'asyncrt create --sandbox pod app --cwd "$PWD" -- ./app && asyncrt start app',
    ],
)
@p.NEW_ID
@p.BUNDLE
@placing.options
@p.ANNOTATED
@p.ENV
@p.CWD
@p.USER
@p.MEMORY
@p.PIDS
@p.CPU
@p.DEADLINE
@p.TTY_WAITING
@p.CONSOLE_SOCKET
@p.NO_PIVOT
@p.PRESERVE_FDS
@p.OVERLAY
@p.LOG
@p.LOG_OPT
@p.PID_FILE
@click.pass_context
def create(
    context: click.Context,
    id: str,
    program: Sequence[str],
    bundle: str | None,
    sandbox: str | None,
    as_sandbox: bool,
    share_pid: bool,
    annotations: Sequence[tuple[str, str]],
    env: Sequence[tuple[str, str]],
    cwd: str | None,
    user: str | None,
    memory: str | None,
    pids: int | None,
    cpu: float | None,
    deadline: float | None,
    tty: bool,
    console_socket: str | None,
    preserve_fds: int,
    overlay: Overlay | None,
    log: bool | None,
    log_opt: Sequence[tuple[str, Any]],
    pid_file: str | None,
) -> int:
    """Make a container; its process waits until 'asyncrt start'.

    The program comes from a bundle (default: the current directory) or stands after `--`. Its
    standard input is /dev/null, its output goes where this command's goes, or with --log is kept for
    'asyncrt logs'. A terminal of its own waits for 'asyncrt attach'. A deadline counts from the start
    on.
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

    async def work(engine: Engine) -> int:
        from asyncrt import DEVNULL, _threads
        from asyncrt.cli import flags
        from asyncrt.cli import pid_file as pid_files
        from asyncrt.cli.preserved import preserved
        from asyncrt.cli.progress import Progress

        passed = preserved(preserve_fds)
        pid_files.check(pid_file)
        output = output_target(log, log_opt, default=False)
        async with Progress(f"creating {id}"):
            with flags.named(by_file=workload.by_file):
                container = await place.create(
                    engine,
                    id,
                    spec=await workload.spec(),
                    bundle=workload.bundle,
                    stdin=DEVNULL,
                    stdout=output,
                    stderr=output,
                    deadline_seconds=deadline,
                    terminal=tty or None,
                    console_socket=console_socket,
                    pass_fds=passed,
                    overlay=overlay,
                )
        if pid_file is not None:
            try:
                await pid_files.write(pid_file, (await container.view()).pid)
            except BaseException:
                await _threads.finish(container.destroy())
                raise
        return 0

    return session.run(context, work, creates=True)


@click.command(
    cls=commands.Command,
    examples=[
        "asyncrt start web",
        "asyncrt start web db cache",
        "asyncrt start --sandbox pod",
    ],
)
@p.IDS_IF_ANY
@placing.OF
@click.pass_context
def start(context: click.Context, ids: Sequence[str], sandbox: str | None) -> int:
    """Let the programs of created containers run.

    Fails, saying why, when a program can't be executed; that container is stopped then. Several are
    started at once; one that can't be is told, and the others are started all the same. Of a sandbox
    the root is started first.
    """
    placing.check(ids, sandbox)

    async def work(engine: Engine) -> int:
        from asyncrt.cli import batch

        async def one(name: str) -> None:
            with placing.passing_over(name, ids, sandbox, Status.RUNNING):
                await (await engine.load(name)).start()

        debug = options.of(context).debug
        turns = await placing.stages(engine, ids, sandbox, root_first=True)
        return await batch.in_turns(turns, one, doing="starting", debug=debug)

    return session.run(context, work)
