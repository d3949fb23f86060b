"""The life of a sandbox with several containers, for everybody: each by the same program, as that user."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

import pytest

from asyncrt import _cgroups
from asyncrt.platforms.cgroups.machine import discover
from tests.helpers import capabilities, sandboxes
from tests.helpers.capabilities import User
from tests.helpers.cgroups import delegated, unique
from tests.helpers.processes import Interpreter

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]

# Reads a config, or "host", and whether there are to be cgroups. Says what it found wrong by an
# assertion, else "well".
LIFE = """
import asyncio, contextlib, json, os, signal, sys
import asyncrt
from asyncrt import Status, _cgroups
from tests.helpers.cgroups import left
from tests.helpers.containers import init_of, is_alive, record_of, supervisor_of
from tests.helpers.pods import members, pids

root, made, with_cgroups = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "cgroups"

def spec(*args, score=None):
    if made is None:
        return asyncrt.Spec.command(args, oom_score_adj=score)
    config = json.loads(json.dumps(made))
    config["process"]["args"] = args
    if score is not None:
        config["process"]["oomScoreAdj"] = score
    return asyncrt.Spec.decode(json.dumps(config).encode())

def score(pid):
    with open(f"/proc/{pid}/oom_score_adj") as found:
        return int(found.read())

def ticks(pid):
    with open(f"/proc/{pid}/stat") as found:
        return found.read().rpartition(")")[2].split()[11:13]

SLEEP = "/bin/sleep", "1000"

async def status(*containers):
    return [(await each.view()).status for each in containers]

async def running(sandbox, id, *args, score=None, **options):
    container = await sandbox.create(id, spec=spec(*(args or SLEEP), score=score), **options)
    await container.start()
    return container

async def seen(terminal, text):
    said = b""
    while text not in said:
        said += await terminal.read()

async def with_layers(engine):
    # one whose gofer dies stops, the others go on; the root's gofer's death stops the sandbox
    memory = asyncrt.Overlay.memory("8M")
    sandbox = await engine.create_sandbox("pod", spec=spec(*SLEEP), overlay=memory)
    await sandbox.root.start()
    shared = {"share_pid": with_cgroups}  # whose gofer is outside of it all the same
    one, two = [await running(sandbox, id, overlay=memory, **shared) for id in ("one", "two")]
    gofers = {each: record_of(each, root).gofer.pid for each in (sandbox.root, one, two)}
    os.kill(gofers[one], signal.SIGKILL)
    assert (await one.wait()).reason == "gofer died"
    assert await status(two, sandbox.root) == [Status.RUNNING] * 2
    assert b"".join([each async for each in two.export()])
    os.kill(gofers[sandbox.root], signal.SIGKILL)
    assert (await sandbox.root.wait()).reason == "gofer died"
    assert (await two.wait()).reason == "sandbox ended"
    await sandbox.destroy()
    assert not any(map(is_alive, gofers.values()))
    assert os.listdir(root) == ["~events"], os.listdir(root)

