"""create and start: a container made, and its program let run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import parameters as p
from asyncrt.cli import session
from asyncrt.cli.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.engine import Engine


@click.command(
    cls=p.ProgramCommand,
    examples=[
        "asyncrt create --bundle ./web web && asyncrt start web",
        "asyncrt create web -e PORT=8080 -- python3 server.py",
    ],
)
@p.ID
@p.BUNDLE
@p.ENV
@p.CWD
@p.USER
@p.DEADLINE
@p.PID_FILE
@click.pass_context
def create(
    context: click.Context,
    id: str,
    program: Sequence[str],
    bundle: str | None,
    env: Sequence[tuple[str, str]],
    cwd: str | None,
    user: str | None,
    deadline: float | None,
    pid_file: str | None,
) -> int:
    """Make a container; its process waits until 'asyncrt start'.

    The program comes from a bundle (default: the current directory) or stands after `--`. Its
    standard input is /dev/null, its output goes where this command's goes. A deadline counts from
    the start on.
    """
    workload = Workload(program, bundle=bundle, env=env, cwd=cwd, user=user)

    async def work(engine: Engine) -> int:
        from asyncrt import DEVNULL, INHERIT, _threads
        from asyncrt.cli import pid_file as pid_files
        from asyncrt.cli.progress import Progress

        pid_files.check(pid_file)
        async with Progress(f"creating {id}"):
            container = await engine.create(
                id,
                spec=await workload.spec(),
                bundle=workload.bundle,
                stdin=DEVNULL,
                stdout=INHERIT,
                stderr=INHERIT,
                deadline_seconds=deadline,
            )
        if pid_file is not None:
            try:
                await pid_files.write(pid_file, (await container.view()).pid)
            except BaseException:
                await _threads.finish(container.destroy())
                raise
        return 0

    return session.run(context, work)


@click.command(cls=p.Command, examples=["asyncrt start web"])
@p.ID
@click.pass_context
def start(context: click.Context, id: str) -> int:
    """Let a created container's program run.

    Fails, saying why, when the program can't be executed; the container is stopped then.
    """

    async def work(engine: Engine) -> int:
        from asyncrt.cli.progress import Progress

        async with Progress(f"starting {id}"):
            await (await engine.load(id)).start()
        return 0

    return session.run(context, work)
