"""Every public awaitable, cancelled at every tick: its result is returned or undone, never lost.

The list of awaitables is taken from the public surface. A new one without a scenario fails here.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

import pytest
from portalocker import LockFlags
from portalocker.portalocker import FlockLocker

import asyncrt
from asyncrt.state import read_record
from asyncrt.status import Status
from tests.helpers import reality, reaping, surface
from tests.helpers.cancel import HOWS, Outcome, cancel_at_every_tick
from tests.helpers.events import append_line
from tests.helpers.leaks import _descriptors
from tests.helpers.processes import until
from tests.helpers.records import dead_identity, make_record, own_identity, put_record

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
SLEEP = ["/bin/sleep", "1000"]


class Bench:
    """One engine, one container called web, and what was there before each run."""

    def __init__(self, engine: asyncrt.Engine) -> None:
        self.engine = engine
        self.root = engine.root
        self.mark = ""
        self.undo = contextlib.AsyncExitStack()

    def spec(self, args: list[str] = SLEEP) -> asyncrt.Spec:
        self.mark = uuid.uuid4().hex
        return asyncrt.Spec.command(args, env=reality.marking(self.mark))

    async def created(self, args: list[str] = SLEEP, **options: Any) -> asyncrt.Container:
        return await self.engine.create("web", spec=self.spec(args), **{**NULL, **options})

    async def running(self, args: list[str] = SLEEP, **options: Any) -> asyncrt.Container:
        container = await self.created(args, **options)
        await container.start()
        return container

    async def paused(self) -> asyncrt.Container:
        container = await self.running()
        await container.pause()
        return container

    async def stopped(self) -> asyncrt.Container:
        container = await self.running()
        await container.stop()
        return container

    async def process(self) -> asyncrt.Process:
        container = await self.running()
        return await container.exec(["/bin/sh", "-c", "exit 7"], **NULL)

    def nothing_of_it(self) -> None:
        """No record, no file, no lock, no process: asked right after the cancellation."""
        assert reality.files(self.root) == set()
        assert reality.containers_processes() == []

    async def status(self) -> str:
        """The status on disk, which must be the one of reality too."""
        record = read_record(self.root, "web")
        view = (await self.engine.list())[0]
        assert view.status is record.status
        assert record.init is not None
        pid = record.init.pid
        if record.status == "stopped":
            assert reality.look(pid) is None
            return str(record.status)
        at_gate = "created" in (record.status, record.paused_from)

        def agrees() -> bool:
            seen = reality.look(pid)
            assert seen is not None
            assert (seen.comm == "asyncrt:gate") == at_gate
            return (seen.state == "T") == (record.status == "paused")

        # A stop is taken when the process runs next; pause waits for that for a bounded time.
        await until(agrees, f"init is as the record says: {record.status}")
        return str(record.status)


class Scenario(NamedTuple):
    """How to get there, what is cancelled, and what must hold then."""

    prepare: Callable[[Bench], Awaitable[Any]]
    make: Callable[[Bench, Any], Coroutine[Any, Any, Any]]
    check: Callable[[Bench, Any, Outcome], Awaitable[None]]


SCENARIOS: dict[str, Scenario] = {}


async def nothing(bench: Bench) -> None:
    """No container."""


async def no_matter(bench: Bench, state: Any, outcome: Outcome) -> None:
    """Only what holds for all: nothing leaks, and what is there can be destroyed."""


def scenario(
    name: str,
    make: Callable[[Bench, Any], Coroutine[Any, Any, Any]],
    *,
    prepare: Callable[[Bench], Awaitable[Any]] = nothing,
    check: Callable[[Bench, Any, Outcome], Awaitable[None]] = no_matter,
) -> None:
    SCENARIOS[name] = Scenario(prepare, make, check)


# Engine


async def returned_or_nothing(bench: Bench, state: Any, outcome: Outcome) -> None:
    if outcome.cancelled:
        bench.nothing_of_it()
    else:
        assert await bench.status() == "created"
        assert outcome.value.instance == read_record(bench.root, "web").instance
        outcome.value._let_go()


async def always_nothing(bench: Bench, state: Any, outcome: Outcome) -> None:
    bench.nothing_of_it()


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


async def gone_or_repeated(bench: Bench, state: Any, outcome: Outcome) -> None:
    if outcome.cancelled:
        await bench.engine.delete("web", force=True)
    bench.nothing_of_it()


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


# Container


def one_of(*statuses: str) -> Callable[[Bench, Any, Outcome], Awaitable[None]]:
    """Cancelled or not, it is in one of these; not cancelled, in the last."""

    async def check(bench: Bench, state: Any, outcome: Outcome) -> None:
        found = await bench.status()
        assert found in statuses
        if not outcome.cancelled:
            assert found == statuses[-1]
        # Somebody else may have it for a moment longer; we don't.
        await until(lambda: not reality.locked_files(bench.root), "the lock is free", timeout=5)

    return check


def _flock(fd: int) -> None:
    lock: Callable[[int, int], None] = FlockLocker().locker
    lock(fd, LockFlags.EXCLUSIVE.value)


async def behind_a_lock(bench: Bench) -> asyncrt.Container:
    """Created, and somebody holds its lock for a while."""
    container = await bench.created()
    path = f"{bench.root}/web.lock"
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    _flock(fd)
    asyncio.get_running_loop().call_later(0.003, os.close, fd)
    return container


async def ended_or_not(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    if not outcome.cancelled:
        assert (await container.view()).status == "stopped"


async def same_for_the_next(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    result = await container.wait()
    assert result.exit_code == 3
    assert outcome.cancelled or outcome.value == result


async def first_of_several(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    result = await container.wait()
    assert outcome.cancelled or outcome.value == (container, result)


async def exec_or_nothing(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    if outcome.cancelled:
        await until(
            lambda: not [each for each in reality.marked([bench.mark]) if each.role == "exec"],
            "the exec'd process is gone",
        )
        assert (await container.view()).status == "running"
    else:
        process = outcome.value
        seen = reality.look(process.pid)
        assert seen is not None
        assert (seen.mark, seen.role) == (bench.mark, "exec")
        await process.kill()
        assert (await process.wait()).signal == 9
        process.close()


def execute(bench: Bench, container: asyncrt.Container) -> Coroutine[Any, Any, Any]:
    env = reality.marking(bench.mark, "exec")
    return container.exec(SLEEP, env=env, stdin=asyncrt.PIPE, **{**NULL, "stdout": asyncrt.PIPE})


class Elsewhere(NamedTuple):
    """A container that another engine owns, as ours sees it."""

    owner: asyncrt.Engine
    ours: asyncrt.Container


async def leased_elsewhere(bench: Bench) -> Elsewhere:
    owner = asyncrt.Engine(bench.root)
    await owner.__aenter__()
    bench.undo.push_async_callback(owner.close)
    await owner.create("web", spec=bench.spec(), lease=asyncrt.Lease(0), **NULL)
    return Elsewhere(owner, await bench.engine.load("web"))


async def owned_by_one_of_two(bench: Bench, owned: Elsewhere, outcome: Outcome) -> None:
    """Whoever owns it holds it: it never ends while both are there, and goes with its owner."""
    mine = bench.engine._context.watches.holds(("web", owned.ours.instance))
    assert mine or outcome.cancelled
    await owned.owner.close()
    if mine:
        await owned.ours.start()  # answered by an init that nobody has killed
        await owned.ours.renew(None)
        assert await bench.status() == "running"
    else:
        assert (await owned.ours.wait(20)).reason == "lease"


async def until_ended(bench: Bench) -> asyncrt.Container:
    return await bench.running(["/bin/sh", "-c", "exit 3"])


async def logged(bench: Bench) -> asyncrt.Container:
    script = "echo one; echo two >&2; printf end"
    container = await bench.running(
        ["/bin/sh", "-c", script], stdout=asyncrt.LOG, stderr=asyncrt.LOG
    )
    await container.wait()
    return container


async def read_all(container: asyncrt.Container, *, follow: bool) -> list[bytes]:
    return [each.data async for each in container.logs(follow=follow)]


async def read_again(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    assert sorted(await read_all(container, follow=False)) == [b"end", b"one\n", b"two\n"]


scenario("Container.logs", lambda b, c: read_all(c, follow=False), prepare=logged, check=read_again)
scenario(
    "Container.logs follow", lambda b, c: read_all(c, follow=True), prepare=logged, check=read_again
)
scenario("Container.view", lambda b, c: c.view(), prepare=Bench.created)
scenario("Container.state", lambda b, c: c.state(), prepare=Bench.created)
scenario("Container.processes", lambda b, c: c.processes(), prepare=Bench.running)
scenario(
    "Container.start",
    lambda b, c: c.start(),
    prepare=Bench.created,
    check=one_of("created", "running"),
)
scenario(
    "Container.start behind a lock",
    lambda b, c: c.start(),
    prepare=behind_a_lock,
    check=one_of("created", "running"),
)
scenario(
    "Container.pause",
    lambda b, c: c.pause(),
    prepare=Bench.running,
    check=one_of("running", "paused"),
)
scenario(
    "Container.resume",
    lambda b, c: c.resume(),
    prepare=Bench.paused,
    check=one_of("paused", "running"),
)
scenario(
    "Container.renew",
    lambda b, owned: owned[1].renew(asyncrt.Lease(0)),
    prepare=leased_elsewhere,
    check=owned_by_one_of_two,
)
scenario("Container.kill", lambda b, c: c.kill("TERM"), prepare=Bench.running)
scenario(
    "Container.kill all",
    lambda b, c: c.kill("KILL", all=True),
    prepare=Bench.running,
    check=ended_or_not,
)
scenario("Container.stop", lambda b, c: c.stop(), prepare=Bench.running, check=ended_or_not)
scenario("Container.wait", lambda b, c: c.wait(), prepare=until_ended, check=same_for_the_next)
scenario("Container.exec", execute, prepare=Bench.running, check=exec_or_nothing)
scenario(
    "Container.destroy", lambda b, c: c.destroy(), prepare=Bench.running, check=gone_or_repeated
)
scenario("Container.delete", lambda b, c: c.delete(), prepare=Bench.stopped, check=gone_or_repeated)

scenario(
    "Engine.kill_many",
    lambda b, c: b.engine.kill_many(["nobody", c, "we"], "KILL"),
    prepare=Bench.running,
)
scenario(
    "Engine.stop_many",
    lambda b, c: b.engine.stop_many(["nobody", c]),
    prepare=Bench.running,
    check=ended_or_not,
)
scenario(
    "Engine.destroy_many",
    lambda b, c: b.engine.destroy_many(["nobody", c]),
    prepare=Bench.running,
    check=gone_or_repeated,
)
scenario(
    "Engine.wait_any",
    lambda b, c: b.engine.wait_any([c, "we"]),
    prepare=until_ended,
    check=first_of_several,
)


# Pool


async def stocked(bench: Bench) -> asyncrt.Pool:
    """One is in stock."""
    pool = bench.engine.pool(spec=bench.spec(), size=1, prefix="web", **NULL)
    await pool.__aenter__()
    return pool


async def out_of_stock(bench: Bench) -> asyncrt.Pool:
    """The next is being made."""
    pool = await stocked(bench)
    await (await pool.take(start=False)).destroy()
    return pool


async def taken_or_none(bench: Bench, pool: asyncrt.Pool, outcome: Outcome) -> None:
    await pool.close()
    taken = {view.id for view in await bench.engine.list()}
    assert taken == (set() if outcome.cancelled else {outcome.value.id})
    await bench.engine.destroy_many(taken)


async def entered_or_nothing(bench: Bench, pool: asyncrt.Pool, outcome: Outcome) -> None:
    if not outcome.cancelled:
        assert pool.ready == 1
        await pool.close()
    bench.nothing_of_it()


async def empty_pool(bench: Bench) -> asyncrt.Pool:
    return bench.engine.pool(spec=bench.spec(), size=1, prefix="web", **NULL)


scenario("Pool.take", lambda b, p: p.take(), prepare=stocked, check=taken_or_none)
scenario("Pool.take made for it", lambda b, p: p.take(), prepare=out_of_stock, check=taken_or_none)
scenario(
    "Pool.__aenter__", lambda b, p: p.__aenter__(), prepare=empty_pool, check=entered_or_nothing
)
scenario("Pool.close", lambda b, p: p.close(), prepare=out_of_stock, check=always_nothing)
scenario(
    "Pool.__aexit__",
    lambda b, p: p.__aexit__(None, None, None),
    prepare=stocked,
    check=always_nothing,
)


# Terminals


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


# Process


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


# Watch, and what its processes use


async def began(bench: Bench) -> asyncrt.Watch:
    watch = bench.engine.watch()
    await watch.__aenter__()
    bench.undo.push_async_exit(watch)
    return watch


async def unbegun(bench: Bench) -> asyncrt.Watch:
    watch = bench.engine.watch()
    bench.undo.callback(watch._end)  # of an entering that wasn't cancelled
    return watch


async def nothing_open(bench: Bench, watch: asyncrt.Watch, outcome: Outcome) -> None:
    if outcome.cancelled:
        assert watch._changes is None
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
        await anext(found)
        return (await anext(found)).pids


scenario("Watch.__aenter__", lambda b, w: w.__aenter__(), prepare=unbegun, check=nothing_open)
scenario("Watch.__aenter__ and events", first_event, prepare=something_to_come)
scenario("Watch.__aexit__", lambda b, w: w.__aexit__(None, None, None), prepare=began)
scenario("Container.stats", lambda b, c: c.stats(), prepare=Bench.running)
scenario("Container.events", first_stats, prepare=Bench.running)


# FileLock


async def free_lock(bench: Bench) -> asyncrt.FileLock:
    lock = asyncrt.FileLock(f"{bench.root}/plain")
    bench.undo.callback(os.unlink, f"{bench.root}/plain")
    bench.undo.callback(_unlink_if_there, f"{bench.root}/plain.queue")
    assert lock.try_acquire()
    lock.release()
    return lock


def _unlink_if_there(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


async def queued_lock(bench: Bench) -> asyncrt.FileLock:
    """Another object of this loop holds it for a while."""
    lock = await free_lock(bench)
    holder = asyncrt.FileLock(lock.path)
    assert holder.try_acquire()
    loop = asyncio.get_running_loop()
    loop.call_later(0.001, holder.release)
    return lock


async def contended_lock(bench: Bench) -> asyncrt.FileLock:
    """Somebody else, as the kernel sees it, holds it for a while."""
    lock = await free_lock(bench)
    fd = os.open(lock.path, os.O_RDWR | os.O_CLOEXEC)
    _flock(fd)
    asyncio.get_running_loop().call_later(0.003, os.close, fd)
    return lock


async def held_lock(bench: Bench) -> asyncrt.FileLock:
    lock = await free_lock(bench)
    assert lock.try_acquire()
    return lock


async def held_or_free(bench: Bench, lock: asyncrt.FileLock, outcome: Outcome) -> None:
    assert lock.locked != outcome.cancelled
    lock.close()
    other = asyncrt.FileLock(lock.path)
    await other.acquire(timeout=5)  # also proves that no late grant stays with nobody
    other.release()


async def free_afterwards(bench: Bench, lock: asyncrt.FileLock, outcome: Outcome) -> None:
    if not outcome.cancelled:
        assert not lock.locked
    lock.close()


for kind, preparation in (
    ("", free_lock),
    (" queued", queued_lock),
    (" contended", contended_lock),
):
    scenario(
        f"FileLock.acquire{kind}", lambda b, k: k.acquire(), prepare=preparation, check=held_or_free
    )
scenario(
    "FileLock.acquire in time",
    lambda b, k: k.acquire(timeout=5),
    prepare=contended_lock,
    check=held_or_free,
)
scenario(
    "FileLock.acquire shared",
    lambda b, k: k.acquire(shared=True),
    prepare=contended_lock,
    check=held_or_free,
)
scenario(
    "FileLock.__aenter__", lambda b, k: k.__aenter__(), prepare=contended_lock, check=held_or_free
)
scenario(
    "FileLock.__aexit__",
    lambda b, k: k.__aexit__(None, None, None),
    prepare=held_lock,
    check=free_afterwards,
)


# StateFile


def state_file(bench: Bench) -> asyncrt.StateFile:
    return asyncrt.StateFile(bench.root, asyncrt.ContainerId("web"), durable=False)


async def with_record(bench: Bench) -> asyncrt.StateFile:
    state = state_file(bench)
    await state.lock_for_new()
    await state.save_locked(make_record(status="stopped", creator=own_identity()))
    state.unlock()
    return state


async def locked_record(bench: Bench) -> asyncrt.StateFile:
    state = await with_record(bench)
    await state.lock()
    return state


async def lock_or_none(bench: Bench, state: asyncrt.StateFile, outcome: Outcome) -> None:
    assert state.locked != outcome.cancelled
    state.close()
    assert reality.files(bench.root) == {"web.lock", "web.queue", "web.state"}
    await state.lock(timeout=5)
    state.close()


async def id_or_nothing(bench: Bench, state: asyncrt.StateFile, outcome: Outcome) -> None:
    assert state.locked != outcome.cancelled
    if outcome.cancelled:
        assert reality.files(bench.root) == set()
    state.close()
    assert reality.files(bench.root) == set()


async def save(bench: Bench, state: asyncrt.StateFile) -> None:
    record = await state.load_locked()
    bench.mark = str(record.revision)
    record.owner = "somebody else"
    try:
        await state.save_locked(record)
    finally:
        bench.mark = str(record.revision)


async def saved_or_not(bench: Bench, state: asyncrt.StateFile, outcome: Outcome) -> None:
    record = read_record(bench.root, "web")
    assert record.revision in {1, 2}
    assert (record.owner == "somebody else") == (record.revision == 2)
    if bench.mark:
        assert int(bench.mark) == record.revision  # the caller knows which
    assert state.locked
    state.close()


async def removable(bench: Bench, state: asyncrt.StateFile, outcome: Outcome) -> None:
    assert state.locked
    await state.destroy()
    state.close()
    assert reality.files(bench.root) == set()


async def unlocked(bench: Bench, state: asyncrt.StateFile, outcome: Outcome) -> None:
    state.close()


async def unrecorded(bench: Bench) -> asyncrt.StateFile:
    bench.mark = ""
    return state_file(bench)


async def unmarked(bench: Bench) -> asyncrt.StateFile:
    bench.mark = ""
    return await locked_record(bench)


scenario("StateFile.lock", lambda b, s: s.lock(), prepare=with_record, check=lock_or_none)
scenario(
    "StateFile.lock_for_new", lambda b, s: s.lock_for_new(), prepare=unrecorded, check=id_or_nothing
)
scenario("StateFile.load", lambda b, s: s.load(), prepare=with_record, check=unlocked)
scenario(
    "StateFile.load_locked", lambda b, s: s.load_locked(), prepare=locked_record, check=unlocked
)
scenario("StateFile.save_locked", save, prepare=unmarked, check=saved_or_not)
scenario(
    "StateFile.clear_locked", lambda b, s: s.clear_locked(), prepare=locked_record, check=removable
)
scenario("StateFile.destroy", lambda b, s: s.destroy(), prepare=locked_record, check=removable)


# The sweep

# On a disk file work is done in threads, so that there are many more places to be cancelled at.
ON_DISK = [
    "Engine.create",
    "Engine.run",
    "Container.start",
    "Container.pause",
    "Container.destroy",
    "Pool.take",
    "Watch.__aenter__",
    "Watch.__aenter__ and events",
    *(name for name in SCENARIOS if name.startswith("StateFile.")),
]


@pytest.mark.timeout(600)  # some hundred lives for one with hooks
@pytest.mark.parametrize("name", SCENARIOS)
async def test_cancelled_at_any_tick(name: str, engine: asyncrt.Engine, full: bool) -> None:
    await sweep(name, engine, full=full)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ON_DISK)
async def test_cancelled_at_any_tick_with_file_work_in_threads(
    name: str, disk_root: str, full: bool
) -> None:
    async with asyncrt.Engine(disk_root, durable=False) as engine:
        await sweep(name, engine, full=full)


async def sweep(name: str, engine: asyncrt.Engine, *, full: bool) -> None:
    scenario = SCENARIOS[name]
    bench = Bench(engine)
    # Warm: the fork server is there, and the descriptor that libuv keeps once it has seen a stream.
    await engine.run("web", spec=bench.spec(["/bin/true"]), stdout=asyncrt.PIPE)
    before: dict[int, str] = {}

    async def prepare() -> Any:
        before.clear()
        before.update(_descriptors())
        return await scenario.prepare(bench)

    async def check(state: Any, outcome: Outcome) -> None:
        if outcome.error is not None:
            raise AssertionError(f"raised when cancelled: {outcome}") from outcome.error
        assert outcome.hit or not outcome.cancelled
        await scenario.check(bench, state, outcome)
        if isinstance(state, asyncrt.Process):
            state.close()
        await engine.delete("web", force=True)
        await bench.undo.aclose()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert others == set()
        try:
            await until(lambda: not _more(bench, before), "all is as it was before")
        except TimeoutError:
            pytest.fail(f"{outcome} left {_more(bench, before)}")

    # In CI only the first way to cancel meets every tick.
    places = {how: index for index, how in enumerate(HOWS)}
    ticks = await cancel_at_every_tick(
        prepare,
        lambda state: scenario.make(bench, state),
        check,
        wanted=lambda tick, how: full or places[how] == 0 or tick % 3 == places[how] % 3,
    )
    assert ticks >= 0


def _more(bench: Bench, before: dict[int, str]) -> list[object]:
    """Descriptors, files and processes that weren't there before."""
    reaping.reap_orphans()
    more = [f"{fd} -> {to}" for fd, to in _descriptors().items() if fd not in before]
    return [*more, *reality.files(bench.root), *reality.strays()]


def test_every_public_awaitable_has_a_scenario() -> None:
    awaitable = {name for name, _ in surface.awaitables()}
    for owner in surface.public_classes():
        for name in ("__aenter__", "__aexit__"):
            if inspect.iscoroutinefunction(vars(owner).get(name)):
                awaitable.add(f"{owner.__name__}.{name}")
    covered = {name.partition(" ")[0] for name in SCENARIOS}
    assert awaitable - covered == set()
    assert covered - awaitable == set()
    assert len(awaitable) > 30