async def main():
    async with asyncrt.Engine(root) as engine, asyncio.timeout(150):
        sandbox = await engine.create_sandbox("pod", spec=spec(*SLEEP))
        await sandbox.root.start()
        above = supervisor_of(sandbox.root, root)
        original = score(above)
        one = await running(sandbox, "one", "/bin/sh", "-c", "sleep 1000 & exec sleep 1000")
        two = await running(sandbox, "two", score=600)
        busy = await running(sandbox, "busy", "/bin/sh", "-c", "while :; do :; done", score=800)
        assert score(above) == 600, score(above)
        inits = {each: init_of(each, root) for each in (sandbox.root, one, two, busy)}

        # before its program, too, an init is one of its processes, and its use is told of
        waiting = await sandbox.create("waiting", spec=spec(*SLEEP))
        assert await pids(waiting) == {init_of(waiting, root)}
        async with contextlib.aclosing(waiting.events(0.01)) as happening:
            assert (await anext(happening)).pids == 1
        await waiting.destroy()

        # ps of each lists only its own, and an exec shows only there
        process = await one.exec(SLEEP)
        assert len(await pids(one)) == 3 and {process.pid, inits[one]} < await pids(one)
        for each in (sandbox.root, two, busy):
            assert await pids(each) == {inits[each]}, each
        with contextlib.suppress(asyncrt.ProcessNotFound):
            await two.kill("KILL", pid=process.pid)
            raise AssertionError("it killed a sibling's")
        process.close()

        # events have the right id and count, and a busy one shows more of the processor
        while True:
            idle, used = await two.stats(), await busy.stats()
            assert (idle.id, idle.pids, used.id, used.pids) == ("two", 1, "busy", 1)
            if used.cpu_seconds > idle.cpu_seconds + 0.3:
                break

        # cgroups: a leaf for each, one for the supervisor, nobody above
        places = record_of(one, root).cgroup
        assert bool(places) is with_cgroups, places
        made_here = record_of(sandbox.root, root).cgroups
        for place in places:
            inner = os.path.dirname(place.path)
            assert _cgroups.pids(place.path), place
            with open(f"{inner}/cgroup.procs") as procs:
                assert not procs.read(), inner
            with open(f"{inner}/_supervisor/cgroup.procs") as procs:
                assert str(above) in procs.read().split(), inner

        # terminals are independent
        shells = [await sandbox.create(id, spec=spec("/bin/sh", "-c", "read x; echo [$x]; sleep 1000"), terminal=True)
                  for id in ("left", "right")]
        async with await shells[0].attach() as mine, await shells[1].attach() as other:
            for each in shells:
                await each.start()
            await mine.write(b"mine\\n")
            await seen(mine, b"[mine]")
            await other.write(b"other\\n")
            await seen(other, b"[other]")
        for each in shells:
            await each.destroy()

        # a pause of one is that one's, and of all of it
        spins = await one.exec(["/bin/sh", "-c", "while :; do :; done"])
        await one.pause()
        assert await status(one, two, sandbox.root) == [Status.PAUSED, Status.RUNNING, Status.RUNNING]
        before, spun = (await busy.stats()).cpu_seconds, ticks(spins.pid)
        while (await busy.stats()).cpu_seconds < before + 0.1:
            pass
        assert ticks(spins.pid) == spun
        await one.resume()
        while ticks(spins.pid) == spun:
            pass
        await spins.kill()
        spins.close()

        # kill --all, of what is exec'd and forks as well, while it runs and after
        storm = "for i in 0 1 2 3 4 5 6 7; do (while :; do (exit 0); done) & done; wait"
        bomb = await one.exec(["/bin/sh", "-c", storm])
        while len(await pids(one)) < 10:
            pass
        before = await pids(one)
        await one.kill("KILL", all=True)
        assert not any(map(is_alive, before))
        bomb.close()
        assert (await one.wait()).signal == 9
        await one.kill("KILL", all=True)
        assert await status(one, two, busy, sandbox.root) == [Status.STOPPED, *[Status.RUNNING] * 3]
        with contextlib.suppress(asyncrt.InvalidTransition):
            await one.stats()
            raise AssertionError("an ended one has stats")
        with contextlib.suppress(asyncrt.InvalidTransition):
            await one.kill("TERM")
            raise AssertionError("an ended one was signalled")

        # scores, the lowest there is; one that this user may not have
        if os.geteuid() != 0:
            with contextlib.suppress(asyncrt.StartFailed):
                try:
                    await sandbox.create("low", spec=spec(*SLEEP, score=-500))
                except asyncrt.StartFailed as error:
                    assert "process.oomScoreAdj" in str(error) and "\\n" not in str(error), error
                    raise
                raise AssertionError("it has a score that this user may not set")
            assert "low" not in members(root) and not os.path.exists(f"{root}/low.d")
        await two.destroy()
        assert score(above) == 800, score(above)
        await busy.destroy()
        assert score(above) == original, score(above)
        assert score(inits[sandbox.root]) == original

        # what is loaded is exactly what there is
        with open(f"{root}/pod.d/members/stray", "w"):
            pass
        late = await running(sandbox, "late")
        assert (await late.stats()).cpu_seconds < 0.25  # and not what ended siblings have used
        loaded = await engine.load_sandbox("pod")
        assert [each.id for each in await loaded.containers()] == ["late", "one"]

        # the root's end is the end of all
        await sandbox.root.kill("KILL")
        assert (await late.wait()).reason == "sandbox ended"
        assert not is_alive(init_of(late, root))
        for each in (sandbox.root, late):
            with contextlib.suppress(asyncrt.InvalidTransition):
                await each.kill("TERM")
                raise AssertionError("it was signalled although it is dead")
        await sandbox.destroy()
        await sandbox.destroy()
        assert os.listdir(root) == ["~events"], os.listdir(root)
        assert left(made_here) == [], left(made_here)
        if made is not None:
            await with_layers(engine)
    print("well")

