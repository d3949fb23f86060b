"""Records: whole ones, as of a container that has ended, of a wanted size, and many of them."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime

import msgspec

from asyncrt import Engine, _paths
from asyncrt.state import ExitResult, Identity, Record
from asyncrt.status import Status
from benchmarks.question import Bench


def smallest(name: str) -> Record:
    """A record of a container that was only just begun."""
    return Record(
        id=name,
        instance=uuid.uuid4().hex,
        sandbox=name,
        status=Status.CREATING,
        created_at=datetime.now(UTC),
        owner="root",
        uid=os.geteuid(),
        platform="host",
    )


def stopped(name: str) -> Record:
    """One of a container whose end is in it: about 1 KB."""
    ourselves = Identity.of(os.getpid())
    assert ourselves is not None
    identity = msgspec.structs.replace(ourselves, start=1)  # ended: nobody is to kill us for it
    now = datetime.now(UTC)
    return msgspec.structs.replace(
        smallest(name),
        status=Status.STOPPED,
        started_at=now,
        creator=identity,
        init=identity,
        supervisor=identity,
        exit=ExitResult(exit_code=0, reason="exit", started_at=now, finished_at=now),
    )


def of_size(name: str, size: int) -> Record:
    """One of exactly so many bytes, by a long bundle path; the smallest there is when that's more."""
    record = smallest(name)
    if len(msgspec.json.encode(record)) >= size:
        return record
    record = msgspec.structs.replace(stopped(name), bundle="/")
    missing = size - len(msgspec.json.encode(record))
    return msgspec.structs.replace(record, bundle="/" + "b" * max(0, missing))


def name_of(number: int) -> str:
    """The id of one of many; without its last letter it is an abbreviation that fits no other."""
    return f"job-{number:06}x"


def fill(bench: Bench, root: str, count: int) -> None:
    """So many stopped containers, with all the files that such ones have; written without locks."""
    name = name_of(0)
    record = stopped(name)
    template, instance = msgspec.json.encode(record), record.instance.encode()
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    bench.expect(count)
    try:
        for number in range(count):
            each = name_of(number)
            data = template.replace(name.encode(), each.encode())
            data = data.replace(instance, b"%032x" % number)
            os.mkdir(each + _paths.DIRECTORY, 0o700, dir_fd=directory)
            for suffix, content in ((_paths.STATE, data), (_paths.LOCK, b""), (_paths.QUEUE, b"")):
                fd = os.open(each + suffix, os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=directory)
                os.write(fd, content)
                os.close(fd)
            if number % 1000 == 999:
                bench.step(1000)
    finally:
        os.close(directory)


async def list_seconds(engine: Engine, count: int) -> float:
    """How long a list of so many stopped ones takes."""
    began = time.perf_counter()
    views = await engine.list()
    seconds = time.perf_counter() - began
    assert len(views) == count
    assert views[0].status is Status.STOPPED
    return seconds
