"""Many interpreters on one root."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter

import pytest

from asyncrt.errors import ContainerNotFound
from asyncrt.state import StateFile, list_views, read_record
from asyncrt.status import Status
from tests.helpers import capabilities
from tests.helpers.processes import REPOSITORY, Gate, Interpreter, run_python
from tests.helpers.records import make_record, names, put_record, raw_record, some_id

PRELUDE = """
import asyncio, os, sys, uuid
from asyncrt.errors import ContainerExists, ContainerNotFound
from asyncrt.state import StateFile, read_record
from asyncrt.status import Status
from tests.helpers.processes import Gate
from tests.helpers.records import make_record

root, gate, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
Gate.wait(gate)
"""

SAVING = (
    PRELUDE
    + """
import select

async def main():
    state = StateFile(root, "web")
    saves = 0
    while saves < rounds or not select.select([0], [], [], 0)[0]:
        await state.lock()
        os.mkdir(root + "/web.d/inside")  # fails if somebody else is inside
        record = await state.load_locked()
        record.owner = str(record.revision + 1)
        record.bundle = "x" * (record.revision * 37 % 3000)
        await state.save_locked(record)
        os.rmdir(root + "/web.d/inside")
        state.unlock()
        saves += 1
    state.close()
    print(saves, flush=True)

asyncio.run(main())
"""
)

CREATING = (
    PRELUDE
    + """
async def main():
    state = StateFile(root, "web")
    instance = uuid.uuid4().hex
    try:
        await state.lock_for_new()
    except ContainerExists:
        return "exists"
    await state.save_locked(make_record(instance=instance))
    state.close()
    return instance

print(asyncio.run(main()), flush=True)
"""
)

CHURNING = (
    PRELUDE
    + """
async def main():
    made = gone = 0
    state = StateFile(root, "web")
    for _ in range(rounds):
        instance = uuid.uuid4().hex
        try:
            await state.lock_for_new()
        except ContainerExists:
            pass
        else:
            record = make_record(instance=instance)
            await state.save_locked(record)
            os.mkdir(root + "/web.d")
            assert read_record(root, "web").instance == instance
            state.unlock()
            made += 1
        try:
            await state.lock()
        except ContainerNotFound:
            continue
        record = await state.load_locked()
        record.status = Status.STOPPED
        await state.save_locked(record)
        await state.destroy()
        state.unlock()
        gone += 1
    return f"{made} {gone}"

print(asyncio.run(main()), flush=True)
"""
)

TOO_BIG = """
import asyncio, errno, resource, signal, sys
from asyncrt.errors import StorageFailed
from asyncrt.state import StateFile

