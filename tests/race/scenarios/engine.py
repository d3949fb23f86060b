"""The engine's own awaitables, cancelled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

import asyncrt
from asyncrt.state import read_record
from asyncrt.status import Status
from tests.helpers.cancel import Outcome
from tests.helpers.events import append_line
from tests.helpers.records import dead_identity, make_record, put_record
from tests.race.scenarios.bench import NULL, Bench, always_nothing, gone_or_repeated, scenario


async def returned_or_nothing(bench: Bench, state: Any, outcome: Outcome) -> None:
    if outcome.cancelled:
        bench.nothing_of_it()
    else:
        assert await bench.status() == "created"
        assert outcome.value.instance == read_record(bench.root, "web").instance
        outcome.value._let_go()


async def another_engine(bench: Bench) -> asyncrt.Engine:
    engine = asyncrt.Engine(bench.root)
    await engine.__aenter__()
    await engine.run("web", spec=bench.spec(["/bin/true"]), **NULL)
    bench.undo.push_async_callback(engine.close)
    return engine


async def open_engine(bench: Bench, _: None) -> None:
    engine = asyncrt.Engine(bench.root)
    bench.undo.push_async_callback(engine.close)
    await engine.__aenter__()


async def run_running(bench: Bench, _: None) -> None:
    async with bench.engine.running("web", spec=bench.spec(), **NULL) as container:
        assert (await container.view()).status == "running"
        await asyncio.sleep(0)


def shout(bench: Bench, _: None) -> Coroutine[Any, Any, Any]:
    spec = bench.spec(["/bin/sh", "-c", "cat; echo err >&2; exit 3"])
    return bench.engine.run(
        "web", spec=spec, input=b"in" * 5000, stdout=asyncrt.PIPE, stderr=asyncrt.PIPE
    )


scenario("Engine.__aenter__", open_engine)
scenario("Engine.__aexit__", lambda b, e: e.__aexit__(None, None, None), prepare=another_engine)
scenario("Engine.close", lambda b, e: e.close(), prepare=another_engine)
scenario("Engine.create", lambda b, _: b.created(), check=returned_or_nothing)
scenario(
    "Engine.create caller",
    lambda b, _: b.created(supervision="caller"),
    check=returned_or_nothing,
)
scenario(
    "Engine.create piped",
    lambda b, _: b.created(stdin=asyncrt.PIPE, stdout=asyncrt.PIPE, stderr=asyncrt.PIPE),
    check=returned_or_nothing,
)
scenario(
    "Engine.create leased",
    lambda b, _: b.created(lease=asyncrt.Lease(0)),
    check=returned_or_nothing,
)


async def hooked(bench: Bench) -> asyncrt.Engine:
    """Another engine, with hooks of both sorts."""

    async def ahook(_: dict[str, object]) -> None:
        await asyncio.sleep(0)

    def hook(_: dict[str, object]) -> None:
        pass

    engine = asyncrt.Engine(
        bench.root, hooks={kind: [ahook, hook] for kind in ("prestart", "poststart", "poststop")}
    )
    await engine.__aenter__()
    bench.undo.push_async_callback(engine.close)
    await engine.run("web", spec=bench.spec(["/bin/true"]), **NULL)
    return engine


scenario(
    "Engine.run hooked",
    lambda b, e: e.run("web", spec=b.spec(["/bin/true"]), **NULL),
    prepare=hooked,
    check=always_nothing,
)
scenario("Engine.load", lambda b, _: b.engine.load("we"), prepare=Bench.created)
scenario("Engine.list", lambda b, _: b.engine.list(), prepare=Bench.created)
scenario("Engine.run", shout, check=always_nothing)
scenario("Engine.running", run_running, check=always_nothing)
scenario(
    "Engine.delete",
    lambda b, _: b.engine.delete("web"),
    prepare=Bench.stopped,
    check=gone_or_repeated,
)
scenario(
    "Engine.prune",
    lambda b, _: b.engine.prune(),
    prepare=Bench.stopped,
    check=gone_or_repeated,
)
scenario(
    "Engine.delete force",
    lambda b, _: b.engine.delete("web", force=True),
    prepare=Bench.paused,
    check=gone_or_repeated,
)


async def left_over(bench: Bench) -> None:
    """Of what each step of a recovery is for, one."""
    container = await bench.running()
    await container.kill("KILL")
    await container.wait()  # its end is in no record
    root = bench.root
    put_record(root, make_record("made", status=Status.CREATING, creator=dead_identity()))
    for name in ("left.lock", ".web.state~", ".~events~"):
        with open(f"{root}/{name}", "w"):
            pass
    append_line(root, "gone", status="running")
    lost = await bench.engine.create("lost", spec=bench.spec(), **NULL)
    os.unlink(f"{root}/{lost.id}.state")


async def recoverable(bench: Bench, state: Any, outcome: Outcome) -> None:
    """What is left to do is done by the next one, and then there is nothing."""
    if not outcome.cancelled:
        assert len({each.kind for each in outcome.value.findings}) == 6
    assert (await bench.engine.recover()).complete
    assert (await bench.engine.recover()).findings == ()
    assert [view.id for view in await bench.engine.list()] == ["web"]


scenario("Engine.recover", lambda b, _: b.engine.recover(), prepare=left_over, check=recoverable)
