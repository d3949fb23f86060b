"""attach: sit down at a container's terminal, or watch what it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncrt.cli import commands, session
from asyncrt.cli import parameters as p

if TYPE_CHECKING:
    from asyncrt.cli.signals import Signals
    from asyncrt.engine import Engine


@click.command(
    cls=commands.Command,
    examples=["asyncrt attach web", "asyncrt attach --detach-keys ctrl-x web"],
)
@p.ID
@p.DETACH_KEYS
@click.pass_context
def attach(context: click.Context, id: str, detach_keys: bytes) -> int:
    """Attach to a container's terminal.

    Keys go there, Ctrl-C too, until the detach keys are typed, which leave it running, or it ends:
    then its exit status is this command's. Any number may be attached at once. Of a container
    without a terminal whose output goes to a log this shows what it writes from now on.
    """

    async def work(engine: Engine, signals: Signals) -> int:
        from asyncrt.cli import show_logs, tty

        container = await engine.load(id)
        if not container.terminal and container.logged:
            await show_logs.copy(container.logs(follow=True, tail=0))
            return (await container.wait()).status_code
        async with await container.attach() as attachment:
            lent = tty.Lent(attachment, detach_keys, ours=False)
            signals.lend(lent.resize, lent.continued)
            signals.forward(None)
            if not await lent.until_end():
                return 0
        return (await container.wait()).status_code

    return session.run_attached(context, work)
