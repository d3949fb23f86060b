"""Records to save: whole ones, as of a container that has ended, of a wanted size."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime

import msgspec

from asyncrt.state import ExitResult, Identity, Record
from asyncrt.status import Status


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
