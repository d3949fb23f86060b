"""Several containers in one sandbox: each with processes, output and an end of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

import asyncrt
from asyncrt import Engine, InvalidTransition, SpecInvalid, Status, _paths, _procid
from tests.helpers.containers import SECONDS, Fifo, gone, init_of, is_alive, line, record_of, rest
from tests.helpers.pods import ID, TYPE, Pods, members, pids
from tests.helpers.processes import until

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]


async def _said(container: asyncrt.Container, script: str) -> str:
    process = await container.exec(["/bin/sh", "-c", script], stdout=asyncrt.PIPE)
    try:
        found = await rest(process.stdout)
        assert (await process.wait()).exit_code == 0
    finally:
        process.close()
    return found.strip()


async def test_ps_of_each_lists_only_its_own_and_an_exec_shows_only_there(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    one = await pods.running(sandbox, "one", pods.shell("sleep 1000 & exec sleep 1000"))
    two = await pods.running(sandbox, "two")
    process = await one.exec(["/bin/sleep", "1000"])
    at_root = await sandbox.root.exec(["/bin/sleep", "1000"])
    try:
        own = await pids(one)
        assert {init_of(one, pods.root), process.pid} < own
        assert len(own) == 3
        assert await pids(two) == {init_of(two, pods.root)}
        assert await pids(sandbox.root) == {init_of(sandbox.root, pods.root), at_root.pid}
        assert (await one.stats()).pids == 3
        assert (await two.stats()).pids == 1
    finally:
        process.close()
        at_root.close()


async def test_each_has_the_descriptors_that_are_passed_to_it_and_no_other(pods: Pods) -> None:
    """A supervisor of several launches each with what came for it."""
    script = (
        'for i in $(seq 0 300); do [ -e /proc/$$/fd/$i ] && list="$list $i"; done; '
        'echo "$1" $list >/proc/$$/fd/3; exec sleep 1000'
    )
    sandbox = await pods.sandbox()
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as said, open(write, "wb", buffering=0) as passed:
        for name, numbers in (("one", (3, 9)), ("two", (3, 5, 11))):
            spec = pods.shell(script, name)
            container = await sandbox.create(
                name, spec=spec, pass_fds=dict.fromkeys(numbers, passed)
            )
            await container.start()
            expected = f"{name} {' '.join(map(str, (0, 1, 2, *numbers)))}\n"
            assert said.readline().decode() == expected
            process = await container.exec(
                ["/bin/sh", "-c", script, "sh", "exec"], pass_fds={3: passed, 4: passed}
            )
            assert said.readline() == b"exec 0 1 2 3 4\n"
            await process.kill()
            process.close()


async def test_a_signal_to_a_process_of_a_sibling_is_refused(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    one, two = await pods.running(sandbox, "one"), await pods.running(sandbox, "two")
    for container in (one, sandbox.root):
        with pytest.raises(asyncrt.ProcessNotFound):
            await container.kill("KILL", pid=init_of(two, pods.root))
    with pytest.raises(asyncrt.ProcessNotFound):
        await one.kill("KILL", pgid=init_of(two, pods.root))
    assert (await two.view()).status is Status.RUNNING


async def test_killing_or_destroying_one_leaves_the_root_and_the_siblings(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    one, two, three = [await pods.running(sandbox, each) for each in ("one", "two", "three")]
    await one.kill("KILL")
    ended = await one.wait()
    assert (ended.signal, ended.reason) == (signal.SIGKILL, "signal")
    await two.destroy()
    for each in (three, sandbox.root):
        assert (await each.view()).status is Status.RUNNING
    with pytest.raises(InvalidTransition):
        await one.kill("TERM")
    assert [each.id for each in await sandbox.containers()] == ["one", "three"]
    await one.destroy()
    await one.destroy()
    assert members(pods.root) == ["three"]
    assert not os.path.exists(f"{pods.root}/one.d")


async def test_the_end_of_the_root_is_the_end_of_all_each_recorded(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    one = await pods.running(sandbox, "one", pods.shell("trap '' TERM; sleep 1000 & wait; wait"))
    two = await sandbox.create("two", spec=pods.sleeper())
    paused = await pods.running(sandbox, "paused")
    await paused.pause()
    own = await pids(one)
    await sandbox.root.kill("KILL")
    assert (await sandbox.root.wait()).reason == "signal"
    for each in (one, two, paused):
        found = await each.wait()
        assert (found.signal, found.reason) == (signal.SIGKILL, "sandbox ended")
        assert (await each.view()).status is Status.STOPPED
    assert not any(map(is_alive, own))
    await sandbox.root.destroy()
    assert {view.id for view in await pods.engine.list()} == {"one", "two", "paused"}
    for each in (one, two, paused):
        assert (await each.wait()).reason == "sandbox ended"
        await each.destroy()
    assert os.listdir(pods.root) == ["~events"]


async def test_kill_all_hits_what_is_left_after_init_and_no_sibling(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    two = await pods.running(sandbox, "two")
    one = await pods.running(sandbox, "one", pods.shell("sleep 1000 & exec sleep 1000"))
    bomb = await one.exec(["/bin/sh", "-c", "while :; do sleep 1000 & sleep 0.01; done"])
    try:
        before = await pids(one)
        await one.kill("KILL", all=True)
        assert not any(map(is_alive, before))
        assert (await one.view()).status is Status.STOPPED
        await one.kill("KILL", all=True)
        assert (await two.view()).status is Status.RUNNING
        assert (await sandbox.root.view()).status is Status.RUNNING
    finally:
        bomb.close()


async def test_what_outlives_init_is_ended_and_the_siblings_are_not(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    two = await pods.running(sandbox, "two")
    one = await sandbox.create(
        "one", spec=pods.shell("sleep 1000 & echo $!; exit 3"), stdout=asyncrt.PIPE
    )
    await one.start()
    await line(one.stdout)
    assert (await one.wait()).exit_code == 3
    await until(lambda: not os.path.exists(f"{pods.root}/one.d/control.sock"), "it is let go of")
    assert (await two.view()).status is Status.RUNNING
    assert await pids(sandbox.root) == {init_of(sandbox.root, pods.root)}
    await one.destroy()


async def test_pausing_one_pauses_that_one_only(pods: Pods) -> None:
    """HAZARDS 22."""
    sandbox = await pods.sandbox()
    count = pods.shell("i=0; while :; do i=$((i + 1)); echo $i; sleep 0.01; done")
    one = await sandbox.create("one", spec=count, stdout=asyncrt.PIPE)
    two = await sandbox.create("two", spec=count, stdout=asyncrt.PIPE)
    for each in (one, two):
        await each.start()
        await line(each.stdout)
    await one.pause()
    last = int(await line(two.stdout))
    while int(await line(two.stdout)) < last + 5:
        pass
    assert (await two.view()).status is Status.RUNNING
    assert (await sandbox.root.view()).status is Status.RUNNING
    await sandbox.root.pause()
    assert int(await line(two.stdout)) > last + 5
    assert (await one.view()).status is Status.PAUSED
    await one.resume()
    await line(one.stdout)
    await sandbox.root.resume()
    for each in (one, two):
        await each.destroy()


async def test_loading_a_sandbox_returns_exactly_its_members(pods: Pods) -> None:
    """HAZARDS 19: a pod `a` doesn't include pod `ab`, and a stray name is no container."""
    sandbox = await pods.sandbox("a")
    other = await pods.sandbox("ab")
    await sandbox.create("one", spec=pods.sleeper())
    await other.create("other", spec=pods.sleeper())
    await pods.engine.create("alone", spec=pods.sleeper())
    for name in ("alone", "gone", "other"):
        with open(f"{pods.root}/a.d/members/{name}", "w"):
            pass
    async with Engine(pods.root) as engine:
        loaded = await engine.load_sandbox("a")
        assert [each.id for each in await loaded.containers()] == ["one"]
        assert [view.id for view in await engine.list(sandbox="a")] == ["a", "one"]
        with pytest.raises(SpecInvalid, match="is a container in sandbox 'ab', and no sandbox"):
            await engine.load_sandbox("other")
        # Any engine creates in it.
        two = await loaded.create("two", spec=pods.sleeper())
        await two.start()
    assert [each.id for each in await sandbox.containers()] == ["one", "two"]
    await sandbox.destroy()
    assert [view.id for view in await pods.engine.list()] == ["ab", "alone", "other"]


