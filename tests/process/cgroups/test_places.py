"""Where a container's cgroup is: made as far as it is missing and removed so, never another's."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from pathlib import Path

import pytest

import asyncrt
from asyncrt import Engine, Status, _cgroups
from asyncrt.container.beside import Seat
from asyncrt.container.create_launch import CreateLaunch
from asyncrt.sandbox import ChannelClosed, Launched
from tests.helpers.cgroups import (
    everywhere,
    existing,
    left,
    limited,
    made_for,
    path_of,
    unique,
    where,
)
from tests.helpers.containers import (
    destroyed,
    init_of,
    record_of,
    rest,
    shell,
    sleeper,
    started,
    supervisor_of,
)

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroups("memory", "pids")]


async def test_nobody_but_the_container_is_moved(engine: Engine) -> None:
    before = Path("/proc/self/cgroup").read_text()
    async with destroyed(await started(engine, "web", limited(sleeper(), pids={"limit": 9}))) as it:
        assert Path("/proc/self/cgroup").read_text() == before
        supervisor = supervisor_of(it, engine.root)
        assert Path(f"/proc/{supervisor}/cgroup").read_text() == before


async def test_an_exec_joins_every_one_of_its_cgroups(engine: Engine, either: None) -> None:
    spec = limited(sleeper(), pids={"limit": 20}, cpu={"shares": 512})
    async with destroyed(await started(engine, "web", spec)) as container:
        process = await container.exec(["/bin/cat", "/proc/self/cgroup"], stdout=asyncrt.PIPE)
        inside = await rest(process.stdout)
        process.close()
        of_init = Path(f"/proc/{init_of(container, engine.root)}/cgroup").read_text()
        assert inside == of_init
        assert inside.count("/asyncrt-web.") == len(record_of(container, engine.root).cgroup)


async def test_a_path_is_made_as_far_as_it_is_missing_and_removed_so(engine: Engine) -> None:
    pod = unique()
    with existing(pod) as directory:
        spec = limited(sleeper(), f"{pod}/inner/web", memory={"limit": 64 << 20})
        async with destroyed(await engine.create("web", spec=spec)) as container:
            made = made_for(container, engine.root)
            assert f"{directory}/inner" in made
            assert f"{directory}/inner/web" in made
            assert directory not in made
            assert where(container, engine.root) == f"{directory}/inner/web"
        assert left(made) == []
        assert os.path.isdir(directory)
    assert left(everywhere(pod)) == []


async def test_a_parent_that_another_uses_by_now_stays_for_it(engine: Engine) -> None:
    pod = unique()
    one = await engine.create("one", spec=limited(sleeper(), f"{pod}/one"))
    two = await engine.create("two", spec=limited(sleeper(), f"{pod}/two"))
    made = made_for(one, engine.root)
    await one.destroy()
    assert left(made) == [each for each in made if each.endswith(pod)]
    await two.destroy()
    for each in left(made):  # nobody's any more, and empty: the first to make it has gone
        os.rmdir(each)


async def test_a_cgroup_that_was_there_is_used_and_never_removed(engine: Engine) -> None:
    pod = unique()
    with existing(pod) as directory:
        inode = _cgroups.inode(directory)
        container = await started(engine, "web", limited(sleeper(), pod))
        assert directory not in record_of(container, engine.root).cgroups
        assert where(container, engine.root) == directory
        await container.destroy()
        assert _cgroups.inode(directory) == inode
        assert _cgroups.pids(directory) == []


@pytest.mark.parametrize("there", [True, False], ids=["there before", "made"])
async def test_who_uses_a_cgroup_after_a_container_is_not_killed_with_it(
    there: bool, engine: Engine
) -> None:
    """The same path, taken once it is empty, before the first to have it is destroyed."""
    pod = unique()
    with existing(pod) if there else contextlib.nullcontext():
        one = await started(engine, "one", limited(shell("exit 0"), pod))
        await one.wait()
        two = await started(engine, "two", limited(sleeper(), pod))
        await one.kill("KILL", all=True)
        await one.destroy()
        assert (await two.view()).status is Status.RUNNING
        assert (await two.processes())[0].pid == init_of(two, engine.root)
        await two.destroy()
    for each in left(everywhere(pod)):  # of the first, who left it to the second
        os.rmdir(each)


@pytest.mark.parametrize("state", ["used", "frozen"])
async def test_a_cgroup_that_others_use_or_that_is_frozen_is_refused(
    state: str, engine: Engine
) -> None:
    """Their processes would be paused and killed with the container's; or its own never begin."""
    pod = unique()
    with existing(pod) as directory:
        user = None
        number = errno.EBUSY
        if state == "frozen":
            _cgroups.freeze(directory, 5)
        else:
            user = await started(engine, "user", limited(sleeper(), f"{pod}/deep"))
            number = errno.ENOTEMPTY
        with pytest.raises(asyncrt.StartFailed) as caught:
            await engine.create("web", spec=limited(sleeper(), pod, memory={"limit": 1 << 26}))
        assert (caught.value.what, caught.value.errno) == ("linux.cgroupsPath", number)
        assert caught.value.path == directory
        assert [each.id for each in await engine.list()] == (["user"] if user else [])
        if user is not None:
            assert (await user.view()).status is Status.RUNNING
            await user.destroy()
        assert os.path.isdir(directory)
    assert left(everywhere(pod)) == []


