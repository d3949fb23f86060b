"""The whole life works wherever a root may be, for whoever it is, on either event loop."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import uvloop

import asyncrt
from asyncrt import LOG, PIPE, Status, _paths
from tests.helpers.capabilities import User
from tests.helpers.containers import directory_of, shell, sleeper, started
from tests.helpers.leaks import LeakCheck
from tests.helpers.lives import whole_life
from tests.helpers.processes import Interpreter, run_python
from tests.helpers.records import names


async def test_on_a_memory_backed_root(root: str) -> None:
    await whole_life(root)


async def test_on_a_disk_where_file_work_hops(disk_root: str) -> None:
    await whole_life(disk_root)


async def test_under_a_path_longer_than_a_sockets_address(long_root: str) -> None:
    assert len(long_root) > 108
    await whole_life(long_root)


async def test_with_the_longest_id_there_may_be(root: str) -> None:
    id = "x" * 200
    async with asyncrt.Engine(root) as engine:
        container = await started(engine, id, shell("exit 3"))
        assert (await container.wait()).exit_code == 3
        assert (await engine.load("xx")).id == id
        await container.destroy()
    assert names(root) == []


async def test_a_relative_root_stays_where_it_was_when_the_directory_changes(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    async with asyncrt.Engine("here") as engine:
        assert engine.root == f"{root}/here"
        container = await started(engine, "web", sleeper())
        monkeypatch.chdir("/")
        assert (await container.view()).status is Status.RUNNING
        await container.destroy()
    assert names(f"{root}/here") == []
    shutil.rmtree(f"{root}/here")


@pytest.mark.needs_root
def test_an_ordinary_user_lives_the_same_life(ordinary_user: User, leak_check: LeakCheck) -> None:
    path = tempfile.mkdtemp(prefix="asyncrt-test-")
    leak_check.watch_root(path)
    os.chown(path, ordinary_user.uid, ordinary_user.gid)
    code = "from tests.helpers.lives import main; main()"
    with Interpreter(
        code, path, flags=("-B",), user=ordinary_user.uid, group=ordinary_user.gid
    ) as user:
        assert user.line() == "lived"
        assert user.wait() == 0


@pytest.mark.needs_root
async def test_root_may_not_use_somebody_elses_root(ordinary_user: User, root: str) -> None:
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    with pytest.raises(asyncrt.RootUnusable) as caught:
        async with asyncrt.Engine(root):
            pass
    assert "belongs to uid" in str(caught.value)
    os.chown(root, os.geteuid(), os.getegid())


@pytest.mark.needs_root
async def test_an_ordinary_user_may_not_use_roots_and_changes_nothing(
    ordinary_user: User, root: str
) -> None:
    code = """
import asyncio, sys
import asyncrt

async def main():
    try:
        async with asyncrt.Engine(sys.argv[1]) as engine:
            await engine.list()
    except asyncrt.RootUnusable as error:
        print(error)

asyncio.run(main())
"""
    async with asyncrt.Engine(root) as engine:
        container = await started(engine, "web", sleeper())
        before = names(root)
        with Interpreter(
            code, root, flags=("-B",), user=ordinary_user.uid, group=ordinary_user.gid
        ) as user:
            assert root in await user.next_line()
        assert names(root) == before
        await container.destroy()


def test_on_uvloop(root: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole_life(root))


def test_on_uvloop_on_a_disk_under_a_long_path(long_root: str, disk_root: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole_life(long_root))
        runner.run(whole_life(disk_root))


def test_two_loops_in_two_threads_share_a_root(root: str) -> None:
    code = """
import asyncio, sys, threading
import asyncrt

async def main(name):
    async with asyncrt.Engine(sys.argv[1]) as engine:
        for n in range(5):
            spec = asyncrt.Spec.command(["/bin/sh", "-c", f"exit {n}"])
            done = await engine.run(f"{name}{n}", spec=spec)
            assert done.exit.exit_code == n

threads = [threading.Thread(target=asyncio.run, args=(main(name),)) for name in "ab"]
for each in threads:
    each.start()
for each in threads:
    each.join()
print("both")
"""
    done = run_python(code, root)
    assert done.stdout == "both\n", done.stderr
    assert names(root) == []


async def test_hazard_44_links_planted_in_a_containers_directory_lead_nowhere(
    engine: asyncrt.Engine, tmp_path: Path
) -> None:
    """Nothing beyond them is written, truncated, locked or removed."""
    victims = tmp_path / "victims"
    victims.mkdir()
    (victims / "file").write_text("mine")
    container = await engine.create("web", spec=shell("read x; echo out"), stdin=PIPE, stdout=LOG)
    directory = Path(directory_of(container, engine.root))
    (directory / "planted").symlink_to(victims)
    for name in (_paths.EXIT, _paths.EXIT_BEING_SAVED, _paths.CRASH):
        (directory / name).symlink_to(victims / "file")
    for name in ("lost", "stdout.log.1", "planted"):
        (directory / "logs" / name).symlink_to(victims / "file")
    await container.start()
    assert container.stdin is not None
    container.stdin.write(b"\n")
    assert (await container.wait()).exit_code == 0
    assert [each.text async for each in container.logs(tail=1)] == ["out"]
    await engine.recover()
    await container.destroy()
    assert await engine.list() == []
    assert os.listdir(victims) == ["file"]
    assert (victims / "file").read_text() == "mine"


async def test_hazard_44_a_containers_directory_that_is_a_link_isnt_emptied(
    engine: asyncrt.Engine, tmp_path: Path
) -> None:
    victims = tmp_path / "victims"
    victims.mkdir()
    (victims / "file").write_text("mine")
    container = await started(engine, "web", sleeper())
    directory = Path(directory_of(container, engine.root))
    elsewhere = directory.rename(f"{engine.root}/elsewhere")
    directory.symlink_to(victims)
    async with asyncrt.Engine(engine.root) as other:
        await other.delete("web", force=True)
    assert await engine.list() == []
    assert os.listdir(victims) == ["file"]
    shutil.rmtree(elsewhere)
