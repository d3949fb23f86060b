"""A process killed at every single system call it makes on state files; what is left is judged."""

from __future__ import annotations

import asyncio
import os

import pytest

from asyncrt.errors import ContainerNotFound
from asyncrt.state import StateFile, list_views, look, read_record
from asyncrt.status import Status
from tests.helpers.processes import Interpreter
from tests.helpers.records import make_record, names, put_record, some_id
from tests.helpers.steps import stages

pytestmark = pytest.mark.crash

DRIVER = """
import asyncio, os, sys
from asyncrt.state import Identity, StateFile
from asyncrt.status import Status
from tests.helpers import steps
from tests.helpers.records import make_record

root, what = sys.argv[1:]

async def work():
    state = StateFile(root, "web")
    if what == "save":
        await state.lock()
        record = await state.load_locked()
        record.status = Status.PAUSED
        await state.save_locked(record)
    elif what == "create":
        await state.lock_for_new()
        me = Identity.of(os.getpid())
        await state.save_locked(make_record(status=Status.CREATING, creator=me))
        os.mkdir(f"{root}/web.d", 0o700)
        with open(f"{root}/web.d/config.json", "w") as file:
            file.write("{}")
    else:
        await state.lock()
        await state.destroy()
    state.unlock()

steps.serve(
    lambda _: asyncio.run(work()),
    ["open", "write", "fsync", "close", "rename", "unlink", "mkdir", "rmdir"],
)
"""


async def remove(root: str) -> None:
    state = StateFile(root, some_id())
    await state.lock(timeout=0)  # a killed holder holds nothing
    await state.destroy()
    state.close()
    assert names(root) == []


@pytest.mark.parametrize("where", ["root", "disk_root"])
async def test_killed_at_any_step_of_a_save_it_leaves_the_whole_old_or_the_whole_new_record(
    where: str, request: pytest.FixtureRequest
) -> None:
    root: str = request.getfixturevalue(where)
    seen = []
    put_record(root, make_record(revision=1))
    for finished in stages(DRIVER, root, "save"):
        record = read_record(root, "web")
        assert (record.status, record.revision) in {(Status.RUNNING, 1), (Status.PAUSED, 2)}
        assert record == make_record(status=record.status, revision=record.revision)
        assert [view.broken for view in list_views(root)] == [None]
        seen.append(record.status)
        state = StateFile(root, some_id())
        await state.lock(timeout=0)
        again = await state.load_locked()
        await state.save_locked(again)
        await state.destroy()
        state.close()
        assert names(root) == []
        if not finished:
            put_record(root, make_record(revision=1))
    assert seen[0] is Status.RUNNING
    assert seen[-1] is Status.PAUSED
    assert len(seen) > 6
    assert seen == sorted(seen, key=lambda each: each is Status.PAUSED)


async def test_killed_at_any_step_of_a_create_it_leaves_nothing_or_what_can_be_found_and_removed(
    root: str,
) -> None:
    found = []
    for _ in stages(DRIVER, root, "create"):
        views = list_views(root)
        found.append(len(views))
        if views:
            assert views[0].status is Status.STOPPED
            assert views[0].exit is not None
            assert views[0].exit.reason == "creation interrupted"
            assert look(root, "web")[0].status is Status.CREATING
            await remove(root)
        else:
            assert set(names(root)) <= {"web.lock", "web.queue", ".web.state~"}
            other = StateFile(root, some_id())
            await other.lock_for_new(timeout=0)
            other.close()
            assert names(root) == []
    assert found[0] == 0
    assert found[-1] == 1
    assert found == sorted(found)


async def test_killed_at_any_step_of_a_destroy_it_can_be_repeated_and_brings_nothing_back(
    root: str,
) -> None:
    def put() -> None:
        put_record(root, make_record(status=Status.STOPPED))
        os.makedirs(f"{root}/web.d/logs")
        for name in ("config.json", "exit.json", "logs/0"):
            with open(f"{root}/web.d/{name}", "w"):
                pass

    put()
    found = []
    for finished in stages(DRIVER, root, "destroy"):
        views = list_views(root)
        found.append(len(views))
        state = StateFile(root, some_id())
        if views:
            assert views[0].status is Status.STOPPED
            await remove(root)
        else:
            assert not os.path.exists(f"{root}/web.d")
            with pytest.raises(ContainerNotFound):
                await state.lock(timeout=0)
        assert names(root) == []
        if not finished:
            put()
    assert found[0] == 1
    assert found[-1] == 0
    assert found == sorted(found, reverse=True)


async def test_a_killed_holder_lets_its_waiters_in(root: str) -> None:
    put_record(root, make_record())
    with Interpreter(
        "import asyncio, sys\n"
        "from asyncrt.state import StateFile\n"
        "async def main():\n"
        "    await StateFile(sys.argv[1], 'web').lock()\n"
        "    print('locked')\n"
        "    sys.stdin.readline()\n"
        "asyncio.run(main())\n",
        root,
    ) as holder:
        assert await holder.next_line() == "locked"
        state = StateFile(root, some_id())
        waiting = asyncio.create_task(state.lock(timeout=20))
        await asyncio.sleep(0)
        assert not state.locked
        holder.kill()
        await waiting
        await state.destroy()
        state.close()