async def test_the_same_path_is_one_containers_at_a_time(engine: Engine) -> None:
    path = unique()
    async with destroyed(await engine.create("one", spec=limited(sleeper(), path))):
        with pytest.raises(asyncrt.StartFailed) as caught:
            await engine.create("two", spec=limited(sleeper(), path))
        assert caught.value.errno == errno.ENOTEMPTY
    async with destroyed(await engine.create("two", spec=limited(sleeper(), path))):
        pass
    assert left(everywhere(path)) == []


@pytest.mark.parametrize("other", ["running", "stopped", "there before", "sandbox", "supervisor"])
async def test_a_path_inside_anothers_cgroup_is_refused_and_nothing_is_made(
    other: str, engine: Engine, either: None
) -> None:
    """It would be frozen and killed with the other, and keep that one's cgroup from going."""
    pod = unique()
    with existing(pod) if other == "there before" else contextlib.nullcontext():
        if other in {"sandbox", "supervisor"}:
            sandbox = await engine.create_sandbox("one", spec=sleeper())
            one = sandbox.root
            above = os.path.dirname(where(one, engine.root))
            inside = f"{above}/two" if other == "sandbox" else f"{above}/_supervisor/two"
        else:
            ends = other == "stopped"
            one = await started(engine, "one", limited(shell("exit 0") if ends else sleeper(), pod))
            if ends:
                await one.wait()
            above = where(one, engine.root)
            inside = f"{above}/deep/two"
        async with destroyed(one):
            path = path_of(inside)
            with pytest.raises(asyncrt.SpecInvalid) as caught:
                await engine.create("two", spec=limited(sleeper(), path))
            assert caught.value.json_path == "linux.cgroupsPath"
            for each in (inside, above, "container 'one'", "delete 'one' first"):
                assert each in str(caught.value)
            assert not os.path.exists(inside)
            assert not os.path.exists(os.path.dirname(inside)) or other != "running"
            assert [each.id for each in await engine.list()] == ["one"]
            assert not os.path.exists(f"{engine.root}/two.d")
    assert left(everywhere(pod)) == []
    async with destroyed(await engine.create("two", spec=limited(sleeper(), f"{pod}/deep/two"))):
        pass
    assert left(everywhere(pod)) == []


@pytest.mark.parametrize("supervision", ["own", "caller"])
async def test_a_creation_that_fails_leaves_no_cgroup(supervision: str, engine: Engine) -> None:
    path = unique()
    spec = asyncrt.Spec.command(["/bin/true"], cwd="/nowhere")
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create(
            "web",
            spec=limited(spec, path, memory={"limit": 1 << 26}),
            supervision=supervision,  # type: ignore[arg-type]  # one of its names
        )
    assert caught.value.what == "process.cwd"
    assert left(everywhere(path)) == []


async def test_an_init_killed_on_its_way_leaves_its_cgroup_to_nobody(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try makes it again, or it would be taken for somebody else's, and stay."""
    path = unique()
    ask = CreateLaunch._ask
    asked = []

    async def killed_once(self: CreateLaunch, dir_fd: int, seat: Seat | None) -> Launched:
        launched = await ask(self, dir_fd, seat)
        asked.append(launched)
        if len(asked) == 1:
            for each in (launched.launcher, launched.init):  # the first would tell of the second
                os.kill(each["pid"], signal.SIGKILL)
            await engine._context.launcher.abandon(launched.channel)
            raise ChannelClosed
        return launched

    monkeypatch.setattr(CreateLaunch, "_ask", killed_once)
    spec = limited(sleeper(), path, memory={"limit": 64 << 20})
    async with destroyed(await engine.create("web", spec=spec)) as container:
        assert len(asked) == 2
        assert where(container, engine.root) in made_for(container, engine.root)
    assert left(everywhere(path)) == []