async def test_a_second_sandbox_of_the_same_id_has_none_of_the_firsts_containers(
    pods: Pods,
) -> None:
    first = await pods.sandbox()
    one = await pods.running(first, "one")
    await first.root.destroy()
    second = await pods.sandbox()
    os.makedirs(f"{pods.root}/pod.d/members", exist_ok=True)
    with open(f"{pods.root}/pod.d/members/one", "w"):
        pass  # its record says that it is of a sandbox of that id
    assert await second.containers() == []
    with pytest.raises(asyncrt.ContainerNotFound):
        await first.create("two", spec=pods.sleeper())
    with pytest.raises(asyncrt.ContainerNotFound):
        await first.containers()
    await first.destroy()
    assert (await second.root.view()).status is Status.RUNNING
    assert (await one.wait()).reason == "sandbox ended"


@pytest.mark.parametrize("dialect", ["containerd", "cri-o"])
async def test_annotations_put_a_container_into_a_sandbox(pods: Pods, dialect: str) -> None:
    kind, id = TYPE, ID
    if dialect == "cri-o":
        kind, id = "io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"
    root = await pods.engine.create("pod", spec=pods.sleeper(annotations={kind: "sandbox"}))
    annotations = {kind: "container", id: "pod"}
    app = await pods.engine.create("app", spec=pods.sleeper(annotations=annotations))
    await app.start()
    assert record_of(app, pods.root).supervisor == record_of(root, pods.root).supervisor
    assert (await app.view()).sandbox == "pod"
    assert members(pods.root) == ["app"]
    await root.kill("KILL")
    assert (await app.wait()).reason == "sandbox ended"