async def main():
    state = StateFile(sys.argv[1], "web")
    await state.lock()
    record = await state.load_locked()
    record.owner = "somebody else"
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    try:
        await state.save_locked(record)
    except StorageFailed as error:
        print(error.errno == errno.EFBIG, record.revision, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    state.close()

asyncio.run(main())
"""

DISK_FULL = """
import asyncio, errno, os, sys
from asyncrt.errors import StorageFailed
from asyncrt.state import StateFile, list_views, read_record
from tests.helpers.records import make_record

root = sys.argv[1]

def fill():
    fd = os.open(root + "/~filler", os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, b"x" * 4096)
    except OSError as error:
        assert error.errno == errno.ENOSPC
    os.close(fd)

async def main():
    state = StateFile(root, "web")
    await state.lock_for_new()
    record = make_record()
    await state.save_locked(record)
    fill()
    before = sorted(os.listdir(root))
    record.owner = "somebody else"
    try:
        await state.save_locked(record)
    except StorageFailed as error:
        assert error.errno == errno.ENOSPC, error
    else:
        raise AssertionError
    assert sorted(os.listdir(root)) == before
    found = read_record(root, "web")
    assert (found.owner, found.revision) == ("root", 1)
    assert list_views(root)[0].broken is None
    os.unlink(root + "/~filler")
    await state.save_locked(record)
    assert (read_record(root, "web").owner, record.revision) == ("somebody else", 2)
    state.close()

asyncio.run(main())
print("survived")
"""


def start(code: str, count: int, root: str, rounds: int) -> tuple[list[Interpreter], Gate]:
    gate = Gate()
    children = [Interpreter(code, root, gate.fd, rounds, pass_fds=[gate.fd]) for _ in range(count)]
    for child in children:
        assert child.line() == "ready"
    return children, gate


@pytest.mark.leaves("web*")
@pytest.mark.parametrize("where", ["root", "disk_root"])
async def test_no_save_of_any_process_is_lost_and_every_reader_sees_a_whole_record(
    where: str, request: pytest.FixtureRequest, full: bool
) -> None:
    root: str = request.getfixturevalue(where)
    rounds = 500 if full else 60
    put_record(root, make_record(owner="0"))
    os.mkdir(f"{root}/web.d")
    children, gate = start(SAVING, 3, root, rounds)
    gate.open()
    ends = asyncio.gather(*(child.next_line() for child in children))
    revisions = [0]
    while not ends.done():
        if len(set(revisions)) == 10:  # they save until it was read meanwhile
            for child in children:
                child.say("enough")
        (view,) = list_views(root)
        assert view.broken is None
        record = read_record(root, "web")
        assert record.owner == str(record.revision)
        assert record.revision >= revisions[-1]
        revisions.append(record.revision)
        await asyncio.sleep(0)
    assert [child.wait() for child in children] == [0] * 3
    assert raw_record(root)["revision"] == sum(map(int, ends.result())) >= 3 * rounds
    assert not [name for name in names(root) if name.endswith("~")]


@pytest.mark.leaves("web*")
def test_of_many_creators_of_one_id_exactly_one_succeeds(root: str) -> None:
    children, gate = start(CREATING, 4, root, 1)
    gate.open()
    told = Counter(child.line() for child in children)
    assert [child.wait() for child in children] == [0] * 4
    assert told.pop("exists") == 3
    assert list(told) == [raw_record(root)["instance"]]


async def test_create_and_destroy_of_one_id_by_many_leave_nothing_and_break_nothing(
    root: str, full: bool
) -> None:
    children, gate = start(CHURNING, 3, root, 400 if full else 60)
    gate.open()
    ends = asyncio.gather(*(child.next_line() for child in children))
    while not ends.done():
        for view in list_views(root):
            assert (view.id, view.broken, view.status) == ("web", None, Status.STOPPED)
        await asyncio.sleep(0)
    assert [child.wait() for child in children] == [0] * 3
    made, gone = (sum(map(int, each)) for each in zip(*map(str.split, ends.result()), strict=True))
    assert made == gone > 0
    assert names(root) == []
    with pytest.raises(ContainerNotFound):
        await StateFile(root, some_id()).lock()


@pytest.mark.leaves("web*")
def test_a_save_that_the_kernel_cuts_short_keeps_the_old_record(root: str) -> None:
    put_record(root, make_record(revision=4))
    before = raw_record(root)
    done = run_python(TOO_BIG, root)
    assert (done.stdout, done.stderr, done.returncode) == ("True 4\n", "", 0)
    assert raw_record(root) == before
    assert names(root) == ["web.lock", "web.state"]


@pytest.mark.needs_root
@pytest.mark.needs_program("unshare", "mount")
def test_a_full_disk_keeps_the_old_record_and_the_save_can_be_repeated(root: str) -> None:
    script = 'mount -t tmpfs -o size=64k,mode=700 none "$1" && exec "$2" -c "$3" "$1"'
    probe = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", root],
        capture_output=True,
        check=False,
    )
    if probe.returncode:
        capabilities.skip_lacking("mounts in a mount namespace of one's own")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", root, sys.executable, DISK_FULL],
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("survived\n", "")
