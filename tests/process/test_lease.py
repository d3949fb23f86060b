"""Leases: what is owned goes when its owner goes, however that happens, and nothing else does."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, Lease, Status
from asyncrt.container.context import _IDLE_WATCHES
from asyncrt.state import Leased, read_record
from tests.helpers import reaping
from tests.helpers.containers import (
    Client,
    directory_of,
    gone,
    in_state,
    init_of,
    is_alive,
    line,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import Interpreter
from tests.helpers.records import names, own_identity

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}

# Creates what its arguments say (id, grace or "none", start or not) and then hangs, its loop too.
OWNER = """
import asyncio, os, sys, time
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        spec = asyncrt.Spec.command(["/bin/sleep", "1000"])
        for each in sys.argv[2:]:
            id, grace, begin = each.split(":")
            lease = None if grace == "none" else asyncrt.Lease(float(grace))
            container = await engine.create(id, spec=spec, lease=lease, stdout=asyncrt.DEVNULL)
            if begin == "start":
                await container.start()
        print("ready", flush=True)
        for command in sys.stdin:
            if command == "fork\\n":
                if os.fork() == 0:
                    time.sleep(1000)  # what a worker of multiprocessing does
                print("forked", flush=True)

asyncio.run(main())
"""

# Takes web over, or says why it couldn't in the time given, and hangs.
HEIR = """
import asyncio, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        container = await engine.load("web")
        try:
            seconds = float(sys.argv[2]) if len(sys.argv) > 2 else None
            await container.renew(asyncrt.Lease(5), timeout=seconds)
            print("renewed", flush=True)
        except asyncrt.AsyncrtError as error:
            print(type(error).__name__, flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


async def ended(engine: Engine, id: str, seconds: float = 20) -> asyncrt.ExitResult:
    return await (await engine.load(id)).wait(seconds)


async def test_what_a_killed_owner_had_attached_ends_and_its_records_stay(engine: Engine) -> None:
    owned = ("run:0:start", "gate:0:leave", "free:none:start", "short:0.4:start", "long:3600:start")
    with Interpreter(OWNER, engine.root, *owned) as owner:
        assert await owner.next_line() == "ready"
        inits = {v.id: init_of(await engine.load(v.id), engine.root) for v in await engine.list()}
        killed_at = datetime.now(UTC)
        owner.kill()
        for id, grace in (("run", 0), ("gate", 0), ("short", 0.4)):
            result = await ended(engine, id)
            assert (result.exit_code, result.signal, result.reason) == (None, 9, "lease")
            assert not is_alive(inits[asyncrt.ContainerId(id)])
            assert result.finished_at is not None
            assert result.finished_at - killed_at >= timedelta(seconds=grace)
    views = {view.id: view for view in await engine.list()}
    assert {id: view.status for id, view in views.items()} == {
        "run": Status.STOPPED,
        "gate": Status.STOPPED,
        "short": Status.STOPPED,
        "long": Status.RUNNING,
        "free": Status.RUNNING,
    }
    for id in views:
        await engine.delete(id, force=True)


async def test_what_is_attached_is_gone_within_a_second_of_its_owners_kill(engine: Engine) -> None:
    """The best of a few: what a machine does that is busy with others is nobody's promise."""
    took = []
    for number in range(5):
        with Interpreter(OWNER, engine.root, f"web{number}:0:start") as owner:
            assert await owner.next_line() == "ready"
            init = init_of(await engine.load(f"web{number}"), engine.root)
            began = time.monotonic()
            owner.signal(signal.SIGKILL)
            await gone(init)
            took.append(time.monotonic() - began)
    assert min(took) < 1, took
    for number in range(5):
        await ended(engine, f"web{number}")
    await engine.destroy_many([f"web{number}" for number in range(5)])


async def test_a_closed_engine_is_an_owner_that_is_gone(root: str, engine: Engine) -> None:
    async with Engine(root) as owner:
        await started(owner, "web", sleeper(), lease=Lease(0), **NULL)
        paused = await started(owner, "paused", sleeper(), lease=Lease(0), **NULL)
        await paused.pause()
    assert (await ended(engine, "web")).reason == "lease"
    assert (await ended(engine, "paused")).reason == "lease"
    await engine.delete("web")
    await engine.delete("paused")


async def test_a_sleeping_supervisor_wakes_up_for_its_owners_end_only(engine: Engine) -> None:
    """Its descriptors lie in a socket until it wakes up: the price of a lease is nothing."""
    async with Engine(engine.root) as owner:
        container = await started(owner, "web", sleeper(), lease=Lease(0), **NULL)
        supervisor = supervisor_of(container, engine.root)
        without = await started(owner, "free", sleeper(), **NULL)
        free = supervisor_of(without, engine.root)
        for each in (supervisor, free):
            await in_state(each, "S")  # it has closed what it was forked with
        before = len(os.listdir(f"/proc/{supervisor}/fd"))
        assert len(os.listdir(f"/proc/{free}/fd")) == before
    await gone(supervisor)
    assert len(os.listdir(f"/proc/{free}/fd")) == before
    await engine.delete("web")
    await engine.delete("free", force=True)


async def test_whoever_renews_is_the_owner_from_then_on(root: str, engine: Engine) -> None:
    async with Engine(root) as second:
        async with Engine(root) as first:
            await started(first, "web", sleeper(), lease=Lease(0), **NULL)
            await started(first, "free", sleeper(), lease=Lease(0), **NULL)
            taken = await second.load("web")
            await taken.renew(Lease(0))
            await (await second.load("free")).renew(None)
        # Whatever closes when the first does has been heard of by the time that this is answered.
        for id in ("web", "free"):
            with Client(directory_of(taken, root).replace("web", id)) as client:
                assert "ok" in client.ask("resume")  # which does nothing to what isn't paused
        assert (await taken.view()).status is Status.RUNNING
    assert (await ended(engine, "web")).reason == "lease"
    free = await engine.load("free")
    assert (await free.view()).status is Status.RUNNING
    await free.destroy()
    await engine.delete("web")


async def test_another_process_takes_over_within_the_grace(engine: Engine) -> None:
    with Interpreter(OWNER, engine.root, "web:60:start", "gate:60:leave") as owner:
        assert await owner.next_line() == "ready"
        owner.kill()
        async with Engine(engine.root) as heir:
            web, gate = await heir.load("web"), await heir.load("gate")
            await web.renew(Lease(60))
            await gate.renew(Lease(0))
            await web.renew(Lease(0))
            await gate.start()
            for each in (web, gate):
                assert (await each.view()).status is Status.RUNNING
    for id in ("web", "gate"):
        assert (await ended(engine, id)).reason == "lease"
        await engine.delete(id)


async def test_a_lease_can_be_had_on_what_had_none(root: str, engine: Engine) -> None:
    container = await started(engine, "web", sleeper(), **NULL)
    async with Engine(root) as owner:
        await (await owner.load("web")).renew(Lease(0))
    assert (await container.wait(20)).reason == "lease"
    await container.delete()


async def test_a_renewal_after_the_end_says_that_it_has_ended(root: str, engine: Engine) -> None:
    async with Engine(root) as owner:
        await started(owner, "web", sleeper(), lease=Lease(0), **NULL)
        mine = await engine.load("web")
    await mine.wait(20)
    with pytest.raises(asyncrt.InvalidTransition) as caught:
        await mine.renew(Lease(5))
    assert (caught.value.operation, caught.value.status) == ("renew", "stopped")
    assert caught.value.allowed == ("created", "running", "paused")
    await mine.delete()
    with pytest.raises(asyncrt.ContainerNotFound):
        await mine.renew(Lease(5))


async def test_a_renewal_while_it_is_being_ended_is_refused(engine: Engine, root: str) -> None:
    """Nobody may believe to own what is as good as dead."""
    container = await started(engine, "web", sleeper(), **NULL)
    supervisor = supervisor_of(container, root)
    with Client(directory_of(container, root)) as heir:
        with Client(directory_of(container, root)) as owner:
            assert "ok" in owner.ask("lease", grace=0)
            os.kill(supervisor, signal.SIGSTOP)
        # Both lie there when it goes on: the end of one owner, and the next, who comes too late or
        # just in time. Either it lives and is owned, or it is ended and that is what was said.
        heir.send({"op": "lease", "req": 7, "grace": 30})
        os.kill(supervisor, signal.SIGCONT)
        answer = heir.receive()
        assert answer is not None
        if "ok" in answer:
            assert (await container.view()).status is Status.RUNNING
        else:
            assert (await container.wait(20)).reason == "lease"
    await container.destroy()


async def test_the_record_says_who_owns_it_so_that_gc_knows_whose_is_left(
    root: str, engine: Engine
) -> None:
    async with Engine(root) as owner:
        container = await started(owner, "web", sleeper(), lease=Lease(3), **NULL)
        mine = own_identity()
        assert read_record(root, "web").lease == Leased(3.0, (mine,))
        with Interpreter(HEIR, root) as heir:
            assert await heir.next_line() == "renewed"
            found = read_record(root, "web").lease
            assert found is not None
            assert found.grace == 5
            assert [each.pid for each in found.owners] == [heir.pid]
        await container.renew(Lease(0))
        assert read_record(root, "web").lease == Leased(0.0, (mine,))
        # Whether a supervisor that didn't answer has agreed nobody knows: both may own it.
        supervisor = supervisor_of(container, root)
        with Interpreter(HEIR, root, 0.1) as heir:
            os.kill(supervisor, signal.SIGSTOP)
            assert await heir.next_line() == "SandboxUnresponsive"
            os.kill(supervisor, signal.SIGCONT)
            found = read_record(root, "web").lease
            assert found is not None
            assert [each.pid for each in found.owners] == [mine.pid, heir.pid]
        await container.renew(Lease(0))
        await container.kill("KILL")
        await container.wait(20)
        await container.renew(None)
        record = read_record(root, "web")
        assert (record.lease, record.status) == (None, Status.STOPPED)
    await engine.delete("web")


async def test_nobody_keeps_a_lease_for_a_callers_supervision(engine: Engine) -> None:
    with pytest.raises(asyncrt.SpecInvalid, match="lease needs supervision"):
        await engine.create("web", spec=sleeper(), supervision="caller", lease=Lease(0))
    assert names(engine.root) == []


@pytest.mark.parametrize(
    "grace", [-1, -0.001, float("nan"), float("inf"), 10**400, "1", None, True], ids=str
)
def test_a_grace_that_makes_no_sense_is_refused(grace: Any) -> None:
    with pytest.raises(asyncrt.SpecInvalid, match="must be a number, 0 or more"):
        Lease(grace)


@pytest.mark.parametrize("lease", [5, "1", Lease])
async def test_what_is_no_lease_is_refused(engine: Engine, lease: Any) -> None:
    with pytest.raises(asyncrt.SpecInvalid, match="must be a Lease or None"):
        await engine.create("web", spec=sleeper(), lease=lease)
    async with engine.running("web", spec=sleeper(), **NULL) as container:
        with pytest.raises(asyncrt.SpecInvalid, match="must be a Lease or None"):
            await container.renew(lease)
        with pytest.raises(asyncrt.SpecInvalid, match="must be a Lease or None"):
            await container.exec(["/bin/true"], lease=lease)
    assert names(engine.root) == []


async def test_a_supervisor_refuses_a_grace_that_is_no_number(engine: Engine) -> None:
    container = await started(engine, "web", sleeper(), **NULL)
    with Client(directory_of(container, engine.root)) as client:
        grace: object
        for grace in ("soon", [], float("nan")):
            assert "bad message" in client.ask("lease", grace=grace)["error"]
    assert (await container.view()).status is Status.RUNNING
    await container.destroy()


async def test_after_a_killed_supervisor_nobody_keeps_the_lease(root: str, engine: Engine) -> None:
    """A program that runs goes on, as without a lease; one at its gate ends with its supervisor."""
    async with Engine(root) as owner:
        web = await started(owner, "web", sleeper(), lease=Lease(0), **NULL)
        gate = await owner.create("gate", spec=sleeper(), lease=Lease(0), **NULL)
        for each in (web, gate):
            os.kill(supervisor_of(each, root), signal.SIGKILL)
            await gone(supervisor_of(each, root))
        await gone(init_of(gate, root))
        with pytest.raises(asyncrt.SandboxUnresponsive, match="its supervisor is gone"):
            await web.renew(Lease(0))
    view = await (await engine.load("web")).view()
    assert view.status is Status.RUNNING
    for id in ("web", "gate"):
        await engine.delete(id, force=True)


async def test_a_fork_of_the_owner_doesnt_hold_what_it_owned(engine: Engine) -> None:
    with Interpreter(OWNER, engine.root, "web:0:start") as owner:
        assert await owner.next_line() == "ready"
        owner.say("fork")
        assert await owner.next_line() == "forked"
        owner.kill()
        assert (await ended(engine, "web")).reason == "lease"
    await engine.delete("web")
    for pid in reaping.orphans():
        os.kill(pid, signal.SIGKILL)


async def test_no_connection_with_a_lease_is_closed_for_being_idle(engine: Engine) -> None:
    many = _IDLE_WATCHES + 10
    owned = [
        await engine.create(f"own{n}", spec=sleeper(), lease=Lease(0), **NULL) for n in range(many)
    ]
    free = [await engine.create(f"free{n}", spec=sleeper(), **NULL) for n in range(5)]
    watches = engine._context.watches
    assert all(watches.open_channel((each.id, each.instance)) for each in owned + free)
    assert {(await each.view()).status for each in owned} == {Status.CREATED}
    await owned[0].renew(None)
    for each in owned + free:
        await each.destroy()
    assert not watches._open
    assert not watches._held


async def test_an_attached_exec_goes_with_its_owner(engine: Engine, root: str) -> None:
    container = await started(engine, "web", sleeper(), **NULL)
    async with Engine(root) as owner:
        mine = await owner.load("web")
        attached = await mine.exec(["/bin/sleep", "1000"], lease=Lease(0), **NULL)
        free = await mine.exec(["/bin/sleep", "1000"], **NULL)
    await gone(attached.pid)
    assert is_alive(free.pid)
    assert (await container.view()).status is Status.RUNNING
    await container.destroy()


async def test_an_attached_exec_is_killed_with_all_below_it(engine: Engine, root: str) -> None:
    container = await started(engine, "web", sleeper(), **NULL)
    async with Engine(root) as owner:
        mine = await owner.load("web")
        script = "sleep 1000 & echo $!; wait"
        process = await mine.exec(["/bin/sh", "-c", script], lease=Lease(0.05), stdout=asyncrt.PIPE)
        below = int(await line(process.stdout))
        process.close()
    await gone(process.pid)
    await gone(below)
    await container.destroy()


async def test_run_and_running_leave_nothing_with_a_lease(engine: Engine) -> None:
    done = await engine.run("job", spec=asyncrt.Spec.command(["true"]), lease=Lease(0))
    assert done.exit.exit_code == 0
    async with engine.running("svc", spec=sleeper(), lease=Lease(0), **NULL) as container:
        assert (await container.view()).status is Status.RUNNING
    assert names(engine.root) == []


async def test_an_owner_who_is_stopped_for_a_while_still_owns(engine: Engine) -> None:
    with Interpreter(OWNER, engine.root, "web:0:start") as owner:
        assert await owner.next_line() == "ready"
        owner.signal(signal.SIGSTOP)
        container = await engine.load("web")
        with pytest.raises(TimeoutError):
            await container.wait(0.2)
        owner.kill()
        assert (await container.wait(20)).reason == "lease"
    await engine.delete("web")