async def test_output_and_terminals_are_each_ones_own(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    logged = await sandbox.create("logged", spec=pods.shell("echo out"), stdout=asyncrt.LOG)
    shown = await sandbox.create(
        "shown", spec=pods.shell("read line; echo [$line]; sleep 1000"), terminal=True
    )
    other = await sandbox.create("other", spec=pods.shell("read line"), terminal=True)
    async with await shown.attach() as attached, await other.attach() as unheard:
        for each in (logged, shown, other):
            await each.start()
        await attached.write(b"hello\n")
        seen = b""
        while b"[hello]" not in seen:
            seen += await attached.read()
        assert (await other.view()).status is Status.RUNNING
        await unheard.write(b"\n")
        assert (await other.wait()).exit_code == 0
    assert (await logged.wait()).exit_code == 0
    assert [each.text async for each in logged.logs()] == ["out"]
    await sandbox.destroy()


async def test_deadlines_and_leases_are_each_ones_own(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    bounded = await pods.running(sandbox, "bounded", deadline_seconds=0.05)
    assert (await bounded.wait()).reason == "deadline"
    async with Engine(pods.root) as engine:
        there = await engine.load_sandbox("pod")
        leased = await there.create("leased", spec=pods.sleeper(), lease=asyncrt.Lease(0))
        await leased.start()
    assert (await (await pods.engine.load("leased")).wait()).reason == "lease"
    assert (await sandbox.root.view()).status is Status.RUNNING


async def test_a_program_that_is_not_there_stops_that_container_only(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    none = await sandbox.create("none", spec=pods.shell("true"))
    await none.destroy()
    spec = asyncrt.Spec.decode(pods.sleeper().encoded().replace(b"/bin/sleep", b"/bin/nothing"))
    bad = await sandbox.create("bad", spec=spec)
    with pytest.raises(asyncrt.StartFailed, match="/bin/nothing"):
        await bad.start()
    assert (await bad.wait()).reason == "start failed"
    assert (await sandbox.root.view()).status is Status.RUNNING


async def test_a_killed_supervisor_leaves_the_started_running_and_ends_the_created(
    pods: Pods,
) -> None:
    sandbox = await pods.sandbox()
    running = await pods.running(sandbox, "running")
    created = await sandbox.create("created", spec=pods.sleeper())
    supervisor = record_of(sandbox.root, pods.root).supervisor
    assert supervisor is not None
    assert _procid.send(supervisor, signal.SIGKILL)
    await gone(supervisor.pid)
    await gone(init_of(created, pods.root))
    assert (await created.view()).status is Status.STOPPED
    assert (await running.view()).status is Status.RUNNING
    with pytest.raises(asyncrt.SandboxUnresponsive):
        await sandbox.create("late", spec=pods.sleeper())
    assert not os.path.exists(f"{pods.root}/late.d")
    assert members(pods.root) == ["created", "running"]
    await running.kill("KILL")
    ended = await running.wait()
    assert ended.signal in {signal.SIGKILL, None}  # None: no kernel that would tell
    await sandbox.destroy()
    assert os.listdir(pods.root) == ["~events"]


async def test_a_root_ends_although_the_end_of_another_was_written_at_a_second_try(
    pods: Pods,
) -> None:
    """HAZARDS 23: nobody died any more by then, and the root's own end was never written."""
    sandbox = await pods.sandbox()
    one = await pods.running(sandbox, "one")
    init = init_of(one, pods.root)
    in_its_way = f"{pods.root}/one.d/{_paths.EXIT_BEING_SAVED}"
    os.mkdir(in_its_way)
    await sandbox.root.kill("KILL")
    await gone(init)
    os.rmdir(in_its_way)
    assert (await sandbox.root.wait(SECONDS)).reason == "signal"
    assert (await one.wait(SECONDS)).reason == "sandbox ended"
    await sandbox.destroy()


async def test_destroying_a_root_ends_what_its_killed_supervisor_has_left(pods: Pods) -> None:
    """HAZARDS 14."""
    sandbox = await pods.sandbox()
    one = await pods.running(sandbox, "one", pods.shell("sleep 1000 & exec sleep 1000"))
    own = await pids(one)
    supervisor = record_of(sandbox.root, pods.root).supervisor
    assert supervisor is not None
    assert _procid.send(supervisor, signal.SIGKILL)
    await gone(supervisor.pid)
    await sandbox.root.destroy()
    assert not any(map(is_alive, own))
    assert (await one.view()).status is Status.STOPPED


async def test_a_sandbox_can_be_destroyed_although_its_supervisor_hangs(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    one, two = await pods.running(sandbox, "one"), await sandbox.create("two", spec=pods.sleeper())
    own = [*await pids(one), *await pids(sandbox.root), init_of(two, pods.root)]
    supervisor = record_of(sandbox.root, pods.root).supervisor
    assert supervisor is not None
    assert _procid.send(supervisor, signal.SIGSTOP)
    await sandbox.destroy(timeout=0.2)
    assert not any(map(is_alive, [*own, supervisor.pid]))
    assert os.listdir(pods.root) == ["~events"]


async def test_who_waits_for_one_of_a_sandbox_hears_of_its_end_although_all_is_destroyed(
    pods: Pods,
) -> None:
    """HAZARDS 23."""
    sandbox = await pods.sandbox()
    others = [await pods.running(sandbox, f"of{each}") for each in range(8)]
    async with asyncrt.Engine(pods.root) as elsewhere:
        theirs = [await elsewhere.load(each.id) for each in others]
        waits = [asyncio.create_task(each.wait()) for each in (*others, *theirs)]
        watches = elsewhere._context.watches
        await until(
            lambda: all(watches.open_channel((each.id, each.instance)) for each in theirs),
            "all have asked",
        )
        async with pods.engine.watch() as events:
            await sandbox.destroy()
            told: dict[str, list[str]] = {}
            async for event in events:
                told.setdefault(event.id, []).append(event.status)
                if event.id == sandbox.id and event.status == "destroyed":
                    break
        for ended in await asyncio.gather(*waits):
            assert (ended.signal, ended.reason) == (signal.SIGKILL, "sandbox ended")
    assert told == {each.id: ["stopped", "destroyed"] for each in (*others, sandbox.root)}
    assert os.listdir(pods.root) == ["~events"]


async def test_a_container_can_be_destroyed_although_its_supervisor_hangs(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    one = await pods.running(sandbox, "one")
    supervisor = record_of(sandbox.root, pods.root).supervisor
    assert supervisor is not None
    assert _procid.send(supervisor, signal.SIGSTOP)
    try:
        init = init_of(one, pods.root)
        await one.destroy(timeout=0.2)
        assert not is_alive(init)
        assert is_alive(init_of(sandbox.root, pods.root))
    finally:
        _procid.send(supervisor, signal.SIGCONT)
    assert (await sandbox.root.view()).status is Status.RUNNING
    two = await pods.running(sandbox, "two")
    assert (await two.view()).status is Status.RUNNING


async def test_events_and_stats_are_of_that_one(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    busy = await pods.running(sandbox, "busy", pods.shell("while :; do :; done"))
    idle = await pods.running(sandbox, "idle")
    async with pods.engine.watch(after="oldest", ids=["busy"]) as events:
        seen = []
        async for each in events:
            seen.append((each.id, each.sandbox, each.status))
            if each.status == "running":
                break
    assert seen == [("busy", "pod", each) for each in ("creating", "created", "running")]

    async def cpu(container: asyncrt.Container) -> float:
        return (await container.stats()).cpu_seconds

    used = [0.0, 0.0]
    while used[0] < 0.2:
        used = [await cpu(busy), await cpu(idle)]
    assert used[0] > used[1]
    assert (await busy.stats()).pids == 1
    await busy.kill("KILL")
    await busy.wait()
    with pytest.raises(InvalidTransition):
        await busy.stats()
    async with pods.engine.watch(after="oldest", ids=["busy"], status="stopped") as events:
        async for each in events:
            assert (each.id, each.sandbox) == ("busy", "pod")
            break


async def test_a_pool_holds_sandboxes_of_the_platform_too(pods: Pods) -> None:
    async with pods.engine.pool(spec=pods.sleeper(), size=2) as pool:
        taken = await pool.take()
        assert (await taken.view()).platform == pods.platform
        assert (await taken.view()).status is Status.RUNNING
        await taken.destroy()


async def test_hooks_of_one_run_with_its_state(pods: Pods) -> None:
    with Fifo(f"{pods.root}/~fifo") as said:
        sandbox = await pods.sandbox()
        config = json.loads(pods.sleeper().encoded())
        script = f'read line; echo "$1 $line" >{said.path}'
        config["hooks"] = {
            kind: [{"path": "/bin/sh", "args": ["sh", "-c", script, "sh", kind]}]
            for kind in ("createRuntime", "createContainer", "poststart", "poststop")
        }
        one = await sandbox.create("one", spec=asyncrt.Spec.decode(json.dumps(config).encode()))
        await one.start()
        pid = init_of(one, pods.root)
        await one.destroy()
        for kind in ("createRuntime", "createContainer", "poststart", "poststop"):
            heard, _, state = (await said.line()).partition(" ")
            assert heard == kind
            assert json.loads(state)["id"] == "one"
            assert kind == "poststop" or json.loads(state)["pid"] == pid
    assert (await sandbox.root.view()).status is Status.RUNNING
    os.unlink(f"{pods.root}/~fifo")