print("ready")
sys.stdin.readline()
try:
    asyncio.run(main())
except BaseException:
    print("failed")  # the containers may have our streams, and so there may be no end of these
    raise
"""


# Of an ordinary user's cgroups of version 1 only those with limits need be theirs.
CASES = [
    pytest.param("host", sandboxes.USER, ["v2", "memory"], id="host user"),
    pytest.param("host", sandboxes.USER, ["freezer"], id="host user freezer"),
    pytest.param("linux", sandboxes.USER, ["v2"], id="linux user"),
    pytest.param("linux", sandboxes.USER, [], id="linux user without cgroups"),
    pytest.param("linux", sandboxes.MAPPED, None, id="linux mapped root"),
    pytest.param("linux", sandboxes.ROOT, None, id="linux root"),
    pytest.param("host", sandboxes.ROOT, None, id="host root"),
]


@contextlib.contextmanager
def _delegated(controllers: list[str], user: User) -> Iterator[list[str]]:
    """A cgroup of the user's for each of these; in each a cgroup for a process of theirs to be in."""
    machine = discover()
    found = [machine.v2 if name == "v2" else machine.v1.get(name) for name in controllers]
    tops = [each.top for each in found if each is not None]
    if len(tops) < len(controllers):
        capabilities.skip_lacking(f"cgroups to give away ({', '.join(controllers)})")
    path = unique()
    sessions = [f"{top}{path}/session" for top in tops]
    with delegated(tops, path, user):
        for each in sessions:
            os.mkdir(each)
            for name in (each, f"{each}/cgroup.procs"):
                os.chown(name, user.uid, user.gid)
        yield sessions


@pytest.mark.timeout(180)
@pytest.mark.needs_userns
@pytest.mark.parametrize(("platform", "who", "controllers"), CASES)
async def test_several_containers_live_and_end_for_everybody(
    rootfs: str,
    ordinary_user: User,
    open_directory: os.PathLike[str],
    platform: str,
    who: str,
    controllers: list[str] | None,
) -> None:
    user = ordinary_user if who == sandboxes.USER else None
    root = os.path.join(open_directory, "root")
    os.mkdir(root, 0o700)
    made = None
    if platform == "linux":
        made = sandboxes.config(rootfs, [], who=who, user=ordinary_user)
    if user is not None:
        os.chown(root, user.uid, user.gid)
    with (
        _delegated(controllers or [], ordinary_user) as sessions,
        Interpreter(
            LIFE,
            root,
            json.dumps(made),
            "none" if controllers == [] else "cgroups",
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
        ) as child,
    ):
        assert await child.next_line() == "ready"
        for each in sessions:
            _cgroups.write(f"{each}/cgroup.procs", str(child.pid))
        child.say("go")
        assert await child.next_line(timeout=160) == "well"
