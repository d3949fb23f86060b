"""Terminals and console sockets, cancelled."""

from __future__ import annotations

import os

import asyncrt
from tests.helpers import reality
from tests.helpers.cancel import Outcome
from tests.race.scenarios.bench import SLEEP, Bench, exec_or_nothing, scenario

CAT = ["/bin/sh", "-c", "stty raw -echo; echo ready; exec cat"]


async def on_a_terminal(bench: Bench) -> asyncrt.Container:
    return await bench.running(CAT, terminal=True)


async def attached(bench: Bench) -> asyncrt.Attachment:
    container = await bench.created(CAT, terminal=True)
    attachment = await container.attach()
    bench.undo.callback(attachment.close)
    await container.start()
    assert b"ready" in await attachment.read()
    return attachment


async def exec_on_a_terminal(bench: Bench, container: asyncrt.Container) -> asyncrt.Process:
    env = reality.marking(bench.mark, "exec")
    return await container.exec(SLEEP, env=env, terminal=True)


async def not_attached(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    if not outcome.cancelled:
        outcome.value.close()
    async with await container.attach() as again:
        await again.write(b"x")
        said = b""
        while b"x" not in said:
            said = await again.read()
            assert said, "it was let go of"


async def typed(bench: Bench) -> asyncrt.Attachment:
    attachment = await attached(bench)
    await attachment.write(b"typed")
    return attachment


async def read_or_still_there(
    bench: Bench, attachment: asyncrt.Attachment, outcome: Outcome
) -> None:
    found = b"" if outcome.cancelled else outcome.value
    while found != b"typed":
        found += await attachment.read()


async def console(bench: Bench) -> asyncrt.ConsoleSocket:
    return asyncrt.ConsoleSocket(f"{bench.root}/console")


async def no_console_left(bench: Bench, made: asyncrt.ConsoleSocket, outcome: Outcome) -> None:
    await made.__aexit__(None, None, None)
    assert not os.path.exists(made.path)


async def console_with_a_terminal(bench: Bench) -> asyncrt.ConsoleSocket:
    made = await console(bench)
    await made.__aenter__()
    bench.undo.push_async_callback(made.__aexit__, None, None, None)
    await bench.created(CAT, terminal=True, console_socket=made.path)
    return made


async def received_or_gone(bench: Bench, made: asyncrt.ConsoleSocket, outcome: Outcome) -> None:
    if not outcome.cancelled:
        outcome.value.close()


scenario("Container.attach", lambda b, c: c.attach(), prepare=on_a_terminal, check=not_attached)
scenario(
    "Container.exec terminal", exec_on_a_terminal, prepare=Bench.running, check=exec_or_nothing
)
scenario("Attachment.read", lambda b, a: a.read(), prepare=typed, check=read_or_still_there)
scenario("Attachment.write", lambda b, a: a.write(b"x" * 20_000), prepare=attached)
scenario("Attachment.resize", lambda b, a: a.resize(24, 80), prepare=attached)
scenario("Attachment.__aenter__", lambda b, a: a.__aenter__(), prepare=attached)
scenario("Attachment.__aexit__", lambda b, a: a.__aexit__(None, None, None), prepare=attached)
scenario(
    "ConsoleSocket.__aenter__", lambda b, s: s.__aenter__(), prepare=console, check=no_console_left
)
scenario(
    "ConsoleSocket.__aexit__",
    lambda b, s: s.__aexit__(None, None, None),
    prepare=console_with_a_terminal,
    check=no_console_left,
)
scenario(
    "ConsoleSocket.receive",
    lambda b, s: s.receive(),
    prepare=console_with_a_terminal,
    check=received_or_gone,
)
