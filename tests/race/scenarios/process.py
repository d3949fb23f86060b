"""Exec'd processes, watches and statistics, cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import asyncrt
from tests.helpers.cancel import Outcome
from tests.helpers.events import append_line
from tests.race.scenarios.bench import NULL, SLEEP, Bench, scenario


async def exit_is_kept(bench: Bench, process: asyncrt.Process, outcome: Outcome) -> None:
    result = await process.wait()
    assert result.exit_code == 7
    assert outcome.cancelled or outcome.value == result


async def long_process(bench: Bench) -> asyncrt.Process:
    container = await bench.running()
    return await container.exec(SLEEP, **NULL)


async def killed_at_the_end(bench: Bench, process: asyncrt.Process, outcome: Outcome) -> None:
    if not outcome.cancelled or outcome.tick > 0:
        assert (await process.wait()).signal == 9


scenario("Process.wait", lambda b, p: p.wait(), prepare=Bench.process, check=exit_is_kept)
scenario("Process.kill", lambda b, p: p.kill(), prepare=long_process)
scenario("Process.__aenter__", lambda b, p: p.__aenter__(), prepare=long_process)
scenario(
    "Process.__aexit__",
    lambda b, p: p.__aexit__(None, None, None),
    prepare=long_process,
    check=killed_at_the_end,
)


async def began(bench: Bench) -> asyncrt.Watch:
    watch = bench.engine.watch()
    await watch.__aenter__()
    bench.undo.push_async_exit(watch)
    return watch


async def unbegun(bench: Bench) -> asyncrt.Watch:
    watch = bench.engine.watch()
    bench.undo.callback(watch._feed.end)  # of an entering that wasn't cancelled
    return watch


async def nothing_open(bench: Bench, watch: asyncrt.Watch, outcome: Outcome) -> None:
    if outcome.cancelled:
        assert not watch._feed.is_open
        assert bench.engine._context.watchers == set()


async def something_to_come(bench: Bench) -> str:
    id = uuid.uuid4().hex
    asyncio.get_running_loop().call_later(0.003, append_line, bench.root, id)
    return id


async def first_event(bench: Bench, id: str) -> str:
    # From the oldest on: it may have come before a slow machine's watch has begun.
    async with contextlib.aclosing(bench.engine.watch("oldest", ids=id).__aiter__()) as events:
        return (await anext(events)).id


async def first_stats(bench: Bench, container: asyncrt.Container) -> int:
    async with contextlib.aclosing(container.events(0.001)) as found:
        first = [await anext(found), await anext(found)]
        return sum(each.pids for each in first if isinstance(each, asyncrt.Stats))


async def happening(bench: Bench, ids: list[str] | None) -> list[str]:
    async with contextlib.aclosing(bench.engine.events(ids, interval=0.001)) as found:
        return [(await anext(found)).id for _ in range(2)]


scenario("Watch.__aenter__", lambda b, w: w.__aenter__(), prepare=unbegun, check=nothing_open)
scenario("Watch.__aenter__ and events", first_event, prepare=something_to_come)
scenario("Watch.__aexit__", lambda b, w: w.__aexit__(None, None, None), prepare=began)
scenario("Container.stats", lambda b, c: c.stats(), prepare=Bench.running)
scenario("Container.events", first_stats, prepare=Bench.running)
scenario("Engine.events", lambda b, c: happening(b, [c.id]), prepare=Bench.running)
scenario("Engine.events of all", lambda b, c: happening(b, None), prepare=Bench.running)
